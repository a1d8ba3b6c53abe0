"""A feature bank through which gradients flow, and attention that is judged by whom it attends to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from streamv2v_obs.translator.attention import attend_sdpa
from streamv2v_obs.translator.bank import BankLayer
from streamv2v_obs.translator.merging import draw_partitions, merge

Kind = Literal["last", "all", "merged"]
"""What a bank holds of past frames: the last one, all of them, or the method's merged ones."""


@dataclass
class PastFeatures:
    """For each layer K and V, and O where it fuses, (n, M, C): what ``FeatureBank`` holds, in tensors of its own."""

    layers: Sequence[BankLayer]
    past: list[tuple[Tensor, ...]] = field(default_factory=list)
    """Empty before the first store."""
    now: dict[int, list[Tensor]] = field(default_factory=dict)
    """Of the frame that is computed."""

    def extend(self, number: int, rows: slice, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Equation 1's [K; K_fb] and [V; V_fb]."""
        self.now[number] = [keys, values]
        if not self.past:
            return keys, values
        return torch.cat([keys, self.past[number][0]], 1), torch.cat([values, self.past[number][1]], 1)

    def put_output(self, number: int, rows: slice, output: Tensor) -> None:
        """Un-fused O."""
        if self.layers[number].fuses:
            self.now[number].append(output)

    def remembered_output(self, number: int, rows: slice) -> Tensor | None:
        """O_fb, once there is one."""
        return self.past[number][2] if self.past and self.layers[number].fuses else None

    def update(self, kind: Kind, seed: int, count: int) -> None:
        """Store the frame that was computed last, the ``count``-th, with those before it or in their place."""
        now = [tuple(self.now[number]) for number in range(len(self.now))]
        if not self.past or kind == "last":
            self.past = now
        elif kind == "all":
            self.past = [_beside(old, new) for old, new in zip(self.past, now, strict=True)]
        else:
            tokens = [features[0].shape[1] for features in now]
            partitions = draw_partitions(seed, count, now[0][0].shape[0], tokens)
            self.past = [
                tuple(merge(keys, others, partition))
                for (keys, *others), partition in zip(map(_beside, self.past, now), partitions, strict=True)
            ]

    def exchange(self) -> None:
        """Give each picture of the batch its neighbour's past."""
        self.past = [tuple(feature.roll(1, 0) for feature in layer) for layer in self.past]


def _beside(old: Sequence[Tensor], new: Sequence[Tensor]) -> tuple[Tensor, ...]:
    return tuple(torch.cat(pair, 1) for pair in zip(old, new, strict=True))


def matches(places: Tensor, edge: int) -> Tensor:
    """Which token of an earlier picture shows what a token shows now: [n, N, N], each row a share of 1.

    ``places`` [n, h, w, 2]: where a pixel lay in that picture, as ``grid_sample`` counts; N = edge x edge tokens.
    """
    place = functional.adaptive_avg_pool2d(places.movedim(-1, 1), edge).flatten(2).movedim(1, 2)
    line = (torch.arange(edge, device=places.device) + 0.5) * (2 / edge) - 1
    y, x = torch.meshgrid(line, line, indexing="ij")
    apart = ((place.unsqueeze(2) - torch.stack([x, y], -1).flatten(0, 1)) * (edge / 2)).square().sum(-1)
    return torch.softmax(-2 * apart, -1)  # a Gaussian half a token wide


@dataclass
class JudgedAttention:
    """Plain attention, which notes how far it misses what it should attend to; square pictures alone.

    Left to itself, a small model's self-attention takes a mean over all there is (measured: a bank gets half of it,
    whosever it is), and a loss of pictures hardly teaches it otherwise.
    """

    places: Tensor | None = None
    """[n, h, w, 2] of the frame that is computed, in the first one stored; None where that is not in the bank."""
    seen: Tensor | None = None
    """[n, 1, h, w], 0 to 1: where it could be seen there."""
    foreign: bool = False
    """Whether the bank is another scene's."""
    missed: list[Tensor] = field(default_factory=list)
    """Of each layer the cross-entropy of attention to the first frame stored, beside where things were in it."""
    strayed: list[Tensor] = field(default_factory=list)
    """Of each layer -log of the share that a foreign bank leaves to the picture itself."""

    def __call__(self, q: Tensor, k: Tensor, v: Tensor, scale: float | None = None) -> Tensor:
        """(n, N, heads, d) each, as ``attend_sdpa``."""
        tokens = q.shape[1]
        if k.shape[1] > tokens and self.foreign:
            scores = _scores(q, k)
            self.strayed.append((scores.logsumexp(-1) - scores[..., :tokens].logsumexp(-1)).mean())
        elif k.shape[1] > tokens and self.places is not None and self.seen is not None:
            edge = round(tokens**0.5)
            wanted = matches(self.places, edge).unsqueeze(1)
            off = -(wanted * _scores(q, k[:, tokens : 2 * tokens]).log_softmax(-1)).sum(-1).mean(1)
            weight = functional.adaptive_avg_pool2d(self.seen, edge).flatten(1)
            self.missed.append((weight * off).sum() / weight.sum().clamp(min=1))
        return attend_sdpa(q, k, v, scale)

    def verdict(self) -> tuple[Tensor, Tensor]:
        """Means over the layers of ``missed`` and ``strayed``, 0 where there are none; begins anew."""
        means = [torch.stack(found).mean() if found else torch.zeros(()) for found in (self.missed, self.strayed)]
        self.missed.clear()
        self.strayed.clear()
        return means[0], means[1]


def _scores(q: Tensor, k: Tensor) -> Tensor:
    scores: Tensor = torch.einsum("nqhd,nkhd->nhqk", q, k).float()
    return scores * float(q.shape[-1] ** -0.5)
