"""Translators timed side by side: each sees the same moving pictures, in blocks that take turns."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Literal, Protocol

import numpy as np

from streamv2v_obs.bench.results import Section, spread
from streamv2v_obs.capture.pattern import draw_pattern
from streamv2v_obs.demo.photographs import HELD_OUT, read_photograph
from streamv2v_obs.errors import ConfigError
from streamv2v_obs.frames import Frame, Pixels
from streamv2v_obs.settings import TranslatorSettings
from streamv2v_obs.translator.loading import Model
from streamv2v_obs.translator.translator import Translator

log = logging.getLogger(__name__)

PHOTOGRAPH = HELD_OUT[-1]
AGREE = 0.02
WINDOWS = 3


class Timed(Protocol):
    """What an arm needs of a translator."""

    def step(self, frame: Frame) -> Frame | None: ...
    def settle(self) -> None: ...
    def set_prompt(self, prompt: str) -> None: ...
    def close(self) -> None: ...
    @property
    def bank_updates(self) -> int: ...
    @property
    def bank_bytes(self) -> int: ...
    @property
    def schedule(self) -> Literal["stream", "sequential"]: ...
    @property
    def backend(self) -> Literal["torch", "openvino"]: ...
    @property
    def path(self) -> str: ...


@dataclass
class Arm:
    """One of the translators that are compared."""

    name: str
    translator: Timed
    pictures: Iterator[Pixels]
    wait: Callable[[], None]
    """Returns when the device has done all it was asked."""
    frames_late: int = 0
    """By how many frames the answers of a stream batch are behind."""
    frame_ms: list[float] = field(default_factory=list)
    """Of every timed frame, the bank's update included."""
    delay_ms: list[float] = field(default_factory=list)
    """Until the picture was there; the update comes after it."""
    updated: list[bool] = field(default_factory=list)
    blocks_ms: list[float] = field(default_factory=list)
    """Mean of ``frame_ms`` over this arm's two blocks of each round."""
    cpu_ms: float = 0.0
    """Of all threads together."""
    index: int = 0

    def run(self, frames: int) -> list[float]:
        """Translate ``frames`` pictures; milliseconds of each. Nothing is kept of them but the counts."""
        taken: list[float] = []
        for _ in range(frames):
            # Drawn beforehand: making the input is not what is measured.
            frame = Frame(next(self.pictures), time.monotonic(), self.index)
            self.index += 1
            updates = self.translator.bank_updates
            cpu_before = time.process_time()
            began_at = time.perf_counter()
            self.translator.step(frame)
            given_at = time.perf_counter()
            self.translator.settle()
            self.wait()
            taken.append(1000 * (time.perf_counter() - began_at))
            self.cpu_ms += 1000 * (time.process_time() - cpu_before)
            self.delay_ms.append(1000 * (given_at - began_at))
            self.updated.append(self.translator.bank_updates > updates)
        self.frame_ms += taken
        return taken

    def forget(self) -> None:
        """What was timed so far was warm-up."""
        self.frame_ms, self.delay_ms, self.updated, self.blocks_ms, self.cpu_ms = [], [], [], [], 0.0

    def warm_up(self, window: int, at_most: int) -> tuple[int, bool]:
        """Run until three windows agree; how many frames that took, and whether they did within ``at_most``."""
        means: list[float] = []
        agree = False
        while not agree and len(means) < at_most:
            means.append(float(np.mean(self.run(window))))
            last = means[-WINDOWS:]
            agree = len(last) == WINDOWS and max(last) <= min(last) * (1 + AGREE)
        self.forget()
        return window * len(means), agree

    def of_updates(self, updated: bool) -> list[float]:
        """``frame_ms`` of the frames with an update, or of those without."""
        return [ms for ms, was in zip(self.frame_ms, self.updated, strict=True) if was is updated]

    def figures(self) -> Section:
        """The schema's figures of this arm alone; update and plain frames apart where there are both."""
        found: Section = {
            "fps_steady": round(1000 / float(np.mean(self.frame_ms)), 2),
            "frame_ms": spread(self.frame_ms),
            "latency_ms": {"compute": spread(self.delay_ms), "algorithmic_frames": self.frames_late},
            "memory": {"bank_mib": round(self.translator.bank_bytes / 2**20, 3)},
            "cpu_ms_per_frame": round(self.cpu_ms / len(self.frame_ms), 3),
        }
        for name, updated in (("frame_ms_update", True), ("frame_ms_noupdate", False)):
            times = self.of_updates(updated)
            if times:
                found[name] = spread(times)
        return found


def new_arm(name: str, model: Model, settings: TranslatorSettings, width: int, height: int) -> tuple[Arm, str]:
    """An arm over the moving input, and what that input is called."""
    described, pictures = moving_input(width, height)
    translator = Translator(model, settings, width=width, height=height)
    late = settings.steps - 1 if translator.schedule == "stream" else 0
    return Arm(name, translator, pictures, waiting(model), late), described


def waiting(model: Model) -> Callable[[], None]:
    """What returns when the model's device is idle."""
    if model.device.type != "cuda":
        return lambda: None
    import torch

    return lambda: torch.cuda.synchronize(model.device)


def take_turns(arms: Sequence[Arm], block: int) -> None:
    """One round: ``block`` frames of each arm in order, then again in the opposite order (ABBA)."""
    taken: dict[str, list[float]] = {arm.name: [] for arm in arms}
    for arm in (*arms, *reversed(arms)):
        taken[arm.name] += arm.run(block)
    for arm in arms:
        arm.blocks_ms.append(float(np.mean(taken[arm.name])))


def moving_input(width: int, height: int) -> tuple[str, Iterator[Pixels]]:
    """A photograph under a moving window, else the test pattern: its name, and pictures without end."""
    try:
        photograph = read_photograph(PHOTOGRAPH)
    except ConfigError as error:
        log.warning("the test pattern stands in for a photograph: %s", error)
        return f"test pattern {width}x{height}", (draw_pattern(n, width, height) for n in count())
    return f"photograph {PHOTOGRAPH}, panning 2 and 1 pixels a frame", _pan(photograph, width, height)


def _pan(photograph: Pixels, width: int, height: int) -> Iterator[Pixels]:
    tiled = np.pad(photograph, ((0, height), (0, width), (0, 0)), mode="reflect")
    rows, columns, _ = photograph.shape
    for n in count():
        y, x = _to_and_fro(n, rows), _to_and_fro(2 * n, columns)
        yield np.ascontiguousarray(tiled[y : y + height, x : x + width])


def _to_and_fro(travelled: int, room: int) -> int:
    place = travelled % (2 * room)
    return min(place, 2 * room - place)
