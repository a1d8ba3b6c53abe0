"""Extended self-attention (paper equation 1) put into a UNet from outside, and taken out again without a trace."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Literal, Protocol, TypeAlias

import torch
from diffusers import UNet2DConditionModel
from diffusers.models.attention import BasicTransformerBlock
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from streamv2v_obs.errors import ConfigError
from streamv2v_obs.settings import FusionSettings
from streamv2v_obs.translator.bank import BankLayer
from streamv2v_obs.translator.fusion import fuse
from streamv2v_obs.translator.suitability import check_attention

Attend: TypeAlias = Callable[[Tensor, Tensor, Tensor], Tensor]
"""Softmax attention of q (B, N, heads, d) over k, v (B, T, heads, d), which may be strided: (B, N, heads, d)."""

Observer: TypeAlias = Callable[[int, str, Tensor], None]
"""Is shown, layer by layer, ``attn1_in``, ``attn1_unfused``, ``ff_maxcos``, ``ff_idx`` and ``attn1_out``."""

# The paper fuses in the middle block and the two up blocks of lowest resolution.
FUSED_BLOCKS = ("mid_block.", "up_blocks.0.", "up_blocks.1.")


# --- the seam between attention kernels ---------------------------------------------------------------------


def attend_sdpa(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """torch's own kernels; on every device."""
    return scaled_dot_product_attention(q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2)).transpose(1, 2)


def _open_xformers(device: torch.device, dtype: torch.dtype) -> Attend:
    # Chosen by device, never by whether the import succeeds: xformers imports everywhere and fails at the call.
    if device.type != "cuda":
        raise ConfigError(
            f"translator.attention = 'xformers' needs a CUDA device, and this is {device.type}: use auto"
        )
    try:
        from xformers.ops import memory_efficient_attention

        sample = torch.zeros((1, 8, 1, 64), device=device, dtype=dtype)
        memory_efficient_attention(sample, sample, sample)
    except (ImportError, NotImplementedError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ConfigError(f"translator.attention = 'xformers' does not run here ({reason}): use auto") from error

    def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        answer: Tensor = memory_efficient_attention(q, k, v)
        return answer

    return attend


def choose_attention(
    wish: Literal["auto", "sdpa", "xformers"], device: torch.device, dtype: torch.dtype
) -> tuple[Literal["sdpa", "xformers"], Attend]:
    """The kernel to use and its name. ``auto`` is sdpa on every device until a measurement says otherwise.

    Raises ConfigError where xformers was asked for and cannot run.
    """
    if wish == "xformers":
        return "xformers", _open_xformers(device, dtype)
    return "sdpa", attend_sdpa


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
    _take_out(unet)  # else these zeros would run through, and into, another translator's bank
    layers: list[BankLayer] = []
    handles = []
    for name, block in _transformer_blocks(unet):
        full_name = f"{name}.attn1"
        fuses = fusion.strength > 0 and full_name.startswith(FUSED_BLOCKS)

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


def _take_out(unet: UNet2DConditionModel) -> None:
    """Remove whichever translator's attention the UNet runs through."""
    for _, block in _transformer_blocks(unet):
        if isinstance(block.attn1.processor, _LayerAttention):
            block.attn1.processor.owner.remove()


class AttendedBank(Protocol):
    """What the layers ask of a ``FeatureBank`` while the UNet runs."""

    def extend(self, number: int, rows: slice, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]: ...
    def put_output(self, number: int, rows: slice, output: Tensor) -> None: ...
    def remembered_output(self, number: int, rows: slice) -> Tensor | None: ...


class ExtendedAttention:
    """Equations 1 and 2 for all self-attention layers of one UNet; with no bank, plain attention by the same kernel.

    A UNet holds one of these at most: ``install`` takes the place of another. Cross-attention is left alone, and so
    are all weights.
    """

    def __init__(
        self,
        unet: UNet2DConditionModel,
        layers: tuple[BankLayer, ...],
        bank: AttendedBank | None,
        fusion: FusionSettings,
        attend: Attend,
        observer: Observer | None = None,
    ) -> None:
        self.bank = bank
        self.attend = attend
        self.observer = observer
        self.rows = slice(0, 1)
        """Which rows of the stream batch the next UNet call holds."""
        # Tensors, so that a graph captured over them never has to be captured again for another value.
        device = next(unet.parameters()).device
        self.strength = torch.tensor(fusion.strength, device=device)
        self.threshold = torch.tensor(fusion.threshold, device=device)
        self._unet = unet
        self._site = fusion.site
        self._layers = layers
        self._replaced: list[tuple[Any, Any, _LayerAttention]] = []  # module, its own processor, ours
        self._handles: list[torch.utils.hooks.RemovableHandle] = []

    @property
    def installed(self) -> bool:
        """Whether the UNet runs through this object now."""
        return bool(self._replaced) and self._replaced[0][0].processor is self._replaced[0][2]

    def install(self) -> None:
        """Put the layers' attention under this object's care; a second time is no change."""
        if self.installed:
            return
        self.remove()
        _take_out(self._unet)
        blocks = {f"{name}.attn1": block for name, block in _transformer_blocks(self._unet)}
        for number, layer in enumerate(self._layers):
            block = blocks[layer.name]
            ours = _LayerAttention(self, number, fuses_here=self._site == "attention")
            self._replaced.append((block.attn1, block.attn1.processor, ours))
            block.attn1.set_processor(ours)
            if self._site == "block":
                self._handles.append(block.register_forward_hook(self._block_hook(number)))

    def remove(self) -> None:
        """Put back what was there; the UNet is bit-identical to what it was before. A second time is no change."""
        for attention, before, ours in self._replaced:
            # Who has put another processor there since wants to keep that one.
            if attention.processor is ours:
                attention.set_processor(before)
        for handle in self._handles:
            handle.remove()
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
        remembered = self.bank.remembered_output(number, self.rows)
        self.bank.put_output(number, self.rows, output)
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
        queries, keys, values = attn.to_q(hidden_states), attn.to_k(hidden_states), attn.to_v(hidden_states)
        if owner.bank is not None:
            keys, values = owner.bank.extend(number, owner.rows, keys, values)
        heads = (attn.heads, -1)
        attended = owner.attend(queries.unflatten(-1, heads), keys.unflatten(-1, heads), values.unflatten(-1, heads))
        output: Tensor = attn.to_out[0](attended.flatten(-2))
        owner.show(number, "attn1_unfused", output)
        if self._fuses_here:
            output = owner.fuse_output(number, output)
        owner.show(number, "attn1_out", output)
        return output
