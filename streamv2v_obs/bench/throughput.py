"""As fast as it can: the whole pipeline, what the bank costs, and what each rung of the ladder gains."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from streamv2v_obs.bench import results
from streamv2v_obs.bench.models import open_model
from streamv2v_obs.bench.results import TIMED
from streamv2v_obs.bench.subject import Say, Subject
from streamv2v_obs.bench.timing import WINDOWS, Arm, moving_input, new_arm, take_turns, waiting
from streamv2v_obs.settings import SpeedSettings


@dataclass(frozen=True)
class Effort:
    """``repeats`` times ``frames`` are measured, after at most ``windows`` of ``window`` frames that warm up.

    ``repeats`` of arms that take turns are rounds of at least two intervals of the bank for each arm.
    """

    frames: int = 500
    repeats: int = 5
    window: int = 50
    windows: int = 4 * WINDOWS


def protocol(effort: Effort, warm: int, described: str, *, interleaved: bool, timed: int) -> results.Section:
    """The schema's ``protocol``: ``warm`` frames came before, ``timed`` ones of each repeat count."""
    return {
        "warmup_frames": warm,
        "timed_frames": timed,
        "repeats": effort.repeats,
        "interleaved": interleaved,
        "timer": "perf_counter+sync",
        "input": described,
        "source_fps": None,
        "includes": list(TIMED),
        "excludes": ["capture", "publish"],
    }


