"""The noise that a picture is translated from: white, as published, or without its low frequencies."""

from __future__ import annotations

from typing import Literal, TypeAlias

import torch
from torch import Tensor
from torch.nn import functional

NoiseKind: TypeAlias = Literal["white", "blue"]

_SIGMA, _REACH = 1.0, 3
"""In latents: what is taken out is the noise's own Gaussian blur of this width."""


def kind_of_noise(wished: Literal["auto", "white", "blue"], trained_with: NoiseKind) -> NoiseKind:
    """``translator.noise`` for a model that was trained with one or the other."""
    return trained_with if wished == "auto" else wished


def draw_noise(shape: tuple[int, ...], seed: int, kind: NoiseKind) -> Tensor:
    """Float32, of mean 0 and deviation 1, drawn on the CPU, so that it is the same for each device."""
    generator = torch.Generator("cpu").manual_seed(seed)
    noise = torch.randn(shape, generator=generator)
    return blue(noise) if kind == "blue" else noise


def blue(white: Tensor) -> Tensor:
    """White noise [.., h, w] less its blur, at deviation 1 again.

    What is blurred of the noise ends as blotches in flat areas: a UNet averages over some latents, not over a sky.
    Without it, a picture's large areas have the colours that they had (blue noise in diffusion: Huang et al. 2024).
    """
    taps = torch.exp(-(torch.arange(-_REACH, _REACH + 1, dtype=torch.float32) ** 2) / (2 * _SIGMA**2))
    taps = taps / taps.sum()
    planes = white.reshape(-1, 1, *white.shape[-2:])
    padded = functional.pad(planes, (_REACH,) * 4, mode="replicate")
    blurred = functional.conv2d(functional.conv2d(padded, taps[None, None, None]), taps[None, None, :, None])
    kept = 1 - 2 * taps[_REACH] ** 2 + taps.square().sum() ** 2  # the variance of what is left
    return ((planes - blurred) / kept.sqrt()).reshape(white.shape)
