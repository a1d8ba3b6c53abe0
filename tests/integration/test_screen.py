"""Capturing a real X display: monitors, regions, windows that move, and displays that go away."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from streamv2v_obs.capture import screen
from streamv2v_obs.capture.listing import list_sources
from streamv2v_obs.capture.screen import ScreenSource
from streamv2v_obs.capture.source import open_source
from streamv2v_obs.errors import SourceLost, SourceStalled
from streamv2v_obs.frames import Frame, Tag
from streamv2v_obs.settings import AutoCapture, ObsSettings, ScreenCapture
from tests.conftest import Require
from tests.rigs.x_window import XWindow, resize_desktop, x_window
from tests.rigs.xvfb import Display, xvfb, xvfb_installed

pytestmark = pytest.mark.display

RED, GREEN, BLUE = (200, 30, 60), (20, 180, 40), (10, 20, 230)
WIDTH, HEIGHT = 800, 600


@pytest.fixture
def display(require: Require, monkeypatch: pytest.MonkeyPatch) -> Iterator[Display]:
    require("display", xvfb_installed(), "apt-get install xvfb")
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    monkeypatch.delenv("XDG_SESSION_TYPE", raising=False)
    with xvfb(WIDTH, HEIGHT) as running:
        monkeypatch.setenv("DISPLAY", running.name)
        yield running


@pytest.fixture
def window(display: Display) -> Iterator[XWindow]:
    with x_window(display.name, "Paint – Ünnamed", 100, 80, 200, 120, RED) as shown:
        yield shown


def opened(
    *, monitor: int = 1, region: tuple[int, int, int, int] | None = None, window: str | None = None
) -> ScreenSource:
    return ScreenSource(ScreenCapture(kind="screen", fps=240, monitor=monitor, region=region, window=window))


def is_all(frame: Frame, colour: tuple[int, int, int]) -> bool:
    return bool((frame.pixels == colour).all())


@pytest.mark.usefixtures("window")
@pytest.mark.parametrize("monitor", [0, 1])
def test_a_monitor_shows_all_of_itself_as_rgb(monitor: int) -> None:
    source = opened(monitor=monitor)
    frame = source.read()
    source.close()
    assert frame.pixels.shape == (HEIGHT, WIDTH, 3)
    assert frame.pixels.dtype == np.uint8
    assert frame.pixels.flags.c_contiguous
    assert (frame.index, frame.tag) == (0, Tag.INPUT)
    assert (frame.pixels[80:200, 100:300] == RED).all()
    assert not frame.pixels[:80].any()
    assert not frame.pixels[:, 300:].any()
    assert source.detail == f"{'monitor 1' if monitor else 'desktop'} 800x600 at 0,0"


@pytest.mark.usefixtures("display")
def test_a_monitor_that_is_not_there_names_those_that_are() -> None:
    with pytest.raises(SourceLost, match=r"capture.monitor 3 does not exist; there are 0: 800x600 at 0,0; 1: 800x600"):
        opened(monitor=3)


def test_a_region_follows_what_happens_in_it(window: XWindow) -> None:
    source = opened(region=(110, 90, 64, 32))
    assert source.read().pixels.shape == (32, 64, 3)
    assert is_all(source.read(), RED)
    window.paint(GREEN)
    frame = source.read()
    assert is_all(frame, GREEN)
    assert frame.index == 2
    window.move(400, 300)
    assert is_all(source.read(), (0, 0, 0))
    assert source.detail == "region 64x32 at 110,90"
    source.close()


@pytest.mark.usefixtures("window")
def test_a_region_over_the_edge_is_clipped_and_told_once(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        source = opened(region=(-50, 500, 200, 300))
        assert source.read().pixels.shape == (100, 150, 3)
        source.read()
    source.close()
    assert len(caplog.records) == 1
    assert "region 200x300 at -50,500 stands over the edge" in caplog.text
    assert "150x100 at 0,500 of 200x300 at -50,500 is captured" in caplog.text


@pytest.mark.usefixtures("display")
@pytest.mark.parametrize("region", [(800, 0, 10, 10), (0, -300, 100, 300), (5000, 5000, 512, 512)])
def test_a_region_off_the_desktop_names_both_rectangles(region: tuple[int, int, int, int]) -> None:
    with pytest.raises(SourceLost, match="lies wholly outside 800x600 at 0,0") as caught:
        opened(region=region)
    assert screen.say(region) in str(caught.value)


def test_a_window_is_found_by_part_of_its_title_and_followed(window: XWindow) -> None:
    source = opened(window="ünNAMED")
    assert source.detail == "window 'Paint – Ünnamed'"
    for x, y in ((100, 80), (0, 0), (350, 400), (600, 480)):
        window.move(x, y)
        frame = source.read()
        assert frame.pixels.shape == (120, 200, 3)
        assert is_all(frame, RED)
    window.resize(90, 70)
    assert source.read().pixels.shape == (70, 90, 3)
    window.rename("Something else")
    assert is_all(source.read(), RED)
    window.move(750, 570)
    assert source.read().pixels.shape == (30, 50, 3)
    window.move(900, 0)
    with pytest.raises(SourceLost, match=r"window 'Paint – Ünnamed' is off the desktop: 90x70 at 900,0"):
        source.read()
    source.close()


def test_a_window_that_moves_all_the_time_never_tears_the_source(window: XWindow) -> None:
    stop = threading.Event()

    def shake() -> None:
        step = 0
        while not stop.is_set():
            step += 1
            window.move(-150 + step * 7 % 900, -90 + step * 5 % 600)

    mover = threading.Thread(target=shake, name="mover")
    source = opened(window="Paint")
    mover.start()
    try:
        seen = [source.read().pixels for _ in range(200)]
    except SourceLost as error:
        pytest.fail(str(error))
    finally:
        stop.set()
        mover.join(10)
        source.close()
    # It moves between the question where it is and the grab; most of the picture is still the window.
    assert np.median([(pixels == RED).all(axis=2).mean() for pixels in seen]) > 0.8


def test_the_topmost_of_several_windows_is_taken(display: Display, caplog: pytest.LogCaptureFixture) -> None:
    with (
        x_window(display.name, "Game one", 0, 0, colour=RED) as one,
        x_window(display.name, "Game two", 300, 0, colour=GREEN),
    ):
        source = opened(window="game")
        assert is_all(source.read(), GREEN)
        source.close()
        one.show()
        source = opened(window="game")
        assert is_all(source.read(), RED)
        source.close()
    assert "2 windows match 'game'; the topmost is taken: 'Game one'" in caplog.text


def test_a_window_inside_a_frame_is_found_without_its_frame(display: Display) -> None:
    # Window managers put a program's window into one of their own; the coordinates are then the frame's.
    from Xlib import X
    from Xlib.display import Display as Connection

    manager = Connection(display.name)
    frame = manager.screen().root.create_window(200, 150, 300, 250, 0, X.CopyFromParent, background_pixel=0x0A14E6)
    frame.map()
    with x_window(display.name, "Inner", 0, 0, 280, 200, RED) as inner:
        manager.create_resource_object("window", inner.number).reparent(frame, 10, 40)
        manager.sync()
        source = opened(window="inner")
        captured = source.read()
        assert captured.pixels.shape == (200, 280, 3)
        assert is_all(captured, RED)
        frame.configure(x=20, y=30)
        manager.sync()
        assert is_all(source.read(), RED)
        source.close()
    manager.close()


def test_a_minimised_window_stalls_and_comes_back(window: XWindow) -> None:
    source = opened(window="Paint")
    window.hide()
    for _ in range(2):
        with pytest.raises(SourceStalled, match="is minimised or on another desktop; show it to go on"):
            source.read()
    # Also a source that is opened now knows it, and waits for it.
    second = opened(window="Paint")
    window.show()
    assert is_all(source.read(), RED)
    assert is_all(second.read(), RED)
    source.close()
    second.close()


def test_a_closed_window_is_lost_and_found_again_when_it_is_back(display: Display) -> None:
    with x_window(display.name, "Paint"):
        source = opened(window="Paint")
        source.read()
    with pytest.raises(SourceLost, match=r"^window 'Paint' was closed$"):
        source.read()
    source.close()
    with (
        x_window(display.name, "Editor"),
        pytest.raises(SourceLost, match=r"no window's title contains 'Paint'; there are: 'Editor'"),
    ):
        opened(window="Paint")
    with x_window(display.name, "Paint 2", colour=BLUE):
        source = opened(window="Paint")
        assert is_all(source.read(), BLUE)
        source.close()


@pytest.mark.usefixtures("display")
def test_no_window_at_all() -> None:
    with pytest.raises(SourceLost, match=r"no window's title contains 'Paint'; there are: none with a title"):
        opened(window="Paint")


@pytest.mark.parametrize("what", ["monitor", "region", "window"])
@pytest.mark.usefixtures("window")
def test_a_display_that_dies_while_it_is_captured_is_lost(display: Display, what: str) -> None:
    region = (0, 0, 64, 64) if what == "region" else None
    source = opened(region=region, window="Paint" if what == "window" else None)
    source.read()
    display.kill()
    for _ in range(2):
        with pytest.raises(SourceLost, match="the display went away"):
            source.read()
    source.close()
    with pytest.raises(SourceLost, match=f"the screen cannot be captured .*DISPLAY is {display.name}"):
        opened()


def test_a_desktop_that_changes_its_size_is_opened_anew(display: Display, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(screen, "RECHECK_S", 0.0)
    source = opened()
    source.read()
    resize_desktop(display.name, 640, 480)
    with pytest.raises(SourceLost, match=r"the desktop was 800x600 at 0,0 and is 640x480 at 0,0"):
        source.read()
    source.close()
    source = opened()
    assert source.read().pixels.shape == (480, 640, 3)
    source.close()


@pytest.mark.usefixtures("window")
def test_auto_takes_the_screen(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        source = open_source(AutoCapture(fps=120), ObsSettings())
    assert isinstance(source, ScreenSource)
    assert source.read().pixels.shape == (HEIGHT, WIDTH, 3)
    source.close()
    assert "capture: auto takes the screen: monitor 1 800x600 at 0,0" in caplog.text


@pytest.mark.usefixtures("window")
def test_screens_and_windows_are_listed_with_the_setting_that_captures_them() -> None:
    found = {row.name: row for row in list_sources() if row.kind == "screen"}
    assert found["whole desktop"].setting == "capture: {kind: screen, monitor: 0}"
    assert found["monitor 1 (800x600 at 0,0)"].width == WIDTH
    listed = found["window Paint – Ünnamed"]
    assert (listed.width, listed.height) == (200, 120)
    assert listed.setting == 'capture: {kind: screen, window: "Paint – Ünnamed"}'


@pytest.mark.usefixtures("window")
def test_opening_and_closing_200_times_leaves_no_connection() -> None:
    held: list[int] = []
    for _ in range(201):
        source = opened(window="Paint")
        source.read()
        source.close()
        held.append(len(list(Path("/proc/self/fd").iterdir())))
    assert held[-1] <= held[0]


@pytest.mark.usefixtures("display")
def test_failing_to_open_200_times_leaves_no_connection() -> None:
    held: list[int] = []
    for _ in range(201):
        with pytest.raises(SourceLost):
            opened(window="no such window")
        with pytest.raises(SourceLost):
            opened(region=(9000, 0, 10, 10))
        held.append(len(list(Path("/proc/self/fd").iterdir())))
    assert held[-1] <= held[0]
