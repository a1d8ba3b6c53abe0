"""What was seen of a service that OBS led, in figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from streamv2v_obs.bench import results
from streamv2v_obs.errors import StreamV2VError

MIXED = 0.1
"""A picture mixes prompts if it is further from what its own alone makes than this share of what lies between them."""


@dataclass
class Told:
    """What was seen of a leg; times in ms, from the moment before OBS was asked."""

    picture_ms: list[float] = field(default_factory=list)
    """To the first picture of the new prompt in a viewer's hand."""
    applied_ms: list[float] = field(default_factory=list)
    """To the change in the engine, between two frames."""
    distances: list[float] = field(default_factory=list)
    """From every picture, the first question on, to what its prompt alone makes."""
    back: int = 0
    """Pictures of the prompt before, after one of the new prompt."""


@dataclass(frozen=True)
class Return:
    """How far the pictures of a scene that came back are from the one it was left with."""

    first: float
    """The first one."""
    then: float
    """The mean of those after it."""


def figures(
    legs: Mapping[str, Told], apart: float, frame_ms: float, restored: list[Return], emptied: list[Return]
) -> results.Section:
    """The schema's ``results``."""
    distances = [d for leg in legs.values() for d in leg.distances]
    if not any(one.then for one in emptied):
        raise StreamV2VError("a scene came back as it was left although its bank was emptied: nothing to compare")
    ratio, interval = results.ratio_of_medians([r.then for r in restored], [r.then for r in emptied])
    over_ms = [ms - frame_ms for ms in legs["event"].applied_ms]
    return {
        "latency_ms": {key: _spread(leg.picture_ms) for key, leg in legs.items()},
        "applied_ms": {key: _spread(leg.applied_ms) for key, leg in legs.items()},
        "translate_ms": round(frame_ms, 1),
        "event_less_a_frame_ms": _spread(over_ms),
        "mixed": {
            "pictures": len(distances),
            "mixed": sum(d > MIXED * apart for d in distances),
            "back": sum(leg.back for leg in legs.values()),
            "prompts_apart": round(apart, 2),
            "furthest": {key: round(max(leg.distances), 3) for key, leg in legs.items()},
        },
        "restore": {
            "returns": len(restored),
            "restored": _means(restored),
            "reset": _means(emptied),
            "ratio": ratio,
            "ratio_ci95": interval,
        },
    }


def _spread(values: Sequence[float]) -> results.Section:
    return results.spread(values) | {"p95": round(float(np.percentile(values, 95)), 4)}


def _means(came: list[Return]) -> results.Section:
    return {
        "first": round(float(np.mean([one.first for one in came])), 3),
        "then": round(float(np.mean([one.then for one in came])), 3),
    }
