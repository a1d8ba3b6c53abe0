"""Extended self-attention (paper equation 1) put into a UNet from outside, and taken out again without a trace."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol, TypeAlias

import torch
from diffusers import UNet2DConditionModel
from diffusers.models.attention import BasicTransformerBlock
from torch import Tensor, nn

from streamv2v_obs.settings import FusionSettings
from streamv2v_obs.translator.bank import BankLayer, FeatureBank
from streamv2v_obs.translator.fusion import fuse
from streamv2v_obs.translator.joined import JoinedProjections
from streamv2v_obs.translator.kernels import Attend as Attend
from streamv2v_obs.translator.kernels import Kernel, Level
from streamv2v_obs.translator.kernels import attend_sdpa as attend_sdpa
from streamv2v_obs.translator.rows_in_call import RowsInCall, RowsOfAll
from streamv2v_obs.translator.suitability import check_attention

Observer: TypeAlias = Callable[[int, str, Tensor], None]
"""Is shown, layer by layer, ``attn1_in``, ``attn1_unfused``, ``ff_maxcos``, ``ff_idx`` and ``attn1_out``."""

# The paper fuses in the middle block and the two up blocks of lowest resolution.
FUSED_BLOCKS = ("mid_block.", "up_blocks.0.", "up_blocks.1.")


# --- what there is to extend --------------------------------------------------------------------------------


def _transformer_blocks(unet: UNet2DConditionModel) -> Iterator[tuple[str, BasicTransformerBlock]]:
    for name, module in unet.named_modules():
        if isinstance(module, BasicTransformerBlock) and not module.only_cross_attention:
            yield name, module


def find_layers(
    unet: UNet2DConditionModel, latent_shape: tuple[int, int, int], fusion: FusionSettings
) -> tuple[BankLayer, ...]:
    """The self-attention layers in the order in which they run, with their tokens at this size of picture.

    Found by one UNet call on zeros: only the network itself knows how it rounds odd sizes. Raises ModelLoadError for
    a UNet with self-attention of another kind.
    """
    check_attention(unet)
    take_out(unet)  # else these zeros would run through, and into, another translator's bank
    layers: list[BankLayer] = []
    handles = []
    for name, block in _transformer_blocks(unet):
        full_name = f"{name}.attn1"
        fuses = fusion.strength > 0 and (fusion.layers == "all" or full_name.startswith(FUSED_BLOCKS))

        def note(
            module: nn.Module, inputs: tuple[Tensor, ...], *, full_name: str = full_name, fuses: bool = fuses
        ) -> None:
            layers.append(BankLayer(full_name, inputs[0].shape[1], inputs[0].shape[2], fuses))

        handles.append(block.attn1.register_forward_pre_hook(note))
    try:
        parameter = next(unet.parameters())
        zeros = torch.zeros((1, *latent_shape), device=parameter.device, dtype=parameter.dtype)
        prompt = zeros.new_zeros((1, 77, unet.config.cross_attention_dim))
        with torch.inference_mode():
            unet(zeros, torch.zeros((1,), device=zeros.device, dtype=torch.int64), encoder_hidden_states=prompt)
    finally:
        for handle in handles:
            handle.remove()
    return tuple(layers)


# --- in and out of the UNet ---------------------------------------------------------------------------------


def levels_of(unet: UNet2DConditionModel, layers: Sequence[BankLayer], rows: int, capacity: int) -> tuple[Level, ...]:
    """The shapes of each layer's attention once a bank of ``capacity`` frames is full; ``rows`` pictures a call."""
    heads = {f"{name}.attn1": int(block.attn1.heads) for name, block in _transformer_blocks(unet)}
    return tuple(
        Level(
            rows,
            layer.tokens,
            layer.tokens * (1 + capacity),
            heads[layer.name],
            layer.channels // heads[layer.name],
        )
        for layer in layers
    )


def take_out(unet: UNet2DConditionModel) -> None:
    """Remove whichever translator's attention the UNet runs through."""
    for _, block in _transformer_blocks(unet):
        if isinstance(block.attn1.processor, _LayerAttention):
            block.attn1.processor.owner.remove()


class Companion(Protocol):
    """Something else that is put into the UNet together with the attention."""

    def put_in(self) -> None: ...
    def take_out(self) -> None: ...


class AttendedBank(Protocol):
    """What the layers ask of a ``FeatureBank`` while the UNet runs."""

    def extend(self, number: int, rows: slice, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]: ...
    def put_output(self, number: int, rows: slice, output: Tensor) -> None: ...
    def remembered_output(self, number: int, rows: slice) -> Tensor | None: ...


