"""Latent consistency models in closed form: where the rows stand, and the clean latent in a UNet's answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import torch
from diffusers.models.embeddings import get_timestep_embedding
from torch import Tensor

PredictionType: TypeAlias = Literal["epsilon", "v_prediction", "sample"]

LCM_STEPS = 50
SIGMA_DATA = 0.5
TIMESTEP_SCALING = 10.0
GUIDANCE = 8.5
"""What a guidance-distilled model is told where the settings name nothing: the value LCM was published with."""


@dataclass(frozen=True)
class RowConstants:
    """What depends on a row's timestep alone; each float32 (S, 1, 1, 1) but ``timesteps``, int64 (S,).

    ``alpha`` and ``beta`` are the shares of picture and noise, ``c_skip`` and ``c_out`` LCM's boundary scalings.
    """

    timesteps: Tensor
    alpha: Tensor
    beta: Tensor
    c_skip: Tensor
    c_out: Tensor

    def of(self, rows: slice) -> RowConstants:
        """The constants of some rows: views."""
        return RowConstants(
            self.timesteps[rows], self.alpha[rows], self.beta[rows], self.c_skip[rows], self.c_out[rows]
        )

    def copy_(self, other: RowConstants) -> None:
        """Overwrite in place, so that whoever holds these tensors sees the new values."""
        for name in ("timesteps", "alpha", "beta", "c_skip", "c_out"):
            getattr(self, name).copy_(getattr(other, name))


def row_constants(acp: Tensor, indices: Sequence[int], device: torch.device) -> RowConstants:
    """The constants of rows standing at LCM's timesteps number ``indices`` (0 is 999, 49 is 19).

    ``acp`` is the cumulative product of the model's alphas, one for each timestep of its training.
    """
    stride = len(acp) // LCM_STEPS
    timesteps = torch.tensor([len(acp) - 1 - i * stride for i in indices], dtype=torch.int64)
    share = acp.detach().to("cpu", torch.float64)[timesteps]
    scaled = timesteps.to(torch.float64) * TIMESTEP_SCALING
    spread = scaled**2 + SIGMA_DATA**2

    def per_row(values: Tensor) -> Tensor:
        return values.to(torch.float32).reshape(-1, 1, 1, 1).to(device)

    return RowConstants(
        timesteps=timesteps.to(device),
        alpha=per_row(share.sqrt()),
        beta=per_row((1 - share).sqrt()),
        c_skip=per_row(SIGMA_DATA**2 / spread),
        c_out=per_row(scaled / spread.sqrt()),
    )


def clean_latent(x: Tensor, prediction: Tensor, rows: RowConstants, kind: PredictionType) -> Tensor:
    """LCM's estimate of the clean latents, ``c_out x0 + c_skip x``, float32 (S, C, h, w).

    This is the one place that knows what a UNet predicts: the noise, v = alpha noise - beta x0, or x0 itself.
    """
    prediction = prediction.to(torch.float32)
    if kind == "epsilon":
        x0 = (x - rows.beta * prediction) / rows.alpha
    elif kind == "v_prediction":
        x0 = rows.alpha * x - rows.beta * prediction
    else:
        x0 = prediction
    return rows.c_out * x0 + rows.c_skip * x


def guidance_condition(guidance: float, width: int) -> Tensor:
    """What a guidance-distilled UNet takes beside the timestep: float32 (1, ``width``).

    The sinusoidal embedding of 1000 (guidance - 1), since LCM counts guidance from 0 (Luo et al. 2023, section 4).
    """
    condition: Tensor = get_timestep_embedding(
        torch.tensor([1000.0 * (guidance - 1)]), width, flip_sin_to_cos=False, downscale_freq_shift=1
    )
    return condition
