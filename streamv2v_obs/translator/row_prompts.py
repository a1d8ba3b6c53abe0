"""Each row's prompt, and what cross-attention makes of it: computed when a prompt changes, not with every frame."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from diffusers import UNet2DConditionModel
from diffusers.models.attention import BasicTransformerBlock
from torch import Tensor

from streamv2v_obs.translator.kernels import Attend, attend_sdpa
from streamv2v_obs.translator.rows_in_call import RowsInCall, RowsOfAll
from streamv2v_obs.translator.suitability import what_is_not_plain


def cross_attentions(unet: UNet2DConditionModel) -> Iterator[Any]:
    """The cross-attention modules that are plain enough for their keys and values to be computed beforehand."""
    for module in unet.modules():
        if not isinstance(module, BasicTransformerBlock):
            continue
        attentions = (module.attn1, module.attn2) if module.only_cross_attention else (module.attn2,)
        for attention in attentions:
            if attention is not None and not what_is_not_plain(attention) and not attention.norm_cross:
                yield attention


class RowPrompts:
    """The prompts of S rows, (S, L, D), and keys and values of all cross-attention layers, in memory that stays.

    A prompt is known by its tensor: the same object is taken to hold the same numbers. ``put_in`` makes the
    cross-attention modules ``attentions`` read from here (none: prompts are kept, and nothing else), ``take_out``
    undoes it.
    """

    def __init__(
        self,
        rows: int,
        device: torch.device,
        dtype: torch.dtype = torch.float32,
        attentions: Sequence[Any] = (),
        in_call: RowsInCall | None = None,
    ) -> None:
        self._in_call = in_call or RowsOfAll()
        self.embeddings: Tensor | None = None
        self.attend: Attend = attend_sdpa
        self.computed = 0
        """How often a row's keys and values were computed."""
        self._size = rows
        self._device = device
        self._dtype = dtype
        self._attentions = tuple(attentions)
        self._features: Tensor | None = None
        # Who holds which prompt: a row whose prompt is that of another one is copied from there.
        self._held: list[Tensor | None] = [None] * rows
        self._replaced: list[tuple[Any, Any, _GivenKeys]] = []

    # --- between two frames ----------------------------------------------------------------------------------

    def set(self, row: int, prompt: Tensor) -> None:
        """``prompt`` (1, L, D) is this row's from the next call on."""
        if self._held[row] is prompt:
            return
        embeddings = self._opened(prompt)
        same = next((other for other, held in enumerate(self._held) if held is prompt), None)
        if same is not None:
            embeddings[row].copy_(embeddings[same])
            if self._features is not None:
                self._features[row].copy_(self._features[same])
        else:
            embeddings[row].copy_(prompt[0])
            self._compute(row)
        self._held[row] = prompt

    def set_all(self, prompts: Tensor) -> None:
        """Prompts of all rows: (1, L, D) for each of them, or (S, L, D), each row's own."""
        if prompts.shape[0] == 1:
            for row in range(self._size):
                self.set(row, prompts)
            return
        self._opened(prompts).copy_(prompts)
        self._held = [None] * self._size
        self.refresh()

    def shift(self) -> None:
        """Every prompt goes down one row with its frame; row 0 keeps its own."""
        if self.embeddings is None or all(held is not None and held is self._held[0] for held in self._held):
            return
        for part in (self.embeddings, self._features):
            if part is not None:
                part[1:] = part[:-1].clone()
        self._held = [self._held[0], *self._held[:-1]]

    def refresh(self) -> None:
        """Compute everything again: the UNet's weights have changed, or the embeddings were written."""
        if self.embeddings is not None:
            for row in range(self._size):
                self._compute(row)

    def _opened(self, prompt: Tensor) -> Tensor:
        if self.embeddings is None:
            _, length, width = prompt.shape
            self.embeddings = torch.zeros((self._size, length, width), device=self._device, dtype=prompt.dtype)
            if self._attentions:
                channels = sum(2 * attention.inner_dim for attention in self._attentions)
                self._features = torch.zeros((self._size, length, channels), device=self._device, dtype=self._dtype)
        return self.embeddings

    def _compute(self, row: int) -> None:
        if self._features is None or self.embeddings is None:
            return
        self.computed += 1
        # Always one row at a time, so that a row's numbers do not depend on what the others hold.
        prompt = self.embeddings[row : row + 1].to(self._dtype)
        at = 0
        for attention in self._attentions:
            for project in (attention.to_k, attention.to_v):
                self._features[row : row + 1, :, at : at + attention.inner_dim].copy_(project(prompt))
                at += attention.inner_dim

    def keys_and_values(self, at: int, width: int) -> tuple[Tensor, Tensor]:
        """Views (rows, L, width) of the rows in the call; ``at`` is where the layer's channels begin."""
        assert self._features is not None  # noqa: S101 - a call has prompts
        features = self._features[self._in_call.rows]
        return features[..., at : at + width], features[..., at + width : at + 2 * width]

    # --- in and out of the UNet ------------------------------------------------------------------------------

    def put_in(self) -> None:
        """Make the UNet read from here."""
        at = 0
        for attention in self._attentions:
            ours = _GivenKeys(self, at)
            self._replaced.append((attention, attention.processor, ours))
            attention.set_processor(ours)
            at += 2 * attention.inner_dim

    def take_out(self) -> None:
        """Put back what was there."""
        for attention, before, ours in self._replaced:
            # Who has put another processor there since wants to keep that one.
            if attention.processor is ours:
                attention.set_processor(before)
        self._replaced.clear()


class _GivenKeys:
    """diffusers' attention processor of one cross-attention layer whose keys and values are there already."""

    def __init__(self, owner: RowPrompts, at: int) -> None:
        self._owner = owner
        self._at = at

    def __call__(
        self,
        attn: Any,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        temb: Tensor | None = None,
    ) -> Tensor:
        keys, values = self._owner.keys_and_values(self._at, attn.inner_dim)
        q, k, v = (torch.unflatten(part, -1, (attn.heads, -1)) for part in (attn.to_q(hidden_states), keys, values))
        attended = self._owner.attend(q, k, v)
        output: Tensor = attn.to_out[0](attended.flatten(-2))
        return output
