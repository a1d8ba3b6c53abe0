"""From records to statements: each arm's figures over clips, and which order holds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np

from streamv2v_obs.demo.clips import HIDDEN_LAG
from streamv2v_obs.eval.attention import mean_of_layers
from streamv2v_obs.eval.statistics import Comparison, Estimate, compare, mean_of, ratio_of_means
from streamv2v_obs.eval.suite import Record

Value = Callable[[Record], float | None]

ROUNDING = 0.005
"""A control that changes the error by less than this share helps nothing, however sure the bootstrap is of it."""


@dataclass(frozen=True)
class Order:
    """``more`` flickers more than ``less`` at ``lag``, say the paper or we; ``no_worse``: at least as much."""

    name: str
    more: str
    less: str
    lag: int
    no_worse: bool = False


ORDERS = (
    Order("off > ff", "off", "ff", 1),
    Order("ff > ea", "ff", "ea", 1),
    Order("off > queue 1", "off", "queue 1", 1),
    Order("queue 1 > queue 2", "queue 1", "queue 2", 1),
    Order("queue 2 > queue 4", "queue 2", "queue 4", 1),
    *(Order(f"queue 1 > dyme lag {lag}", "queue 1", "dyme", lag) for lag in (4, 8, 16)),
    Order("ea >= dyme", "ea", "dyme", 1, no_worse=True),
    *(Order(f"dyme > carried lag {lag}", "dyme", "carried", lag) for lag in (1, 4, 8, 16)),
    Order("dyme > carried after hiding", "dyme", "carried", HIDDEN_LAG),
)
KEPT_SHARPNESS = 0.95
"""What pictures that are carried on have to keep of the published method's; what they cost, `bench cpu-demo` says."""
CONTROLS = ("own", "foreign")
BANKS = ("queue 1", "queue 2", "queue 4", "dyme")
"""Beside each other at every lag: what a larger bank adds is older, and may show where frames lie further apart."""


def warp(lag: int) -> Value:
    """The error at a lag."""
    return lambda record: record["warp_mse"].get(str(lag))


def still(record: Record) -> float | None:
    """The unrest of a still scene."""
    value: float | None = record["static_std"]
    return value


class Table:
    """All records, by arm; comparisons are of the same clips, prompts and seeds."""

    def __init__(self, records: Sequence[Record]) -> None:
        self.arms = list(dict.fromkeys(record["arm"] for record in records))
        self.clips = list(dict.fromkeys(record["clip"] for record in records))
        self._by_place = {(r["arm"], r["clip"], r["prompt"], r["seed"]): r for r in records}
        self.lags = sorted({int(lag) for record in records for lag in record["warp_mse"]})

    def paired(self, first: str, second: str, value: Value) -> tuple[list[float], list[float]]:
        """Of each clip the mean of both arms over those prompts and seeds that both have run."""
        pairs: dict[str, list[tuple[float, float]]] = {}
        for (arm, clip, prompt, seed), record in self._by_place.items():
            other = self._by_place.get((second, clip, prompt, seed))
            if arm != first or other is None:
                continue
            a, b = value(record), value(other)
            if a is not None and b is not None:
                pairs.setdefault(clip, []).append((a, b))
        means = [np.mean(found, axis=0) for found in pairs.values()]
        return [float(a) for a, _ in means], [float(b) for _, b in means]

    def mean(self, arm: str, value: Value) -> Estimate | None:
        """Over clips; None where the arm has no such value."""
        values, _ = self.paired(arm, arm, value)
        return mean_of(values) if values else None

    def ratio_to_off(self, arm: str, value: Value) -> Estimate | None:
        """Of means over clips."""
        values, off = self.paired(arm, "off", value)
        return ratio_of_means(values, off) if values else None

    def compared(self, first: str, second: str, value: Value) -> Comparison | None:
        """None where nothing is paired."""
        if first not in self.arms or second not in self.arms:
            return None
        values, others = self.paired(first, second, value)
        return compare(first, second, values, others) if values else None

    def style_distance(self, arm: str) -> Estimate | None:
        """How far style features are from those without a bank, in their own spread over clips; over clips."""
        off = np.array([r["style"] for (name, *_), r in self._by_place.items() if name == "off"])
        scale = off.std(0) + 1e-6
        distances: dict[str, list[float]] = {}
        for (name, *place), record in self._by_place.items():
            other = self._by_place.get(("off", *place))
            if name == arm and other is not None:
                apart = (np.array(record["style"]) - np.array(other["style"])) / scale
                distances.setdefault(place[0], []).append(float(np.sqrt(np.mean(np.square(apart)))))
        return mean_of([float(np.mean(found)) for found in distances.values()]) if distances else None

    def time_ms(self, arm: str) -> float:
        """The median over runs."""
        return float(np.median([r["ms"] for (name, *_), r in self._by_place.items() if name == arm]))

    def bank_mib(self, arm: str) -> float:
        """The same in every run."""
        return float(max(r["bank_mib"] for (name, *_), r in self._by_place.items() if name == arm))


