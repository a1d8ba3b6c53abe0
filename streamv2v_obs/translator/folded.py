"""A transformer's last two products as one: its feed-forward's output, the sum after it, and ``proj_out``.

Nothing stands between them but a sum: ``P (F g + f + x) + p`` is ``[P F, P] [g; x] + (P f + p)``, as much arithmetic
in one product instead of two, and no launch for the sum.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from diffusers import Transformer2DModel, UNet2DConditionModel
from diffusers.models.activations import GEGLU
from diffusers.models.attention import BasicTransformerBlock
from torch import Tensor, nn
from torch.nn.functional import linear


def foldable(unet: UNet2DConditionModel) -> Iterator[Any]:
    """The transformers of ``unet`` that are of one block, and that one as Stable Diffusion 1.5's are."""
    for module in unet.modules():
        if not isinstance(module, Transformer2DModel) or not module.is_input_continuous:
            continue
        (block, *others) = module.transformer_blocks
        plain = isinstance(block, BasicTransformerBlock) and block.norm_type == "layer_norm"
        plain = plain and block.attn2 is not None and block.pos_embed is None and not hasattr(block, "fuser")
        parts = [type(part) for part in block.ff.net]
        if plain and not others and parts == [GEGLU, nn.Dropout, nn.Linear] and block._chunk_size is None:
            yield module


class FoldedOutputs:
    """Runs ``transformers`` by folded copies of their last weights; ``refresh`` after the weights have changed.

    ``put_in`` changes the UNet, ``take_out`` leaves it as it was. What the transformers' blocks answer by themselves
    is not made any more, so that nothing may hook it.
    """

    def __init__(self, transformers: list[Any]) -> None:
        self._folded = [_Folded(transformer) for transformer in transformers]

    @property
    def count(self) -> int:
        """How many transformers there are."""
        return len(self._folded)

    def refresh(self) -> None:
        """Fold the weights anew, into the same memory."""
        for folded in self._folded:
            folded.refresh()

    def put_in(self) -> None:
        """Make the transformers run through here."""
        for folded in self._folded:
            folded.transformer.forward = folded.forward

    def take_out(self) -> None:
        """Put back what was there."""
        for folded in self._folded:
            # Who has put another function there since wants to keep that one.
            if vars(folded.transformer).get("forward") == folded.forward:
                del folded.transformer.forward


class _Folded:
    def __init__(self, transformer: Any) -> None:
        self.transformer = transformer
        self._block = transformer.transformer_blocks[0]
        inner = self._block.ff.net[2]
        weight = transformer.proj_out.weight
        self._weight = weight.new_zeros((weight.shape[0], inner.in_features + inner.out_features))
        self._bias = weight.new_zeros((weight.shape[0],))
        self.refresh()

    @torch.no_grad()
    def refresh(self) -> None:
        """[P F, P] and P f + p; the product in float32, rounded once."""
        outer, inner = self.transformer.proj_out, self._block.ff.net[2]
        projection = outer.weight.flatten(1).float()
        self._weight.copy_(torch.cat([projection @ inner.weight.float(), projection], 1))
        self._bias.zero_()
        if outer.bias is not None:
            self._bias += outer.bias
        if inner.bias is not None:
            self._bias += projection @ inner.bias.float()

    def forward(
        self,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        *,
        return_dict: bool = True,
        **_: Any,
    ) -> tuple[Tensor]:
        """(B, C, h, w) -> (B, C, h, w), as diffusers' UNet asks for it: without masks, and by a tuple."""
        block, outside = self._block, self.transformer
        _rows, _channels, height, width = hidden_states.shape
        first = outside.proj_in
        normed = outside.norm(hidden_states).permute(0, 2, 3, 1).flatten(1, 2)
        # A convolution of one pixel is a product over tokens, which are a view of a channels_last picture.
        tokens = linear(normed, first.weight.flatten(1), first.bias)
        prompt = encoder_hidden_states
        tokens = block.attn1(block.norm1(tokens), prompt if block.only_cross_attention else None) + tokens
        tokens = block.attn2(block.norm2(tokens), prompt) + tokens
        widened = block.ff.net[0](block.norm3(tokens))
        answer = linear(torch.cat([widened, tokens], -1), self._weight, self._bias)
        return (torch.unflatten(answer, 1, (height, width)).permute(0, 3, 1, 2) + hidden_states,)
