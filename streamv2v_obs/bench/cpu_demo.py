"""How fast the demo model is on a CPU, uint8 in to uint8 out: sizes, steps, with and without bank, each backend."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from streamv2v_obs.bench import cold_start, results
from streamv2v_obs.bench.results import TIMED
from streamv2v_obs.bench.timing import Arm, new_arm, take_turns
from streamv2v_obs.eval.arms import CARRIED
from streamv2v_obs.settings import BankSettings, ModelSettings, Settings, TranslatorSettings
from streamv2v_obs.translator.loading import Model, load_model

SIZES = (256, 384, 512)
STEPS = (1, 2, 4)
HEADLINE = (256, 2)
FILE = "cpu_demo.json"
_REPEATS = 5


@dataclass(frozen=True)
class Plan:
    """What to measure and for how long; the two arms of a cell share ``seconds`` of it."""

    sizes: Sequence[int] = SIZES
    steps: Sequence[int] = STEPS
    seconds: float = 5.0
    headline_seconds: float = 25.0
    cold: int = 3


def backends() -> dict[str, ModelSettings]:
    """What the demo model runs on here: torch, and OpenVINO where the extra is installed."""
    found = {"torch": ModelSettings(name="demo", device="cpu", backend="torch")}
    if find_spec("openvino"):
        found["openvino"] = ModelSettings(name="demo", device="cpu", backend="openvino")
    return found


Changes: TypeAlias = Mapping[str, Mapping[str, Any]]
"""An arm's name -> what it changes of the settings."""

_BANKS: Changes = {"on": {}, "off": {"bank": BankSettings(kind="off")}}
_CARRIED: Changes = {"carried": CARRIED, "on": {}}


def measure_cell(
    model: Model, size: int, steps: int, seconds: float, rounds: int = 1, changes: Changes = _BANKS
) -> tuple[list[Arm], str]:
    """Arms with these ``changes`` in turns for ``seconds``, at least ``rounds`` rounds; and what they saw."""
    interval = BankSettings().interval
    arms, described = [], ""
    for name, changed in changes.items():
        arm, described = new_arm(name, model, TranslatorSettings(steps=steps, **changed), size, size)
        arms.append(arm)
    try:
        for arm in arms:
            arm.run(interval + 1)  # the first store, and the first merge
            arm.forget()
        ends_at = time.monotonic() + seconds
        while len(arms[0].blocks_ms) < rounds or time.monotonic() < ends_at:
            # Blocks as long as the interval, so that each block holds one update.
            take_turns(arms, interval)
    finally:
        for arm in arms:
            arm.translator.close()
    return arms, described


def cell_figures(arms: Sequence[Arm]) -> results.Section:
    """One cell of the grid."""
    on, off = arms
    ratio, interval = results.ratio_of_medians(on.blocks_ms, off.blocks_ms)
    return {
        "fps": round(1000 / float(np.mean(on.frame_ms)), 2),
        "fps_bank_off": round(1000 / float(np.mean(off.frame_ms)), 2),
        "frame_ms": results.spread(on.frame_ms),
        "frame_ms_bank_off": results.spread(off.frame_ms),
        "ratio": ratio,
        "ratio_ci95": interval,
    }


def headline_figures(arms: Sequence[Arm]) -> results.Section:
    """The schema's figures of the cell that goals are about."""
    on, off = arms
    ratio, interval = results.ratio_of_medians(on.blocks_ms, off.blocks_ms)
    parts = np.array_split(np.array(on.frame_ms), min(_REPEATS, len(on.blocks_ms)))
    fps = [1000 / float(np.mean(part)) for part in parts]
    return on.figures() | {
        "fps_steady": round(float(np.median(fps)), 2),
        "fps_repeats": [round(value, 2) for value in fps],
        "bank_overhead": {
            "off_ms_p50": round(float(np.median(off.blocks_ms)), 3),
            "on_ms_p50": round(float(np.median(on.blocks_ms)), 3),
            "ratio": ratio,
            "ratio_ci95": interval,
        },
        "cpu_ms_per_frame": {arm.name: round(arm.cpu_ms / len(arm.frame_ms), 3) for arm in arms},
    }


def measure(plan: Plan, out: Path, say: Callable[[str], None]) -> Path:
    """Write ``out``/cpu_demo.json; tells each cell as it is done."""
    import torch

    load_before = results.load_now()
    starts = cold_start.measure(HEADLINE[1], plan.cold)
    startup = {name: round(float(np.median([start[name] for start in starts])), 3) for name in starts[0]}
    say(f"cold start {startup['first_frame_s']} s")
    grid: results.Section = {}
    found: results.Section = {}
    protocol: results.Section = {}
    dtype = ""
    arms_of = backends()
    for backend, settings in arms_of.items():
        model = load_model(settings)
        for size in plan.sizes:
            for steps in plan.steps:
                headline = (size, steps) == HEADLINE
                seconds = plan.headline_seconds if headline else plan.seconds
                arms, described = measure_cell(model, size, steps, seconds, _REPEATS if headline else 1)
                cell = grid[f"{backend}_{size}_s{steps}"] = cell_figures(arms)
                say(f"{backend}, {size}x{size}, S={steps}: {cell['fps']} fps, off {cell['fps_bank_off']} fps")
                if headline and backend == "torch":
                    found, dtype = headline_figures(arms), str(model.dtype).removeprefix("torch.")
                    protocol = _protocol(described, arms)
                    (carried, on), _ = measure_cell(model, size, steps, seconds, _REPEATS, _CARRIED)
                    ratio, interval = results.ratio_of_medians(carried.blocks_ms, on.blocks_ms)
                    found["carried"] = {"shares": CARRIED, "ratio": ratio, "ratio_ci95": interval}
                    say(f"carried on: {ratio} times that")
    if not found:
        raise ValueError(f"a plan needs {HEADLINE[0]} among its sizes and {HEADLINE[1]} among its steps")
    config = results.configuration(
        Settings(translator=TranslatorSettings(steps=HEADLINE[1])),
        model="demo",
        dtype=dtype,
        schedule="stream",
        width=HEADLINE[0],
        height=HEADLINE[0],
    )
    path = out / FILE
    results.write(
        path,
        "cpu-demo",
        command=results.command_line(),
        env=results.environment("cpu", load_before, torch.get_num_threads()),
        config=config,
        protocol=protocol,
        results=found | {"startup": startup, "grid": grid},
        checks=[],
        notes="config, protocol and the figures outside grid are those of torch, 256x256, two steps; grid holds all "
        "cells, by backend, size and steps. frame_ms includes the bank's update, latency_ms.compute ends before it. "
        "Ratios compare means of blocks of frames, so that updates weigh what they cost. startup is the median of "
        "fresh processes, in which torch computes; first_frame_s counts from the start of the process. "
        + ("" if "openvino" in arms_of else "OpenVINO was not installed."),
    )
    return path


def _protocol(described: str, arms: Sequence[Arm]) -> results.Section:
    return {
        "warmup_frames": BankSettings().interval + 1,
        "timed_frames": len(arms[0].frame_ms),
        "repeats": 1,
        "interleaved": True,
        "timer": "perf_counter+sync",
        "input": described,
        "source_fps": None,
        "includes": list(TIMED),
        "excludes": ["capture", "publish"],
    }
