"""What a live user meets: the age of pictures at 30 a second, memory over ten thousand frames, a change of prompt."""

from __future__ import annotations

import sys
import time
from itertools import count
from pathlib import Path

import numpy as np
import psutil

from streamv2v_obs.bench import results
from streamv2v_obs.bench.results import TIMED
from streamv2v_obs.bench.subject import Say, Subject
from streamv2v_obs.bench.timing import Arm, Timed
from streamv2v_obs.frames import Frame


def _protocol(warm: int, timed: int, described: str, fps: float | None, *, repeats: int = 1) -> results.Section:
    return {
        "warmup_frames": warm,
        "timed_frames": timed,
        "repeats": repeats,
        "timer": "perf_counter+sync",
        "input": described,
        "source_fps": fps,
        "includes": list(TIMED),
        "excludes": ["capture", "publish"],
    }


# --- latency ------------------------------------------------------------------------------------------------


def follow(arm: Arm, fps: float, seconds: float) -> results.Section:
    """Take the newest picture of a source of ``fps`` whenever free, as the engine does, for ``seconds``.

    ``content_age`` runs from a picture's capture to the moment at which its translation is there.
    """
    ages: list[float] = []
    delays: list[float] = []
    began_at = time.monotonic()
    last = -1
    while True:
        due = int((time.monotonic() - began_at) * fps)
        if due <= last:  # nothing new yet
            time.sleep(max(0.0, began_at + (last + 1) / fps - time.monotonic()))
            continue
        if due >= seconds * fps:
            break
        captured_at = began_at + due / fps
        taken_at = time.monotonic()
        answer = arm.translator.step(Frame(next(arm.pictures), captured_at, due))
        now = time.monotonic()
        if answer is not None:
            ages.append(1000 * (now - answer.captured_at))
        delays.append(1000 * (now - taken_at))
        arm.translator.settle()
        arm.wait()
        last = due
    captured, processed = int(seconds * fps), len(delays)
    return {
        "fps_steady": round(processed / seconds, 2),
        "latency_ms": {
            "compute": results.spread(delays),
            "content_age": results.spread(ages),
            "algorithmic_frames": arm.frames_late,
        },
        "frames": {"captured": captured, "processed": processed, "dropped": captured - processed},
        "dropped_share": round((captured - processed) / captured, 5),
    }


def latency(subject: Subject, fps: float, seconds: float, warm_up: int, out: Path, say: Say) -> Path:
    """The age of the pictures under both schedules; the figures outside ``schedules`` are the settings' own."""
    schedules = ("stream", "sequential") if subject.settings.translator.steps > 1 else ("sequential",)
    found: results.Section = {}
    used: dict[str, Timed] = {}
    described = ""
    for schedule in schedules:
        arm, described = subject.arm(schedule, schedule=schedule)
        used[schedule] = arm.translator
        try:
            arm.run(warm_up)
            found[schedule] = follow(arm, fps, seconds)
        finally:
            arm.translator.close()
        age = found[schedule]["latency_ms"]["content_age"]
        say(f"{schedule}: {found[schedule]['fps_steady']} fps, age {age['p50']:.0f} ms (99 %: {age['p99']:.0f})")
    wanted = subject.settings.translator.schedule
    chosen = wanted if wanted in found else schedules[0]
    return subject.write(
        out / f"latency_{subject.name}.json",
        "latency",
        used[chosen],
        _protocol(warm_up, found[chosen]["frames"]["processed"], described, fps),
        found[chosen] | {"schedules": found},
        "The translator alone, fed by a clock: content_age ends where the answer is there, before an output paces it.",
    )


# --- soak ---------------------------------------------------------------------------------------------------


def slope(frames: list[int], values: list[float]) -> tuple[float, list[float]]:
    """Of the straight line through at least three points, and its 95 % interval."""
    x, y = np.asarray(frames, np.float64), np.asarray(values, np.float64)
    centred = x - x.mean()
    rise = float(centred @ (y - y.mean()) / (centred @ centred))
    left = y - y.mean() - rise * centred
    error = float(np.sqrt((left @ left) / max(1, len(x) - 2) / (centred @ centred)))
    return rise, [rise - 1.96 * error, rise + 1.96 * error]


