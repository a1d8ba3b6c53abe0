"""How fast the demo model is on a CPU, uint8 in to uint8 out, and what the feature bank costs."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from streamv2v_obs.bench import cold_start, results
from streamv2v_obs.capture.pattern import draw_pattern
from streamv2v_obs.demo.photographs import HELD_OUT, read_photograph
from streamv2v_obs.errors import ConfigError
from streamv2v_obs.frames import Frame, Pixels
from streamv2v_obs.settings import BankSettings, ModelSettings, Settings, TranslatorSettings
from streamv2v_obs.translator.loading import Model, load_model
from streamv2v_obs.translator.translator import Translator

log = logging.getLogger(__name__)

_PHOTOGRAPH = HELD_OUT[-1]
_AGREE = 0.02
_WINDOWS = 3
_BLOCK = 20
_GOAL_FPS = 15.0
_GOAL_RATIO = 1.25


@dataclass
class Arm:
    """One of the two translators that are compared; each sees the same pictures in the same order."""

    translator: Translator
    pictures: Iterator[Pixels]
    frame_ms: list[float] = field(default_factory=list)
    """Of every timed frame, the bank's update included."""
    delay_ms: list[float] = field(default_factory=list)
    """Until the picture was there; the update comes after it."""
    updated: list[bool] = field(default_factory=list)
    blocks_ms: list[float] = field(default_factory=list)
    """Mean of ``frame_ms`` over each pair of blocks of one ABBA."""
    cpu_ms: float = 0.0
    """Of all threads together."""
    index: int = 0

    def run(self, count: int) -> list[float]:
        """Translate ``count`` pictures; milliseconds of each. Nothing is kept of them but the counts."""
        taken: list[float] = []
        for _ in range(count):
            # Drawn beforehand: making the input is not what is measured.
            frame = Frame(next(self.pictures), time.monotonic(), self.index)
            self.index += 1
            updates = self.translator.bank_updates
            cpu_before = time.process_time()
            began_at = time.perf_counter()
            self.translator.step(frame)
            given_at = time.perf_counter()
            self.translator.settle()
            taken.append(1000 * (time.perf_counter() - began_at))
            self.cpu_ms += 1000 * (time.process_time() - cpu_before)
            self.delay_ms.append(1000 * (given_at - began_at))
            self.updated.append(self.translator.bank_updates > updates)
        self.frame_ms += taken
        return taken

    def warm_up(self, window: int, at_most: int) -> tuple[int, bool]:
        """Run until three windows agree; how many frames that took, and whether they did within ``at_most``."""
        means: list[float] = []
        agree = False
        while not agree and len(means) < at_most:
            means.append(float(np.mean(self.run(window))))
            last = means[-_WINDOWS:]
            agree = len(last) == _WINDOWS and max(last) <= min(last) * (1 + _AGREE)
        self.frame_ms, self.delay_ms, self.updated, self.cpu_ms = [], [], [], 0.0
        return window * len(means), agree

    def of_updates(self, updated: bool) -> list[float]:
        """``frame_ms`` of the frames with an update, or of those without."""
        return [ms for ms, was in zip(self.frame_ms, self.updated, strict=True) if was is updated]


def moving_input(width: int, height: int) -> tuple[str, Iterator[Pixels]]:
    """A photograph under a moving window, else the test pattern: its name, and pictures without end."""
    try:
        photograph = read_photograph(_PHOTOGRAPH)
    except ConfigError as error:
        log.warning("the test pattern stands in for a photograph: %s", error)
        return f"test pattern {width}x{height}", (draw_pattern(n, width, height) for n in _count())
    return f"photograph {_PHOTOGRAPH}, panning 2 and 1 pixels a frame", _pan(photograph, width, height)


def _pan(photograph: Pixels, width: int, height: int) -> Iterator[Pixels]:
    tiled = np.pad(photograph, ((0, height), (0, width), (0, 0)), mode="reflect")
    rows, columns, _ = photograph.shape
    for n in _count():
        y, x = _to_and_fro(n, rows), _to_and_fro(2 * n, columns)
        yield np.ascontiguousarray(tiled[y : y + height, x : x + width])


def _to_and_fro(travelled: int, room: int) -> int:
    place = travelled % (2 * room)
    return min(place, 2 * room - place)


def _count() -> Iterator[int]:
    n = 0
    while True:
        yield n
        n += 1


