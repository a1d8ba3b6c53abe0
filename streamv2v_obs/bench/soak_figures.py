"""What a soak has seen, and what follows from it: what grew, what drifted, what stood."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import groupby, pairwise
from typing import Any

import numpy as np

from streamv2v_obs.bench.fault_stage import Row
from streamv2v_obs.bench.fault_watch import Told
from streamv2v_obs.errors import StreamV2VError

PART = 1 / 6
"""The share of the time that is compared: of thirty minutes, the first five and the last five."""
_WARM_SHARE, _WARM_S = 0.1, 120.0
_LIFE_WARM_S = 60.0


@dataclass(frozen=True, slots=True)
class Sample:
    """The state of both processes at one moment; the engine's figures are None while there is none."""

    at_s: float
    service_rss_mib: float
    service_threads: int
    service_descriptors: int
    engine_pid: int | None
    engine_rss_mib: float | None
    engine_threads: int | None
    engine_descriptors: int | None
    shared_memory: int
    age_ms_p95: float | None
    well: bool
    """Translated, and nothing was broken for a while."""


@dataclass
class Soaked:
    """What was seen of a soak."""

    minutes: float
    seed: int
    samples: list[Sample] = field(default_factory=list)
    rows: list[Row] = field(default_factory=list)
    told: list[Told] = field(default_factory=list)
    prompts: int = 0
    scenes: int = 0
    searched: int = 0
    raw: int = 0
    stops: int = 0
    obs: bool = False
    """Whether there was one."""
    ended: str = ""
    """Why it ended before its time, if it did."""


def figures(found: Soaked) -> dict[str, Any]:
    """Growth from the first part after warm-up to the last one, of the samples at which all was well.

    Raises StreamV2VError where one of these parts has no such sample.
    """
    total_s = 60 * found.minutes
    warm_s = min(_WARM_S, total_s * _WARM_SHARE)
    well = [one for one in found.samples if one.well]
    first = [one for one in well if warm_s <= one.at_s < warm_s + total_s * PART]
    last = [one for one in well if one.at_s >= total_s * (1 - PART)]
    if not first or not last:
        raise StreamV2VError(
            f"nothing to compare: {len(first)} samples at the beginning and {len(last)} at the end at which all was "
            f"well; {found.ended or 'let it run longer'}"
        )
    life = longest_life(found.samples)
    ages = [_middle([one.age_ms_p95 for one in part if one.age_ms_p95 is not None]) for part in (first, last)]
    return {
        "minutes": found.minutes,
        "seed": found.seed,
        "obs": found.obs,
        "ended": found.ended,
        "prompts": found.prompts,
        "scenes": found.scenes,
        "faults": len(found.rows),
        "faults_failed": sum(not row.passed for row in found.rows),
        "engines": len({one.engine_pid for one in found.samples if one.engine_pid is not None}),
        "rss_grown_mib": {part: _grown(first, last, f"{part}_rss_mib") for part in ("service", "engine")},
        "threads_grown": {part: _grown(first, last, f"{part}_threads") for part in ("service", "engine")},
        "descriptors_grown": {part: _grown(first, last, f"{part}_descriptors") for part in ("service", "engine")},
        "shared_memory_grown": _grown(first, last, "shared_memory"),
        "engine_life": life,
        "latency_ms_p95": {"first": round(ages[0], 1), "last": round(ages[1], 1)},
        "latency_drift": round(ages[1] / ages[0], 4),
        "latency_change": round(abs(ages[1] / ages[0] - 1), 4),
        "fps_p1": round(float(np.percentile(_per_second(found.told), 1)), 2),
        "searched": found.searched,
        "raw": found.raw,
        "stops": found.stops,
        "stops_at": stops_at(found.told),
    }


def stops_at(told: Sequence[Told]) -> list[dict[str, float]]:
    """When the output stood for more than two intervals, from the first told on, and its longest gap about then."""
    return [
        {"at_s": round(after.at - told[0].at, 1), "gap_ms": round(after.gap_ms, 1)}
        for before, after in pairwise(told)
        if after.stops > before.stops
    ]


def longest_life(samples: Sequence[Sample]) -> dict[str, float]:
    """How long the longest-lived engine lived, and what it grew by meanwhile, from its first sixth to its last.

    Engines that are killed every minute would hide what a single one keeps.
    """
    lives = [list(life) for pid, life in groupby(samples, lambda one: one.engine_pid) if pid is not None]
    lives = [[one for one in life if one.engine_rss_mib is not None] for life in lives]
    longest = max(lives, key=lambda life: life[-1].at_s - life[0].at_s if life else 0.0, default=[])
    if not longest:
        return {"longest_s": 0.0, "rss_grown_mib": 0.0, "threads_grown": 0.0, "descriptors_grown": 0.0}
    span_s = longest[-1].at_s - longest[0].at_s
    begin_s = longest[0].at_s + min(_LIFE_WARM_S, span_s / 3)
    part_s = (longest[-1].at_s - begin_s) * PART
    first = [one for one in longest if begin_s <= one.at_s <= begin_s + part_s]
    last = [one for one in longest if one.at_s >= longest[-1].at_s - part_s]
    grown = {f"{what}_grown": _grown(first, last, f"engine_{what}") for what in ("threads", "descriptors")}
    return {"longest_s": round(span_s, 1), "rss_grown_mib": _grown(first, last, "engine_rss_mib"), **grown}


def _grown(first: Sequence[Sample], last: Sequence[Sample], name: str) -> float:
    """From the median of one part to that of the other."""
    before, after = ([value for one in part if (value := getattr(one, name)) is not None] for part in (first, last))
    return round(float(np.median(after) - np.median(before)), 2) if before and after else 0.0


def _middle(values: Sequence[float]) -> float:
    """The mean of the middle half: ages come in steps of the output's interval, and a median jumps by a whole one."""
    ordered, cut = np.sort(values), len(values) // 4
    return float(ordered[cut : len(ordered) - cut].mean())


def _per_second(told: Sequence[Told]) -> list[float]:
    """Pictures published a second, in each second or a little more."""
    found, begin = [], told[0]
    for one in told:
        if one.at - begin.at >= 1.0:
            found.append((one.published - begin.published) / (one.at - begin.at))
            begin = one
    return found
