"""Whom self-attention attends to: what a bank gets of it, over how many tokens it is spread, how much is fused."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from streamv2v_obs.translator.attention import ExtendedAttention
from streamv2v_obs.translator.kernels import Attend

_QUERIES = 64
"""Of a layer and a frame, evenly taken: enough for a mean, and few enough for Stable Diffusion's largest level."""


@dataclass
class _Layer:
    tokens: int = 0
    bank: list[float] = field(default_factory=list)
    spread: list[float] = field(default_factory=list)
    fused: list[float] = field(default_factory=list)


class AttentionMeter:
    """Watches one translator's attention while its bank holds something."""

    def __init__(self) -> None:
        self._layers: dict[int, _Layer] = {}

    def attach(self, attention: ExtendedAttention) -> None:
        """From now on, as long as that attention lives; the pictures stay what they are."""
        attention.kernels[:] = [self._watched(number, kernel) for number, kernel in enumerate(attention.kernels)]

        def observe(number: int, what: str, tensor: Tensor) -> None:
            if what == "ff_maxcos":
                share = (tensor >= attention.threshold).float().mean()
                self._layers.setdefault(number, _Layer()).fused.append(float(share))

        attention.observer = observe

    def _watched(self, number: int, kernel: Attend) -> Attend:
        def attend(q: Tensor, k: Tensor, v: Tensor, scale: float | None = None) -> Tensor:
            tokens = q.shape[1]
            if k.shape[1] > tokens:
                asked = q[:, :: max(1, tokens // _QUERIES)].float()
                factor = q.shape[-1] ** -0.5 if scale is None else scale
                shares = (torch.einsum("nqhd,nkhd->nhqk", asked, k.float()) * factor).softmax(-1)
                entropy = -(shares * shares.clamp(min=1e-12).log()).sum(-1)
                layer = self._layers.setdefault(number, _Layer())
                layer.tokens = tokens
                layer.bank.append(float(shares[..., tokens:].sum(-1).mean()))
                layer.spread.append(float(entropy.exp().mean()))
            return kernel(q, k, v, scale)

        return attend

    def told(self) -> list[dict[str, float | None]]:
        """Of each layer, in the order in which they run: ``bank`` and ``fused``, 0 to 1, and ``spread`` in tokens.

        ``spread`` is the number of tokens that attention as uneven as this would be spread over if it were even.
        """
        return [
            {
                "tokens": layer.tokens,
                "bank": float(np.mean(layer.bank)) if layer.bank else None,
                "spread": float(np.mean(layer.spread)) if layer.spread else None,
                "fused": float(np.mean(layer.fused)) if layer.fused else None,
            }
            for _, layer in sorted(self._layers.items())
        ]


def mean_of_layers(found: Sequence[Sequence[dict[str, Any]]]) -> list[dict[str, Any]]:
    """Of what several runs told, layer by layer."""
    means = []
    for layers in zip(*found, strict=True):
        mean: dict[str, Any] = {"tokens": layers[0]["tokens"]}
        for name in ("bank", "spread", "fused"):
            values = [layer[name] for layer in layers if layer[name] is not None]
            mean[name] = float(f"{np.mean(values):.4g}") if values else None
        means.append(mean)
    return means
