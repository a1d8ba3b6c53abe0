"""The publisher with a real slot and real threads: the beat goes on, the locks hold, an end is an end."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from streamv2v_obs.engine.slot import FrameSlot
from streamv2v_obs.errors import SinkEnded, SinkLost
from streamv2v_obs.frames import Frame, Pixels, Tag
from streamv2v_obs.publish import outputs as outputs_module
from streamv2v_obs.publish.browser import BrowserSink
from streamv2v_obs.publish.collecting import CollectingSink
from streamv2v_obs.publish.outputs import Output, open_sinks
from streamv2v_obs.publish.publisher import Publisher
from streamv2v_obs.settings import PublishSettings

SIDE = 64
RAW, TRANSLATED = 250, 120


def settings(**values: Any) -> PublishSettings:
    return PublishSettings.model_validate({"fps": 100, "width": SIDE, "height": SIDE, **values})


def frame(value: int, tag: Tag = Tag.TRANSLATED, *, index: int = 0, side: int = SIDE) -> Frame:
    return Frame(np.full((side, side, 3), value, np.uint8), time.monotonic(), index, tag)


def until(holds: Callable[[], bool], timeout_s: float = 10) -> None:
    ends_at = time.monotonic() + timeout_s
    while not holds():
        assert time.monotonic() < ends_at, "it never came to be"
        time.sleep(0.002)


def flat(pixels: Pixels, value: int) -> bool:
    return bool((pixels == value).all())


class Studio:
    """A publisher with one collecting output, and its slot."""

    def __init__(self, **values: Any) -> None:
        self.slot = FrameSlot.create(1 << 20)
        self.sink = CollectingSink()
        self.output = Output("camera", lambda: self.sink, opened=self.sink)
        self.publisher = Publisher(settings(**values), self.slot, [self.output])
        self.ended = False

    def shows(self, value: int) -> bool:
        return bool(self.sink.pictures) and flat(self.sink.pictures[-1], value)

    def shows_slate(self) -> bool:
        return bool(self.sink.pictures) and self.sink.pictures[-1].std() > 2

    def state(self) -> str:
        return self.publisher.status().state

    def end(self) -> None:
        if self.ended:
            return
        self.ended = True
        self.sink.free.set()
        self.publisher.stop()
        assert self.publisher.join(5)
        self.publisher.use_slot(None)
        self.slot.close()


NewStudio = Callable[..., Studio]


@pytest.fixture
def new_studio() -> Iterator[NewStudio]:
    """Makes studios, and ends them whatever becomes of the test."""
    made: list[Studio] = []

    def make(**values: Any) -> Studio:
        made.append(Studio(**values))
        return made[-1]

    yield make
    for one in made:
        one.end()


@pytest.fixture
def studio(new_studio: NewStudio) -> Studio:
    """One that is on the air."""
    one = new_studio()
    one.publisher.start()
    return one


def test_slate_then_pictures_then_hold_then_slate(new_studio: NewStudio) -> None:
    studio = new_studio(hold_s=1.0)
    studio.publisher.start()
    until(studio.shows_slate)
    assert studio.state() == "SLATE"
    studio.slot.put(frame(TRANSLATED))
    until(lambda: studio.shows(TRANSLATED))
    assert studio.state() == "TRANSLATED"
    until(lambda: studio.state() == "HOLD")
    assert studio.shows(TRANSLATED)
    until(lambda: studio.state() == "SLATE")
    until(studio.shows_slate)
    status = studio.publisher.status()
    assert 0 < status.repeated < status.published
    assert status.content_age_ms_p50 is not None
    assert 0 < status.content_age_ms_p50 < 5000
    studio.end()


def test_counts(studio: Studio) -> None:
    until(lambda: studio.publisher.status().published >= 20)
    # Held up between two ticks, so that three frames meet in the slot.
    with studio.publisher._lock:
        for n in range(3):
            studio.slot.put(frame(n, index=n))
    until(lambda: studio.shows(2))
    status = studio.publisher.status()
    assert status.unseen == 2
    assert status.fps > 10
    assert [o.kind for o in status.outputs] == ["camera"]
    assert status.outputs[0].ok
    assert status.outputs[0].sent > 0
    assert status.jitter_ms_p99 is not None
    assert status.gap_ms_max is not None
    assert status.gap_ms_max >= 1000 / 100, "the beat is a hundred a second"
    assert status.state_s < 5
    until(lambda: studio.publisher.status().state_s > status.state_s)


def test_a_stop_of_the_beat_is_counted_and_measured(studio: Studio) -> None:
    until(lambda: studio.publisher.status().published >= 20)
    before = studio.publisher.status().stops
    with studio.publisher._lock:
        time.sleep(0.2)
    until(lambda: (studio.publisher.status().gap_ms_max or 0) >= 200)
    assert studio.publisher.status().stops > before


def test_the_beat_is_told_how_long_each_new_picture_lay_ready(studio: Studio, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[float] = []
    monkeypatch.setattr(studio.publisher._pacer, "met", told.append)
    with studio.publisher._lock:
        studio.slot.put(frame(TRANSLATED))
        time.sleep(0.1)
    before = studio.publisher.status().published
    until(lambda: studio.publisher.status().published >= before + 5)
    assert len(told) == 1, "a picture that is shown again has told all"
    assert 0.1 <= told[0] < 5


def test_another_size_is_fitted_and_without_one_left_as_it_is(studio: Studio, new_studio: NewStudio) -> None:
    studio.slot.put(frame(TRANSLATED, side=2 * SIDE))
    until(lambda: studio.shows(TRANSLATED))
    assert studio.sink.pictures[-1].shape == (SIDE, SIDE, 3)
    other = new_studio(width=None, height=None)
    other.publisher.start()
    until(other.shows_slate)
    assert other.sink.pictures[-1].shape == (720, 1280, 3)
    other.slot.put(frame(TRANSLATED, side=200))
    until(lambda: other.shows(TRANSLATED))
    assert other.sink.pictures[-1].shape == (200, 200, 3)
    other.publisher.set_panic(True)
    until(other.shows_slate)
    assert other.sink.pictures[-1].shape == (200, 200, 3), "the slate takes the size of the pictures"
    other.end()


def test_raw_pictures_need_the_publishers_own_lock(studio: Studio) -> None:
    studio.slot.put(frame(RAW, Tag.BYPASS))
    until(lambda: studio.publisher.status().refused == 1)
    studio.slot.put(frame(RAW, Tag.INPUT))
    until(lambda: studio.publisher.status().refused == 2)
    studio.publisher.set_bypass(True)
    studio.slot.put(frame(RAW, Tag.INPUT))
    until(lambda: studio.publisher.status().refused == 3)
    assert not any(flat(p, RAW) for p in studio.sink.pictures)
    studio.slot.put(frame(RAW, Tag.BYPASS))
    until(lambda: studio.shows(RAW))
    assert studio.state() == "BYPASS"


def test_when_bypass_ends_no_raw_picture_is_left_anywhere(studio: Studio) -> None:
    studio.slot.put(frame(TRANSLATED))
    until(lambda: studio.shows(TRANSLATED))
    studio.publisher.set_bypass(True)
    studio.slot.put(frame(RAW, Tag.BYPASS))
    until(lambda: studio.shows(RAW))
    studio.publisher.set_bypass(False)
    assert studio.state() in ("TRANSLATED", "HOLD")
    # At most the one that was being sent at that moment comes after this.
    until(lambda: studio.shows(TRANSLATED))
    count = len(studio.sink.pictures)
    studio.slot.put(frame(RAW, Tag.BYPASS))
    until(lambda: len(studio.sink.pictures) > count + 20)
    assert not any(flat(p, RAW) for p in studio.sink.pictures[count:])


def test_the_slate_of_a_scene_and_a_panic_both_have_to_end(studio: Studio) -> None:
    studio.slot.put(frame(TRANSLATED))
    until(lambda: studio.shows(TRANSLATED))
    studio.publisher.set_slate(True)
    until(studio.shows_slate)
    assert (studio.publisher.status().slate, studio.publisher.status().panic) == (True, False)
    studio.publisher.set_panic(True)
    studio.publisher.set_slate(False)
    studio.slot.put(frame(TRANSLATED))
    count = len(studio.sink.pictures)
    until(lambda: len(studio.sink.pictures) > count + 10)
    assert not any(flat(p, TRANSLATED) for p in studio.sink.pictures[count:])
    studio.publisher.set_slate(True)
    studio.publisher.set_panic(False)
    until(studio.shows_slate)
    studio.publisher.set_slate(False)
    studio.slot.put(frame(TRANSLATED))
    until(lambda: studio.shows(TRANSLATED))


def test_what_was_captured_before_a_panic_ended_is_not_shown_after_it(studio: Studio) -> None:
    studio.slot.put(frame(TRANSLATED))
    until(lambda: studio.shows(TRANSLATED))
    studio.publisher.set_panic(True)
    on_its_way = frame(TRANSLATED)
    studio.publisher.set_panic(False)
    studio.slot.put(on_its_way)
    count = len(studio.sink.pictures)
    until(lambda: len(studio.sink.pictures) > count + 10)
    assert not any(flat(p, TRANSLATED) for p in studio.sink.pictures[count:])
    studio.slot.put(frame(TRANSLATED))
    until(lambda: studio.shows(TRANSLATED))


def test_panic_is_at_once_even_between_two_slow_ticks(new_studio: NewStudio) -> None:
    studio = new_studio(fps=1)
    studio.publisher.start()
    until(studio.shows_slate)
    studio.slot.put(frame(TRANSLATED))
    until(lambda: studio.shows(TRANSLATED))
    studio.publisher.set_panic(True)
    assert studio.state() == "SLATE"
    until(studio.shows_slate, 0.5)
    studio.slot.put(frame(TRANSLATED))
    studio.publisher.set_panic(False)
    assert studio.state() == "SLATE", "what came during the panic is not shown after it"
    studio.slot.put(frame(TRANSLATED + 1))
    until(lambda: studio.shows(TRANSLATED + 1))
    studio.end()


def test_a_new_slot_takes_over_and_the_old_one_may_be_closed(studio: Studio) -> None:
    with studio.publisher._lock:
        for n in range(3):
            studio.slot.put(frame(n))
    until(lambda: studio.publisher.status().unseen == 2)
    for round in range(5):
        new = FrameSlot.create(1 << 20)
        studio.publisher.use_slot(new)
        studio.slot.close()
        studio.slot = new
        new.put(frame(30 + round))
        until(lambda round=round: studio.shows(30 + round))  # type: ignore[misc]
    assert studio.publisher.status().unseen == 2


def test_no_slot_a_closed_one_or_a_broken_one_never_stop_the_ticks(
    studio: Studio, caplog: pytest.LogCaptureFixture
) -> None:
    def still_ticking() -> None:
        before = studio.publisher.status().published
        until(lambda: studio.publisher.status().published > before + 10)

    studio.publisher.use_slot(None)
    still_ticking()
    closed = FrameSlot.create(1 << 16)
    studio.publisher.use_slot(closed)
    with studio.publisher._lock:  # in the middle of a take it would not let itself be closed
        closed.close()
    still_ticking()
    complaints = [r for r in caplog.records if "slot cannot be read" in r.message]
    assert len(complaints) == 1, "said once, not at every tick"
    studio.publisher.use_slot(studio.slot)
    studio.slot.put(frame(TRANSLATED))
    until(lambda: studio.shows(TRANSLATED))


def test_a_failing_tick_does_not_end_the_beat(studio: Studio, monkeypatch: pytest.MonkeyPatch) -> None:
    until(studio.shows_slate)

    def fail(*_: object) -> Pixels:
        raise MemoryError("no memory for a slate")

    monkeypatch.setattr(studio.publisher._slate, "picture", fail)
    time.sleep(0.1)
    monkeypatch.undo()
    count = len(studio.sink.pictures)
    until(lambda: len(studio.sink.pictures) > count + 5)


def test_a_hanging_output_holds_nobody_up(monkeypatch: pytest.MonkeyPatch) -> None:
    slow, quick = CollectingSink(), CollectingSink()
    slot = FrameSlot.create(1 << 20)
    outputs = [Output("camera", lambda: slow, opened=slow), Output("browser", lambda: quick, opened=quick)]
    publisher = Publisher(settings(), slot, outputs)
    slow.free.clear()
    publisher.start()
    until(lambda: len(quick.pictures) > 30)
    statuses = {o.kind: o for o in publisher.status().outputs}
    assert slow.pictures == []
    assert statuses["camera"].dropped > 10
    began_at = time.monotonic()
    publisher.stop()
    assert not publisher.join(1.0), "the camera hangs, and is left behind"
    assert time.monotonic() - began_at < 2
    assert quick.closes == 1
    slow.free.set()
    until(lambda: slow.closes == 1)
    slot.close()


def test_the_end_comes_within_two_seconds_and_with_a_slate(new_studio: NewStudio) -> None:
    studio = new_studio(fps=1)
    studio.publisher.start()
    studio.publisher.set_bypass(True)
    studio.slot.put(frame(RAW, Tag.BYPASS))
    until(lambda: studio.shows(RAW))
    began_at = time.monotonic()
    studio.end()
    assert time.monotonic() - began_at < 2
    assert studio.shows_slate(), "a raw picture must not stay in the camera"
    assert studio.sink.closes == 1
    assert not [t.name for t in threading.enumerate() if t.name.startswith("publish")]


def test_stopped_before_it_began_everything_is_given_back(new_studio: NewStudio) -> None:
    studio = new_studio()
    studio.end()
    assert studio.sink.closes == 1


# --- outputs ------------------------------------------------------------------------------------------------


@pytest.fixture
def no_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outputs_module, "_FIRST_WAIT_S", 0.01)


@pytest.mark.usefixtures("no_wait")
def test_a_lost_sink_is_opened_again_and_said_once(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    attempts = 0
    last = CollectingSink("the second one")

    def open_sink() -> CollectingSink:
        nonlocal attempts
        attempts += 1
        if attempts < 4:
            raise SinkLost("unplugged")
        return last

    first = CollectingSink("the first one")
    first.error = SinkLost("unplugged")
    output = Output("camera", open_sink, opened=first)
    output.start()
    output.put(frame(1).pixels)
    until(lambda: output.status().detail == "unplugged")
    assert not output.status().ok
    until(lambda: output.status().ok)
    output.put(frame(2).pixels)
    until(lambda: len(last.pictures) == 1)
    output.stop()
    assert output.join(5)
    assert (first.closes, last.closes) == (1, 1)
    assert [r.message for r in caplog.records] == [
        "output camera: the first one",
        "output camera is lost and tried again: unplugged",
        "output camera: the second one",
    ]


@pytest.mark.usefixtures("no_wait")
def test_a_sinks_bug_is_only_its_own_loss() -> None:
    sinks = [CollectingSink(), CollectingSink()]
    sinks[0].error = ZeroDivisionError("a bug")
    output = Output("browser", lambda: sinks[1], opened=sinks[0])
    output.start()
    output.put(frame(1).pixels)
    until(lambda: output.status().detail == "unexpected ZeroDivisionError: a bug")
    until(lambda: output.status().ok)
    output.stop()
    assert output.join(5)


@pytest.mark.usefixtures("no_wait")
def test_an_ended_sink_stays_ended(caplog: pytest.LogCaptureFixture) -> None:
    sink = CollectingSink()
    sink.error = SinkEnded("the disk is full")

    def never() -> CollectingSink:
        raise AssertionError("an ended output was opened again")

    output = Output("recording", never, opened=sink)
    output.start()
    output.put(frame(1).pixels)
    until(lambda: not output.status().ok)
    assert output.join(5)
    output.put(frame(2).pixels)
    assert output.status().detail == "the disk is full"
    assert output.status().dropped == 0
    assert [r.message for r in caplog.records] == ["output recording has ended: the disk is full"]


def no_camera(settings: PublishSettings) -> CollectingSink:
    raise SinkLost("no virtual camera here; make one")


def a_camera(settings: PublishSettings) -> CollectingSink:
    return CollectingSink("a camera")


def kinds(outputs: list[Output]) -> list[str]:
    found = [output.kind for output in outputs]
    for output in outputs:
        output.join(0)
    return [str(kind) for kind in found]


def test_auto_is_the_camera_if_there_is_one() -> None:
    outputs, notices = open_sinks(settings(), BrowserSink(), a_camera)
    assert kinds(outputs) == ["camera", "browser"]
    assert notices == []


def test_auto_without_a_camera_is_the_browser_and_says_what_to_do() -> None:
    outputs, notices = open_sinks(settings(), BrowserSink(), no_camera)
    assert kinds(outputs) == ["browser"]
    assert notices == ["Pictures go to the browser only: no virtual camera here; make one"]


def test_a_camera_asked_for_by_name_has_to_open_and_the_rest_is_given_back(tmp_path: Path) -> None:
    with pytest.raises(SinkLost, match="make one"):
        open_sinks(settings(outputs=["camera"]), BrowserSink(), no_camera)
    cameras: list[CollectingSink] = []

    def counted(settings: PublishSettings) -> CollectingSink:
        cameras.append(CollectingSink())
        return cameras[-1]

    recording = {"path": tmp_path / "nowhere" / "show.mp4"}
    with pytest.raises(SinkLost, match="cannot be created"):
        open_sinks(settings(outputs=["camera", "recording"], recording=recording), BrowserSink(), counted)
    assert [camera.closes for camera in cameras] == [1]


def test_several_at_once(tmp_path: Path) -> None:
    several = settings(
        outputs=["recording", "browser", "camera", "auto"],
        recording={"path": tmp_path / "show.mp4"},
    )
    outputs, _ = open_sinks(several, BrowserSink(), a_camera)
    assert sorted(kinds(outputs)) == ["browser", "camera", "recording"]
    assert list(tmp_path.iterdir()) == [], "what was never started leaves nothing behind"


def test_a_recording_begins_with_the_first_picture(tmp_path: Path) -> None:
    import av

    recorded = settings(outputs=["recording"], recording={"path": tmp_path / "show.mp4"}, width=None, height=None)
    outputs, _ = open_sinks(recorded, BrowserSink())
    slot = FrameSlot.create(1 << 20)
    publisher = Publisher(recorded, slot, outputs)
    publisher.start()
    until(lambda: publisher.status().published > 5)
    for n in range(20):
        slot.put(frame(TRANSLATED, index=n, side=96))
        time.sleep(0.01)
    until(lambda: publisher.status().state == "TRANSLATED")
    publisher.stop()
    assert publisher.join(5)
    slot.close()
    with av.open(str(tmp_path / "show.mp4")) as container:
        pictures = [f.to_ndarray(format="rgb24") for f in container.decode(video=0)]
    assert len(pictures) > 5
    assert pictures[0].shape == (96, 96, 3)
    assert all(abs(float(p.mean()) - TRANSLATED) < 4 for p in pictures)
