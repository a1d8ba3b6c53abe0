"""The engine's loop with the real demo model, in a thread of the test: what it does about its source."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from streamv2v_obs.capture import source as sources
from streamv2v_obs.commands import Bypass, Change, CommandBox, Prepare, Stop
from streamv2v_obs.engine import capturing
from streamv2v_obs.engine.loop import EngineLoop
from streamv2v_obs.engine.slot import FrameSlot
from streamv2v_obs.errors import SourceLost, SourceStalled
from streamv2v_obs.frames import Frame, Tag
from streamv2v_obs.settings import CameraCapture, ImageCapture, PatternCapture, Settings
from streamv2v_obs.stats import EngineStatus

PATIENCE_S = 60.0


class StalledSource:
    """A fake camera that is there and never gives a picture."""

    detail = "a camera that hangs"

    def read(self) -> Frame:
        time.sleep(0.02)
        raise SourceStalled("no picture came")

    def close(self) -> None:
        pass


class RunningLoop:
    """An EngineLoop in a thread of its own, and what it reported."""

    def __init__(self, settings: Settings, *, patient: bool) -> None:
        self.commands = CommandBox()
        self.reports: list[EngineStatus] = []
        self.error: BaseException | None = None
        self.output = FrameSlot.create(2048 * 2048 * 3)
        self._view = FrameSlot.create(64)
        self._loop = EngineLoop(
            settings,
            self.output,
            self._view,
            self.commands,
            threading.Event(),
            self.reports.append,
            patient=patient,
        )
        self.thread = threading.Thread(target=self._run, name="engine")

    def _run(self) -> None:
        try:
            self._loop.run()
        except BaseException as error:
            self.error = error

    def close(self) -> None:
        self.commands.post(Stop())
        self.thread.join(PATIENCE_S)
        self.output.close()
        self._view.close()

    def until(self, reached: Callable[[EngineStatus], bool]) -> EngineStatus:
        until = time.monotonic() + PATIENCE_S
        while not (self.reports and reached(self.reports[-1])):
            assert self.thread.is_alive(), repr(self.error)
            assert time.monotonic() < until, self.reports[-1:]
            time.sleep(0.01)
        return self.reports[-1]


@contextmanager
def running(capture: object, *, patient: bool = False, schedule: str = "auto") -> Iterator[RunningLoop]:
    model = {"name": "demo", "backend": "torch", "width": 128, "height": 128}
    settings = Settings.model_validate({"capture": capture, "model": model, "translator": {"schedule": schedule}})
    loop = RunningLoop(settings, patient=patient)
    loop.thread.start()
    try:
        yield loop
    finally:
        loop.close()


@pytest.fixture
def hanging_camera(monkeypatch: pytest.MonkeyPatch) -> None:
    def opened(settings: Any, obs: Any) -> sources.FrameSource:
        return StalledSource() if isinstance(settings, CameraCapture) else sources.open_source(settings, obs)

    monkeypatch.setattr(capturing, "open_source", opened)


@pytest.mark.usefixtures("hanging_camera")
def test_a_source_without_a_first_picture_can_be_left_for_another() -> None:
    with running({"kind": "camera"}) as loop:
        waiting = loop.until(lambda status: status.state == "stalled")
        assert waiting.source == "a camera that hangs (no picture came)"
        loop.commands.post(Change(prompt="a blueprint", scene="A"))
        time.sleep(0.5)
        loop.commands.post(Change(source=PatternCapture(kind="pattern", fps=5), scene="B"))
        status = loop.until(lambda status: status.translated > 1)
        assert (status.prompt, status.scene) == ("a blueprint", "B")
        assert status.source == "test pattern 512x512"


@pytest.mark.usefixtures("hanging_camera")
def test_the_end_is_heard_before_the_first_picture() -> None:
    with running({"kind": "camera"}) as loop:
        loop.until(lambda status: status.state == "stalled")
        loop.commands.post(Stop())
        loop.thread.join(PATIENCE_S)
        assert not loop.thread.is_alive()
        assert loop.error is None


def test_a_missing_source_ends_the_first_engine_and_is_waited_for_by_later_ones(tmp_path: Path) -> None:
    path = tmp_path / "late.png"
    capture = ImageCapture(kind="image", path=path, fps=5)
    with running(capture) as loop:
        loop.thread.join(PATIENCE_S)
        assert isinstance(loop.error, SourceLost)
    with running(capture, patient=True) as loop:
        loop.until(lambda status: status.state == "stalled" and "late.png" in status.source)
        cv2.imwrite(str(path), np.zeros((64, 64, 3), np.uint8))
        loop.until(lambda status: status.translated > 0)


def test_a_slow_source_or_a_bug_in_one_is_not_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    fails = [True]

    def opened(settings: Any, obs: Any) -> sources.FrameSource:
        if settings.fps == 3 and fails.pop():
            fails.append(False)
            raise ZeroDivisionError("a bug")
        return sources.open_source(settings, obs)

    monkeypatch.setattr(capturing, "open_source", opened)
    with running({"kind": "pattern", "fps": 1}) as loop:
        loop.until(lambda status: status.translated > 3)
        assert {report.state for report in loop.reports if report.translated} == {"running"}
        captured = loop.reports[-1].captured
        loop.commands.post(Change(source=PatternCapture(kind="pattern", fps=3)))
        loop.until(lambda status: "failed unexpectedly (ZeroDivisionError: a bug)" in status.source)
        loop.until(lambda status: status.source == "test pattern 512x512" and status.state == "running")
        assert loop.reports[-1].captured >= captured, "counted on"


class PausingSource:
    """A fake camera that gives ten pictures a second, and none while ``paused``."""

    detail = "a camera that pauses"

    def __init__(self, paused: threading.Event) -> None:
        self._paused = paused
        self._index = 0

    def read(self) -> Frame:
        time.sleep(0.1)
        if self._paused.is_set():
            raise SourceStalled("no picture came")
        self._index += 1
        return Frame(np.full((128, 128, 3), 9 * self._index % 256, np.uint8), time.monotonic(), self._index)

    def close(self) -> None:
        pass


def captured_since(loop: RunningLoop, moment: float) -> list[float]:
    """By how much later than ``moment`` the next five pictures were captured."""
    found: list[float] = []
    until = time.monotonic() + PATIENCE_S
    while len(found) < 5:
        assert time.monotonic() < until, found
        frame = loop.output.take()
        if frame is not None:
            found.append(frame.captured_at - moment)
        time.sleep(0.01)
    return found


def test_no_picture_on_its_way_comes_out_after_a_pause_or_from_the_source_before(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    paused = threading.Event()

    def opened(settings: Any, obs: Any) -> sources.FrameSource:
        return PausingSource(paused) if isinstance(settings, CameraCapture) else sources.open_source(settings, obs)

    monkeypatch.setattr(capturing, "open_source", opened)
    with running({"kind": "camera"}, schedule="stream") as loop:
        loop.until(lambda status: status.translated > 3)
        paused.set()
        loop.until(lambda status: status.state == "stalled")
        loop.output.take()
        paused.clear()
        assert min(captured_since(loop, time.monotonic())) > -0.2, "of before the pause"
        paused.set()
        loop.until(lambda status: status.state == "stalled")
        loop.output.take()
        loop.commands.post(Change(source=PatternCapture(kind="pattern", fps=10)))
        assert min(captured_since(loop, time.monotonic())) > 0, "of the source before"
        assert loop.reports[-1].bank_resets == 0


def test_bypass_comes_with_the_scene_that_it_is_for() -> None:
    """Posted with a change of the source, then overtaken by another change: still no raw picture of the old source."""
    wide = {"kind": "pattern", "fps": 30, "width": 128, "height": 64, "fit": "letterbox"}
    with running(wide) as loop:
        loop.until(lambda status: status.translated > 1)
        high = PatternCapture(kind="pattern", fps=10, width=64, height=128, fit="letterbox")
        loop.commands.post(Change(source=high))
        loop.commands.post(Bypass(True))
        loop.commands.post(Change(seed=5))
        raw: list[tuple[int, ...]] = []
        until = time.monotonic() + PATIENCE_S
        while len(raw) < 5 and time.monotonic() < until:
            frame = loop.output.take()
            if frame is not None and frame.tag is Tag.BYPASS:
                raw.append(frame.pixels.shape)
            time.sleep(0.01)
        assert raw == [(128, 64, 3)] * 5
        assert loop.until(lambda status: status.bypass).seed == 5


def test_steps_and_prepared_prompts_between_two_frames() -> None:
    with running({"kind": "pattern", "fps": 10}) as loop:
        loop.until(lambda status: status.translated > 1)
        loop.commands.post(Prepare("neon lights"))
        loop.commands.post(Change(prompt="neon lights", steps=3, blend_s=0.2, scene="B"))
        status = loop.until(lambda status: status.steps == 3 and status.scene == "B")
        assert (status.prompt, status.schedule, status.bank_resets) == ("neon lights", "stream", 1)
        translated = status.translated
        loop.until(lambda status: status.translated > translated + 2)
        loop.commands.post(Change(steps=1))
        assert loop.until(lambda status: status.steps == 1).schedule == "sequential"