def _block(subject: Subject, effort: Effort) -> int:
    """Frames of a block: whole intervals, so that each block of an arm holds as many updates."""
    interval = subject.settings.translator.bank.interval
    return interval * max(1, min(20, effort.frames // 2) // interval)


def time_arms(arms: Sequence[Arm], subject: Subject, effort: Effort) -> tuple[int, bool]:
    """Warm the arms up, and let them take turns; frames of warm-up, and whether all became steady."""
    warm = [arm.warm_up(effort.window, at_most=effort.windows) for arm in arms]
    block = _block(subject, effort)
    for _ in range(effort.repeats * max(1, effort.frames // (2 * block))):
        take_turns(arms, block)
    return max(frames for frames, _ in warm), all(steady for _, steady in warm)


def pipeline(subject: Subject, effort: Effort, out: Path, say: Say) -> Path:
    """Pictures a second of the whole way, uint8 in and out on the host, as the settings have it."""
    arm, described = subject.arm("pipeline")
    try:
        warm, steady = arm.warm_up(effort.window, at_most=effort.windows)
        fps = [1000 / float(np.mean(arm.run(effort.frames))) for _ in range(effort.repeats)]
        found = arm.figures() | {
            "fps_steady": round(float(np.median(fps)), 2),
            "fps_repeats": [round(value, 2) for value in fps],
        }
        found["update_costs_ms"] = _update_costs(arm)
        found["stages_ms"] = stages(subject)
    finally:
        arm.translator.close()
    say(f"{subject.name}: {found['fps_steady']} fps, a frame takes {found['frame_ms']['p50']:.1f} ms at the median")
    return subject.write(
        out / f"pipeline_{subject.name}.json",
        "pipeline",
        arm.translator,
        protocol(effort, warm, described, interleaved=False, timed=effort.frames),
        found,
        "frame_ms includes the bank's update, latency_ms.compute ends before it.",
        [{"name": "three windows of the warm-up agreed within 2 %", "pass": steady}],
    )


def stages(subject: Subject, repeats: int = 50) -> results.Section:
    """The autoencoder alone: host pixels to latents on the device, and back."""
    coder, wait = subject.model.autoencoder, waiting(subject.model)
    _, pictures = moving_input(subject.width, subject.height)
    encode: list[float] = []
    decode: list[float] = []
    for _ in range(repeats + 3):
        picture = next(pictures)
        began_at = time.perf_counter()
        latents = coder.encode(picture)
        wait()
        encoded_at = time.perf_counter()
        coder.decode(latents)
        decode.append(1000 * (time.perf_counter() - encoded_at))
        encode.append(1000 * (encoded_at - began_at))
    both = [first + second for first, second in zip(encode, decode, strict=True)]
    named = {"encode": encode, "decode": decode, "encode_decode": both}
    return {name: results.spread(times[3:]) for name, times in named.items()}  # the first ones choose kernels


def _update_costs(arm: Arm) -> float | None:
    """How much longer a frame with an update takes than one without, medians; None where only one kind was seen."""
    updates, plain = arm.of_updates(True), arm.of_updates(False)
    return round(float(np.median(updates) - np.median(plain)), 3) if updates and plain else None


BANKS: dict[str, dict[str, Any]] = {
    "off": {"kind": "off"},
    "queue 1": {"kind": "queue", "length": 1},
    "queue 2": {"kind": "queue", "length": 2},
    "queue 4": {"kind": "queue", "length": 4},
    "dyme": {"kind": "dyme"},
}
"""The paper's Table 2."""


def bank(subject: Subject, effort: Effort, out: Path, say: Say, *, queues: bool = True) -> Path:
    """What each kind of bank costs, in time and memory, beside none; all in turns in one process."""
    kept = subject.settings.translator.bank.model_dump()
    chosen = {name: changes for name, changes in BANKS.items() if queues or changes["kind"] != "queue"}
    opened = [subject.arm(name, bank=kept | changes) for name, changes in chosen.items()]
    arms, described = [arm for arm, _ in opened], opened[0][1]
    try:
        warm, steady = time_arms(arms, subject, effort)
        off, dyme = arms[0], arms[-1]
        found: results.Section = dyme.figures()
        ratio, interval = results.ratio_of_medians(dyme.blocks_ms, off.blocks_ms)
        found["bank_overhead"] = {
            "off_ms_p50": round(float(np.median(off.blocks_ms)), 3),
            "on_ms_p50": round(float(np.median(dyme.blocks_ms)), 3),
            "ratio": ratio,
            "ratio_ci95": interval,
        }
        found["update_costs_ms"] = _update_costs(dyme)
        found["arms"] = {}
        for arm in arms:
            ratio, interval = results.ratio_of_medians(arm.blocks_ms, off.blocks_ms)
            mib = round(arm.translator.bank_bytes / 2**20, 2)
            found["arms"][arm.name] = {
                "frame_ms": results.spread(arm.frame_ms),
                "ratio": ratio,
                "ratio_ci95": interval,
                "bank_mib": mib,
            }
            say(f"{arm.name}: {np.median(arm.blocks_ms):.1f} ms, {ratio} times none, bank {mib} MiB")
    finally:
        for arm in arms:
            arm.translator.close()
    return subject.write(
        out / f"bank_{subject.name}.json",
        "bank",
        dyme.translator,
        protocol(effort, warm, described, interleaved=True, timed=len(dyme.frame_ms) // effort.repeats),
        found,
        "Ratios are of medians over blocks of whole update intervals, paired by round; bank_mib includes the room for "
        "the current frame's features.",
        [{"name": "three windows of the warm-up agreed within 2 %", "pass": steady}],
    )


@dataclass(frozen=True)
class Rung:
    """One way of running the same model; ``translator`` changes how it is driven, ``dtype`` how it is loaded."""

    name: str
    translator: dict[str, Any]
    dtype: Literal["float32"] | None = None
    """None: the settings' own."""


_LADDER: tuple[tuple[str, str], ...] = (
    ("joined_qkv", "joined qkv"),
    ("cached_prompt", "cached prompt"),
    ("cached_time", "cached time"),
    ("late_update", "late update"),
    ("pinned", "pinned"),
    ("graphs", "graphs"),
    ("channels_last", "channels_last"),
    ("direct_keys", "direct keys"),
    ("compile", "compile"),
    ("fused_activations", "fused activations"),
    ("fused_norms", "fused norms"),
    ("folded_output", "folded output"),
)
_ON_CUDA = ("pinned", "graphs", "direct_keys", "fused_activations", "fused_norms", "folded_output")
_COMPILED = ("compile", "fused_activations", "fused_norms", "folded_output")


def rungs(subject: Subject, *, compiling: bool = False) -> list[Rung]:
    """Each rung with all that stands below it, the published order of operations first; ``compiling`` takes minutes.

    Left out are those that cannot be had on the device.
    """
    cuda = subject.model.device.type == "cuda"
    speed: dict[str, Any] = dict.fromkeys(SpeedSettings.model_fields, False)
    given: dict[str, Any] = {"attention": "sdpa"}
    found = [Rung("float32", given | {"speed": dict(speed)}, "float32")]
    if subject.model.dtype is not torch.float32:
        found.append(Rung("half precision", given | {"speed": dict(speed)}))
    for key, name in _LADDER:
        if (key in _ON_CUDA and not cuda) or (key in _COMPILED and not compiling):
            continue
        speed[key] = True
        found.append(Rung(name, given | {"speed": dict(speed)}))
    if cuda:
        found.append(Rung("attention a level", {"attention": "auto", "speed": dict(speed)}))
        found.append(Rung("padded heads", {"attention": "auto", "speed": speed | {"padded_heads": "auto"}}))
    return found


def ladder(subject: Subject, effort: Effort, out: Path, say: Say, *, compiling: bool = False) -> Path:
    """Each rung's frame time, all in turns in one process; a rung that cannot be had here is left out.

    torch computes, whatever model.backend says: OpenVINO's graphs know no rungs.
    """
    arms: list[Arm] = []
    described = ""
    for rung in rungs(subject, compiling=compiling):
        # A model each: translators over one share its memory layout, and what is put into it.
        own = subject.settings.model
        model, _ = open_model(own.model_copy(update={"dtype": rung.dtype or own.dtype, "backend": "torch"}))
        settings = subject.translator(**rung.translator)
        arm, described = new_arm(rung.name, model, settings, subject.width, subject.height)
        arms.append(arm)
    try:
        warm, steady = time_arms(arms, subject, effort)
        last = arms[-1]
        found = last.figures()
        found["rungs"] = []
        for before, arm in zip([arms[0], *arms], arms, strict=False):
            gain, interval = results.ratio_of_medians(before.blocks_ms, arm.blocks_ms)
            found["rungs"].append(
                {
                    "name": arm.name,
                    "frame_ms": results.spread(arm.frame_ms),
                    "gain": gain,
                    "gain_ci95": interval,
                    "path": arm.translator.path,
                }
            )
            say(f"{arm.name}: {np.median(arm.blocks_ms):.1f} ms, {gain} times as fast as the rung before")
    finally:
        for arm in arms:
            arm.translator.close()
    return subject.write(
        out / f"ladder_{subject.name}.json",
        "ladder",
        last.translator,
        protocol(effort, warm, described, interleaved=True, timed=len(last.frame_ms) // effort.repeats),
        found,
        "Figures outside rungs are the last rung's. gain compares with the rung before; the first one's is 1. "
        "torch computes all of them.",
        [{"name": "three windows of the warm-up agreed within 2 %", "pass": steady}],
    )