def soak(subject: Subject, frames: int, samples: int, warm_up: int, out: Path, say: Say) -> Path:
    """Memory over a long run: nothing may grow."""
    import torch

    on_gpu = subject.model.device.type == "cuda"
    process = psutil.Process()
    arm, described = subject.arm("soak")
    series: list[results.Section] = []

    def sample(frame: int) -> None:
        rss = process.memory_info().rss
        allocated = torch.cuda.memory_allocated(subject.model.device) if on_gpu else rss
        entry = {"frame": frame, "allocated_mib": allocated / 2**20, "rss_mib": rss / 2**20}
        if on_gpu:
            entry["reserved_mib"] = torch.cuda.memory_reserved(subject.model.device) / 2**20
        series.append({key: round(value, 4) for key, value in entry.items()})

    try:
        arm.run(warm_up)
        arm.forget()
        sample(0)
        every = max(1, frames // samples)
        done = 0
        while done < frames:
            arm.run(min(every, frames - done))
            done = min(frames, done + every)
            sample(done)
        found = arm.figures()
        bank_bytes = arm.translator.bank_bytes
    finally:
        arm.translator.close()
    at = [int(entry["frame"]) for entry in series]
    rise, interval = slope(at, [entry["allocated_mib"] * 2**20 for entry in series])
    grown = round((series[-1]["allocated_mib"] - series[0]["allocated_mib"]) * 2**20)
    found["memory"] |= {
        "series": series,
        "slope_bytes_per_frame": round(rise, 3),
        "slope_ci95": [round(value, 3) for value in interval],
        "grown_bytes": grown,
        "bank_bytes": bank_bytes,
    }
    say(f"{frames} frames: {grown} bytes more, {rise:.1f} bytes a frame")
    return subject.write(
        out / f"soak_{subject.name}.json",
        "soak",
        arm.translator,
        _protocol(warm_up, frames, described, None),
        found,
        "allocated_mib is what torch has handed out on the GPU; on a CPU, which keeps no such count, the resident "
        "memory of the process.",
    )


# --- prompt-switch ------------------------------------------------------------------------------------------


def _compilations() -> int:
    """Graphs that torch has compiled in this process."""
    if "torch._dynamo" not in sys.modules:
        return 0
    from torch._dynamo.utils import counters

    return int(counters["stats"].get("unique_graphs", 0))


PROMPTS = ("a watercolor painting", "a pencil drawing", "neon lights", "an oil painting")


def prompt_switch(subject: Subject, switches: int, every: int, warm_up: int, out: Path, say: Say) -> Path:
    """What a new prompt costs: its encoding, the longest frame, and how soon it is seen."""
    arm, described = subject.arm("switching")
    encode_ms: list[float] = []
    stalls: list[float] = []
    until_new: list[int] = []
    fps = subject.settings.capture.fps
    try:
        arm.run(warm_up)
        arm.forget()
        compiled = _compilations()
        for number in range(switches):
            plain = arm.run(every)
            began_at = time.perf_counter()
            # None twice: the translator keeps what it has encoded.
            arm.translator.set_prompt(f"{PROMPTS[number % len(PROMPTS)]}, take {number + 1}")
            arm.wait()
            encode_ms.append(1000 * (time.perf_counter() - began_at))
            asked = arm.index
            for waited in count(1):
                before = time.perf_counter()
                answer = arm.translator.step(Frame(next(arm.pictures), time.monotonic(), arm.index))
                arm.translator.settle()
                arm.wait()
                took = 1000 * (time.perf_counter() - before)
                arm.index += 1
                if waited == 1:
                    stalls.append(encode_ms[-1] + took - float(np.median(plain)))
                if answer is not None and answer.index >= asked:
                    until_new.append(waited)
                    break
        found = arm.figures()
        compiled = _compilations() - compiled
    finally:
        arm.translator.close()
    found["prompt_switch"] = {
        "encode_ms": results.spread(encode_ms),
        "stall_ms_max": round(max(stalls), 3),
        "frames_until_new": max(until_new),
        "recompiles": compiled,
        "dropped_frames": int(max(0.0, *stalls) * fps / 1000),
    }
    say(f"encoded in {np.median(encode_ms):.1f} ms, longest stall {max(stalls):.1f} ms, {compiled} recompilations")
    return subject.write(
        out / f"prompt-switch_{subject.name}.json",
        "prompt-switch",
        arm.translator,
        _protocol(warm_up, switches * every, described, None, repeats=switches),
        found,
        f"A stall is encoding plus the frame after it, less the median of the {every} frames before; dropped_frames "
        f"is how many source periods of 1/{fps:g} s the longest one holds.",
    )
