"""Paired comparisons over clips, with intervals from a bootstrap."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

DRAWS = 10_000


@dataclass(frozen=True)
class Estimate:
    """A mean over clips and its 95 % interval."""

    mean: float
    low: float
    high: float

    def as_json(self) -> dict[str, Any]:
        """The schema's ``est``."""
        return {"mean": _short(self.mean), "ci95": [_short(self.low), _short(self.high)]}


def _short(value: float) -> float:
    return float(f"{value:.6g}")


def _chosen(clips: int, seed: int) -> Any:
    return np.random.default_rng(seed).integers(0, clips, (DRAWS, clips))


def mean_of(values: Sequence[float], seed: int = 0) -> Estimate:
    """Over clips, at least one; clips are drawn anew with replacement."""
    found = np.asarray(values, np.float64)
    means = found[_chosen(len(found), seed)].mean(1)
    low, high = np.percentile(means, (2.5, 97.5))
    return Estimate(float(found.mean()), float(low), float(high))


def ratio_of_means(over: Sequence[float], under: Sequence[float], seed: int = 0) -> Estimate:
    """mean(over) / mean(under) of paired clips."""
    pairs = np.array([over, under], np.float64)
    chosen = _chosen(pairs.shape[1], seed)
    tops, bottoms = pairs[:, chosen].mean(2)
    low, high = np.percentile(tops / bottoms, (2.5, 97.5))
    return Estimate(float(pairs[0].mean() / pairs[1].mean()), float(low), float(high))


@dataclass(frozen=True)
class Comparison:
    """``delta`` is a less b, over clips; ``wins`` counts the clips in which a is larger."""

    a: str
    b: str
    delta: Estimate
    ratio: Estimate
    wins: int
    n: int

    @property
    def larger(self) -> bool:
        """Whether a is larger, and 95 % of the bootstrap agree."""
        return self.delta.low > 0

    @property
    def not_smaller(self) -> bool:
        """Whether it cannot be said that a is smaller."""
        return self.delta.high >= 0


def compare(a: str, b: str, first: Sequence[float], second: Sequence[float], seed: int = 0) -> Comparison:
    """Paired over clips: value ``i`` of both is of clip ``i``."""
    differences = [x - y for x, y in zip(first, second, strict=True)]
    wins = sum(difference > 0 for difference in differences)
    delta, ratio = mean_of(differences, seed), ratio_of_means(first, second, seed)
    return Comparison(a, b, delta, ratio, wins, len(differences))