def measure(model: Model, steps: int, size: int, frames: int, repeats: int, window: int) -> results.Section:
    """``repeats`` times ``frames`` pictures of each arm, in blocks in the order on, off, off, on."""
    kinds = {"on": BankSettings(), "off": BankSettings(kind="off")}
    arms = {}
    for name, bank in kinds.items():
        described, pictures = moving_input(size, size)
        settings = TranslatorSettings(steps=steps, bank=bank)
        arms[name] = Arm(Translator(model, settings, width=size, height=size), pictures)
    on, off = arms["on"], arms["off"]
    warm = [arm.warm_up(window, at_most=4 * _WINDOWS) for arm in (on, off)]
    block = max(kinds["on"].interval, min(_BLOCK, frames // 2) // kinds["on"].interval * kinds["on"].interval)
    fps = []
    for _ in range(repeats):
        before = len(on.frame_ms)
        for _ in range(max(1, frames // (2 * block))):
            taken: dict[int, list[float]] = {id(on): [], id(off): []}
            for arm in (on, off, off, on):
                taken[id(arm)] += arm.run(block)
            for arm in (on, off):
                arm.blocks_ms.append(float(np.mean(taken[id(arm)])))
        fps.append(1000 / float(np.mean(on.frame_ms[before:])))
    ratio, interval = results.ratio_of_medians(on.blocks_ms, off.blocks_ms)
    found: results.Section = {
        "fps_steady": round(float(np.median(fps)), 2),
        "fps_repeats": [round(value, 2) for value in fps],
        "frame_ms": results.spread(on.frame_ms),
        "frame_ms_update": results.spread(on.of_updates(True)),
        "frame_ms_noupdate": results.spread(on.of_updates(False)),
        "latency_ms": {"compute": results.spread(on.delay_ms), "algorithmic_frames": steps - 1},
        "bank_overhead": {
            "off_ms_p50": round(float(np.median(off.blocks_ms)), 3),
            "on_ms_p50": round(float(np.median(on.blocks_ms)), 3),
            "ratio": ratio,
            "ratio_ci95": interval,
        },
        "memory": {"bank_mib": round(on.translator.bank_bytes / 2**20, 3)},
        "cpu_ms_per_frame": {name: round(arm.cpu_ms / len(arm.frame_ms), 3) for name, arm in arms.items()},
    }
    protocol: results.Section = {
        "warmup_frames": max(count for count, _ in warm),
        "timed_frames": len(on.frame_ms) // repeats,
        "repeats": repeats,
        "interleaved": True,
        "timer": "perf_counter+sync",
        "input": described,
        "source_fps": None,
        "includes": ["preprocess", "encode", "unet", "scheduler", "decode", "postprocess", "bank-update"],
        "excludes": ["capture", "publish"],
    }
    for arm in arms.values():
        arm.translator.close()
    return {"results": found, "protocol": protocol, "steady": all(agreed for _, agreed in warm)}


def main(
    steps: Annotated[list[int] | None, typer.Option(help="Steps to measure, one result each.")] = None,
    size: Annotated[int, typer.Option(help="Width and height of the picture.")] = 256,
    frames: Annotated[int, typer.Option(min=8, help="Timed frames of each arm in each repeat.")] = 500,
    repeats: Annotated[int, typer.Option(min=1)] = 5,
    window: Annotated[int, typer.Option(min=4, help="Frames in a window of the warm-up.")] = 50,
    cold: Annotated[int, typer.Option(min=1, help="Fresh processes whose start is timed.")] = 3,
    threads: Annotated[int | None, typer.Option(min=1, help="Threads of torch; none: its own choice.")] = None,
    out: Annotated[Path, typer.Option(help="Folder for the results.")] = results.RESULTS,
) -> None:
    """Measure the demo model on this CPU and write one result for each number of steps."""
    logging.basicConfig(level=logging.WARNING)
    # Only now: before our translator is imported, torch's threads would be started spinning.
    import torch

    if threads is not None:
        torch.set_num_threads(threads)
    model = load_model(ModelSettings(name="demo", device="cpu"))
    dtype = str(model.dtype).removeprefix("torch.")
    for count in steps or [1, 2]:
        load_before = results.load_now()
        starts = cold_start.measure(count, cold)
        found = measure(model, count, size, frames, repeats, window)
        figures = found["results"]
        startup = {name: round(float(np.median([start[name] for start in starts])), 3) for name in starts[0]}
        figures["startup"] = startup | {"frames_to_steady": found["protocol"]["warmup_frames"]}
        settings = Settings(translator=TranslatorSettings(steps=count))
        schedule = "stream" if count > 1 else "sequential"
        config = results.configuration(settings, model="demo", dtype=dtype, schedule=schedule, width=size, height=size)
        path = out / f"cpu_demo_s{count}.json"
        results.write(
            path,
            "cpu-demo",
            command=results.command_line("streamv2v_obs.bench.cpu_demo"),
            env=results.environment("cpu", load_before, torch.get_num_threads()),
            config=config,
            protocol=found["protocol"],
            results=figures,
            checks=[
                results.check("frames a second with the bank on", _GOAL_FPS, figures["fps_steady"]),
                results.check("bank on / off", _GOAL_RATIO, figures["bank_overhead"]["ratio"], at_most=True),
                {"name": "three windows of the warm-up agreed within 2 %", "pass": found["steady"]},
            ],
            notes="frame_ms includes the bank's update, latency_ms.compute ends before it. bank_overhead compares "
            "means of blocks of frames, so that updates weigh what they cost; medians and interval are over blocks. "
            "startup is the median of fresh processes; first_frame_s counts from the start of the process.",
        )
        ratio = figures["bank_overhead"]
        typer.echo(
            f"S={count}: {figures['fps_steady']} fps with the bank, on / off {ratio['ratio']} {ratio['ratio_ci95']}, "
            f"CPU ms a frame {figures['cpu_ms_per_frame']}, cold start {startup['first_frame_s']} s -> {path.name}"
        )


if __name__ == "__main__":
    results.run(main)