class ExtendedAttention:
    """Equations 1 and 2 for all self-attention layers of one UNet; with no bank, plain attention by the same kernel.

    A UNet holds one of these at most: ``install`` takes the place of another. All weights are left alone.
    ``kernels``: one for each layer, instead of ``attend`` for all; wider heads than the layer's are joined ones.
    ``joined``: each layer's three projections are one product over copies of their weights. ``in_call`` is told which
    rows the next UNet call holds.
    """

    def __init__(
        self,
        unet: UNet2DConditionModel,
        layers: tuple[BankLayer, ...],
        bank: AttendedBank | None,
        fusion: FusionSettings,
        attend: Attend,
        observer: Observer | None = None,
        *,
        kernels: Sequence[Kernel] = (),
        joined: bool = False,
        companions: Sequence[Companion] = (),
        in_call: RowsInCall | None = None,
    ) -> None:
        self.bank = bank
        self.observer = observer
        self.companions = tuple(companions)
        self.in_call = in_call or RowsOfAll()
        # Tensors, so that a graph captured over them never has to be captured again for another value.
        device = next(unet.parameters()).device
        self.strength = torch.tensor(fusion.strength, device=device)
        self.threshold = torch.tensor(fusion.threshold, device=device)
        self._unet = unet
        self._site = fusion.site
        self._layers = layers
        blocks = dict(_transformer_blocks(unet))
        self._attentions: list[Any] = [blocks[layer.name.removesuffix(".attn1")].attn1 for layer in layers]
        self.kernels: list[Attend] = [kernel.attend for kernel in kernels] or [attend] * len(layers)
        self.joined: list[JoinedProjections | None] = [None] * len(layers)
        for number, attention in enumerate(self._attentions):
            own = int(attention.inner_dim // attention.heads)
            width = kernels[number].width if kernels else own
            if joined or width > own:
                self.joined[number] = JoinedProjections(attention, width)
        self._replaced: list[tuple[Any, Any, _LayerAttention]] = []  # module, its own processor, ours
        self._handles: list[torch.utils.hooks.RemovableHandle] = []

    def refresh(self) -> None:
        """Copy the UNet's weights anew where copies are kept: they have changed."""
        for joined in self.joined:
            if joined is not None:
                joined.refresh()

    @property
    def installed(self) -> bool:
        """Whether the UNet runs through this object now."""
        return bool(self._replaced) and self._replaced[0][0].processor is self._replaced[0][2]

    def install(self) -> None:
        """Put the layers' attention under this object's care; a second time is no change."""
        if self.installed:
            return
        self.remove()
        take_out(self._unet)
        blocks = {f"{name}.attn1": block for name, block in _transformer_blocks(self._unet)}
        for number, layer in enumerate(self._layers):
            block = blocks[layer.name]
            ours = _LayerAttention(self, number, fuses_here=self._site == "attention")
            self._replaced.append((block.attn1, block.attn1.processor, ours))
            block.attn1.set_processor(ours)
            if self._site == "block":
                self._handles.append(block.register_forward_hook(self._block_hook(number)))
        for companion in self.companions:
            companion.put_in()

    def remove(self) -> None:
        """Put back what was there; the UNet is bit-identical to what it was before. A second time is no change."""
        for attention, before, ours in self._replaced:
            # Who has put another processor there since wants to keep that one.
            if attention.processor is ours:
                attention.set_processor(before)
        for handle in self._handles:
            handle.remove()
        for companion in self.companions:
            companion.take_out()
        self._replaced.clear()
        self._handles.clear()

    def _block_hook(self, number: int) -> Callable[[nn.Module, Any, Tensor], Tensor]:
        def hook(block: nn.Module, inputs: Any, output: Tensor) -> Tensor:
            return self.fuse_output(number, output)

        return hook

    def fuse_output(self, number: int, output: Tensor) -> Tensor:
        """Store the un-fused O (rows, N, C) of layer ``number``, and give the fused one (equation 2)."""
        if self.bank is None:
            return output
        remembered = self.bank.remembered_output(number, self.in_call.rows)
        self.bank.put_output(number, self.in_call.rows, output)
        if remembered is None:
            return output
        fused = fuse(output, remembered, self.strength, self.threshold)
        self.show(number, "ff_maxcos", fused.similarity)
        self.show(number, "ff_idx", fused.index)
        return fused.output

    def show(self, number: int, what: str, tensor: Tensor) -> None:
        """Let the observer see an intermediate tensor."""
        if self.observer is not None:
            self.observer(number, what, tensor)


class _LayerAttention:
    """diffusers' attention processor of one self-attention layer."""

    def __init__(self, owner: ExtendedAttention, number: int, *, fuses_here: bool) -> None:
        self.owner = owner
        self._number = number
        self._fuses_here = fuses_here

    def __call__(
        self,
        attn: Any,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        temb: Tensor | None = None,
    ) -> Tensor:
        owner, number = self.owner, self._number
        owner.show(number, "attn1_in", hidden_states)
        joined, bank = owner.joined[number], owner.bank
        scale = None
        room = None
        if joined is not None and not joined.biased and isinstance(bank, FeatureBank):
            room = bank.room(number, owner.in_call.rows)
        if joined is None:
            queries, keys, values = attn.to_q(hidden_states), attn.to_k(hidden_states), attn.to_v(hidden_states)
        elif room is not None:
            scale = joined.scale
            queries = joined.project_into(hidden_states, room)
        else:
            scale = joined.scale
            queries, both = joined.project(hidden_states)
            keys, values = both.chunk(2, dim=-1)
        if room is not None:
            assert isinstance(bank, FeatureBank)  # noqa: S101 - it gave the room
            keys, values = bank.written(number, owner.in_call.rows)
        elif joined is not None and isinstance(bank, FeatureBank):
            keys, values = bank.extend_joined(number, owner.in_call.rows, both)
        elif bank is not None:
            keys, values = bank.extend(number, owner.in_call.rows, keys, values)
        heads = (attn.heads, -1)
        attended = owner.kernels[number](
            queries.unflatten(-1, heads), keys.unflatten(-1, heads), values.unflatten(-1, heads), scale
        ).flatten(-2)
        output: Tensor = attn.to_out[0](attended) if joined is None else joined.give_back(attended)
        owner.show(number, "attn1_unfused", output)
        if self._fuses_here:
            output = owner.fuse_output(number, output)
        owner.show(number, "attn1_out", output)
        return output
