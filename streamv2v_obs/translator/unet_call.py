"""One UNet call over rows of the stream batch: all that is put into the UNet for it, and what computes it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol

import torch
from diffusers import UNet2DConditionModel
from torch import Tensor

from streamv2v_obs.errors import ConfigError
from streamv2v_obs.settings import TranslatorSettings
from streamv2v_obs.translator.attention import ExtendedAttention, Observer, attend_sdpa, find_layers, levels_of
from streamv2v_obs.translator.bank import BankLayer, FeatureBank
from streamv2v_obs.translator.folded import FoldedOutputs, foldable
from streamv2v_obs.translator.kernels import choose_kernels, described
from streamv2v_obs.translator.lcm import GUIDANCE, PredictionType, RowConstants, clean_latent, guidance_condition
from streamv2v_obs.translator.row_prompts import RowPrompts, cross_attentions
from streamv2v_obs.translator.row_times import RowTimes
from streamv2v_obs.translator.rows_in_call import rows_in_call
from streamv2v_obs.translator.rungs import choose_direct_keys, choose_folded_output


@dataclass(frozen=True)
class CallTrace:
    """What one UNet call took and gave, each float32 (rows, C, h, w)."""

    unet_in: Tensor
    prediction: Tensor
    x0: Tensor


class PredictingGraph(Protocol):
    """A UNet call by other means than torch: it reads the bank and writes the frame's features into it itself."""

    @property
    def ready(self) -> bool: ...
    def __call__(self, rows: slice, noised: Tensor, timesteps: Tensor, prompts: Tensor) -> Tensor: ...


class UNetCall:
    """The UNet, and in it extended attention with its bank, the prompts and the times of all rows.

    ``rows`` are those of the stream batch, ``rows_in_a_call`` of them enter a call; ``by_threads``: several threads
    call at the same time, each with rows of its own. ``latent_shape`` is (C, h, w). The rest is as
    ``LatentTranslator`` takes it. Raises ConfigError for guidance that the model cannot follow, or for a kernel that
    is not to be had, ModelLoadError for a UNet with self-attention of another kind.
    """

    def __init__(
        self,
        unet: UNet2DConditionModel,
        prediction_type: PredictionType,
        settings: TranslatorSettings,
        latent_shape: tuple[int, int, int],
        device: torch.device,
        dtype: torch.dtype,
        *,
        rows: int,
        rows_in_a_call: int,
        by_threads: bool,
        observer: Observer | None,
        trace: Callable[[CallTrace], None] | None,
        keep_all_outputs: bool,
    ) -> None:
        self.graph: PredictingGraph | None = None
        """Computes instead of the UNet where it is set and ready."""
        self._unet = unet
        self._prediction_type = prediction_type
        self._dtype = dtype
        self._trace = trace
        self._in_call = in_call = rows_in_call(by_threads=by_threads)
        kept, speed = settings.bank, settings.speed
        layers = find_layers(unet, latent_shape, settings.fusion)
        capacity = 0 if kept.kind == "off" else kept.length if kept.kind == "queue" else 1
        levels = levels_of(unet, layers, rows_in_a_call, capacity)
        kernels = choose_kernels(settings.attention, levels, speed.padded_heads, device, dtype)
        self.attention = described(levels, kernels)
        """The kernels in use, in words."""
        self.layers: tuple[BankLayer, ...] = tuple(
            replace(layer, widened=level.heads * kernel.width if kernel.width > level.width else None)
            for layer, level, kernel in zip(layers, levels, kernels, strict=True)
        )
        self.condition = _condition(unet, settings.guidance, device, dtype)
        """What a guidance-distilled UNet takes beside the timestep, (1, width); None for any other."""
        with torch.inference_mode():
            cached = cross_attentions(unet) if speed.cached_prompt else ()
            self.prompts = RowPrompts(rows, device, dtype, tuple(cached), in_call)
            self.times = RowTimes(unet, rows, self.condition, cached=bool(speed.cached_time), in_call=in_call)
            self.direct_keys = choose_direct_keys(settings)
            """Whether keys and values are computed into the bank."""
            self.folded = FoldedOutputs(list(foldable(unet)) if choose_folded_output(settings, device) else [])
            self.bank: FeatureBank | None = None
            """As it is: an update that is due is still to be done."""
            if kept.kind != "off":
                self.bank = FeatureBank(
                    self.layers,
                    rows,
                    kind=kept.kind,
                    length=kept.length,
                    attended=kept.attend,
                    device=device,
                    dtype=dtype,
                    keep_all_outputs=keep_all_outputs,
                    with_queries=self.direct_keys,
                )
            self.extension = ExtendedAttention(
                unet,
                self.layers,
                self.bank,
                settings.fusion,
                attend_sdpa,
                observer,
                kernels=kernels,
                joined=bool(speed.joined_qkv),
                companions=(self.prompts, self.times, self.folded),
                in_call=in_call,
            )

    def __call__(self, rows: slice, noised: Tensor, constants: RowConstants) -> Tensor:
        """The clean latents of ``rows``, float32 like ``noised``, both (rows, C, h, w); ``constants`` are theirs.

        Raises RuntimeError before there is any prompt. The extension has to be installed.
        """
        embeddings = self.prompts.embeddings
        if embeddings is None:
            raise RuntimeError("no frame has entered yet")
        if self.graph is not None and self.graph.ready:
            prediction = self.graph(rows, noised, constants.timesteps, embeddings[rows])
        else:
            self._in_call.rows = rows
            (prediction,) = self._unet(
                noised.to(self._dtype),
                constants.timesteps,
                timestep_cond=None if self.condition is None else self.condition.expand(len(noised), -1),
                encoder_hidden_states=embeddings[rows].to(self._dtype),
                return_dict=False,
            )
        x0 = clean_latent(noised, prediction, constants, self._prediction_type)
        if self._trace is not None:
            self._trace(CallTrace(noised.clone(), prediction.float(), x0))
        return x0


def _condition(
    unet: UNet2DConditionModel, wanted: float | None, device: torch.device, dtype: torch.dtype
) -> Tensor | None:
    width = unet.config.get("time_cond_proj_dim")
    if width is not None:
        return guidance_condition(wanted or GUIDANCE, width).to(device, dtype)
    if wanted is not None:
        raise ConfigError(
            f"translator.guidance = {wanted:g}: this model was not distilled with guidance, and classifier-free "
            "guidance would double the work of each frame; allowed: null"
        )
    return None