def _est(estimate: Estimate | None) -> dict[str, Any] | None:
    return None if estimate is None else estimate.as_json()


def _arm(table: Table, name: str) -> dict[str, Any]:
    first = table.lags[0]
    found: dict[str, Any] = {
        "name": name,
        "warp_mse": _est(table.mean(name, warp(first))),
        "static_std": _est(table.mean(name, still)),
        "feat_cos": _est(table.mean(name, lambda r: float(r["feat_cos"]))),
        "sharpness_ratio": _est(table.ratio_to_off(name, lambda r: float(r["sharpness"]))),
        "style_dist": _est(table.style_distance(name)),
        "static_std_ratio": _est(table.ratio_to_off(name, still)),
        "ms": round(table.time_ms(name), 3),
        "mem_mib": round(table.bank_mib(name), 3),
        "by_lag": {
            str(lag): {
                "warp_mse": _est(table.mean(name, warp(lag))),
                "ratio": _est(table.ratio_to_off(name, warp(lag))),
            }
            for lag in table.lags
        },
    }
    return {key: value for key, value in found.items() if value is not None}


def _pair(name: str, lag: int, compared: Comparison, holds: bool) -> dict[str, Any]:
    return {
        "name": name,
        "a": compared.a,
        "b": compared.b,
        "lag": lag,
        "delta": compared.delta.as_json(),
        "ratio": compared.ratio.as_json(),
        "wins": compared.wins,
        "n": compared.n,
        "holds": holds,
    }


def _by_prompt(records: Sequence[Record]) -> list[dict[str, Any]]:
    """Of each prompt the error without a bank and each arm's share of it: a bank cures what a style leaves open."""
    found = []
    for prompt in dict.fromkeys(record["prompt"] for record in records):
        table = Table([record for record in records if record["prompt"] == prompt])
        by_lag = {
            str(lag): {
                "warp_mse": _est(table.mean("off", warp(lag))),
                "ratio": {arm: _est(table.ratio_to_off(arm, warp(lag))) for arm in table.arms if arm != "off"},
            }
            for lag in table.lags
        }
        found.append({"prompt": prompt, "by_lag": by_lag})
    return found


def summarize(records: Sequence[Record]) -> dict[str, Any]:
    """The schema's ``results``: arms, orders whose arms were run, controls, arms beside off, banks beside banks."""
    table = Table(records)
    pairs, holds = [], {}
    for order in ORDERS:
        compared = table.compared(order.more, order.less, warp(order.lag))
        if compared is not None:
            holds[order.name] = compared.not_smaller if order.no_worse else compared.larger
            pairs.append(_pair(order.name, order.lag, compared, holds[order.name]))
    for control in CONTROLS:
        compared = table.compared("off", control, warp(table.lags[0]))
        if compared is not None:
            name = f"{control} helps nothing"
            holds[name] = not compared.larger or abs(compared.ratio.mean - 1) < ROUNDING
            pairs.append(_pair(name, table.lags[0], compared, holds[name]))
    if {"dyme", "carried"} <= set(table.arms):
        sharp, soft = table.paired("dyme", "carried", lambda record: float(record["sharpness"]))
        holds["carried is as sharp"] = ratio_of_means(soft, sharp).mean >= KEPT_SHARPNESS
    beside = []
    for arm in table.arms[1:]:
        for lag in table.lags:
            compared = table.compared("off", arm, warp(lag))
            if compared is not None:
                beside.append(_pair(f"off > {arm} lag {lag}", lag, compared, compared.larger))
    between = [
        _pair(f"{first} > {second} lag {lag}", lag, compared, compared.larger)
        for first, second in combinations(BANKS, 2)
        for lag in table.lags
        if (compared := table.compared(first, second, warp(lag))) is not None
    ]
    return {
        "quality": {
            "clips": len(table.clips),
            "seeds": len({record["seed"] for record in records}),
            "arms": [_arm(table, name) for name in table.arms],
            "order_pairs": pairs,
            "beside_off": beside,
            "between_banks": between,
            "by_prompt": _by_prompt(records),
            "attention": {
                arm: mean_of_layers(told)
                for arm in table.arms
                if (told := [r["attention"] for r in records if r["arm"] == arm and "attention" in r])
            },
        },
        "holds": holds,
    }
