"""The one door to all sources: every kind opens or says in one line why not, and auto says what it passed over."""

from __future__ import annotations

import logging
import socket
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml

from streamv2v_obs.capture.image import read_image
from streamv2v_obs.capture.listing import FoundSource, list_sources
from streamv2v_obs.capture.pattern import PatternSource, draw_pattern
from streamv2v_obs.capture.screen import clip, open_screen, say, unavailable
from streamv2v_obs.capture.source import open_source
from streamv2v_obs.errors import SourceLost
from streamv2v_obs.settings import (
    AutoCapture,
    ImageCapture,
    ObsCapture,
    ObsSettings,
    PatternCapture,
    ScreenCapture,
    Settings,
    VideoCapture,
)
from tests.unit.test_video import clip as film

OBS = ObsSettings()
on_linux = pytest.mark.skipif(sys.platform != "linux", reason="displays are named by DISPLAY on Linux only")


@pytest.fixture
def no_display(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "XDG_SESSION_TYPE"):
        monkeypatch.delenv(name, raising=False)


def test_the_pattern_opens() -> None:
    source = open_source(PatternCapture(kind="pattern", width=64, height=64), OBS)
    assert source.read().pixels.shape == (64, 64, 3)
    source.close()


def test_a_picture_opens_with_its_colours_and_each_frame_is_its_own(tmp_path: Path) -> None:
    path = tmp_path / "bild ä.png"
    drawn = draw_pattern(3, 160, 90)
    path.write_bytes(cv2.imencode(".png", np.ascontiguousarray(drawn[..., ::-1]))[1].tobytes())
    source = open_source(ImageCapture(kind="image", path=path, fps=240), OBS)
    first, second = source.read(), source.read()
    np.testing.assert_array_equal(first.pixels, drawn)
    first.pixels[:] = 0
    np.testing.assert_array_equal(second.pixels, drawn)
    assert (first.index, second.index) == (0, 1)
    assert source.detail == "picture bild ä.png 160x90"
    source.close()


def test_transparency_is_dropped(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(cv2.imencode(".png", np.full((4, 4, 4), (10, 20, 200, 0), np.uint8))[1].tobytes())
    assert (read_image(path) == (200, 20, 10)).all()


def test_pictures_that_cannot_be_read_are_named(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"\x89PNG\r\n\x1a\n" + b"\0" * 40)
    empty = tmp_path / "empty.png"
    empty.touch()
    for path in (broken, empty, tmp_path / "absent.png", tmp_path):
        with pytest.raises(SourceLost) as caught:
            read_image(path)
        assert str(path) in str(caught.value)
        assert "\n" not in str(caught.value)
    assert capfd.readouterr().err == ""


@on_linux
@pytest.mark.usefixtures("no_display")
def test_without_a_display_the_screen_says_so() -> None:
    with pytest.raises(SourceLost, match=r"there is no display: DISPLAY is not set; .*kind: camera"):
        open_source(ScreenCapture(kind="screen"), OBS)


@on_linux
@pytest.mark.parametrize("variable", [("WAYLAND_DISPLAY", "wayland-0"), ("XDG_SESSION_TYPE", "wayland")])
def test_wayland_is_explained(monkeypatch: pytest.MonkeyPatch, variable: tuple[str, str]) -> None:
    monkeypatch.setenv("DISPLAY", ":0")
    monkeypatch.setenv(*variable)
    with pytest.raises(SourceLost, match=r"Wayland session.*kind: obs.*kind: camera"):
        open_screen()


@on_linux
def test_a_display_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    monkeypatch.delenv("XDG_SESSION_TYPE", raising=False)
    for name in (":4711", "nonsense"):
        monkeypatch.setenv("DISPLAY", name)
        assert unavailable() is None
        with pytest.raises(SourceLost, match=f"the screen cannot be captured .*DISPLAY is {name}"):
            open_source(ScreenCapture(kind="screen"), OBS)


@pytest.mark.parametrize("platform", ["win32", "darwin"])
def test_windows_by_title_are_x11_only_and_say_so(monkeypatch: pytest.MonkeyPatch, platform: str) -> None:
    from streamv2v_obs.capture import screen

    monkeypatch.setattr(sys, "platform", platform)
    with pytest.raises(SourceLost, match=r"capture.window \('Game'\) is offered on X11 only; .*capture.region"):
        screen._place(ScreenCapture(kind="screen", window="Game"), [(0, 0, 800, 600)])


def test_auto_shows_the_pattern_and_says_why(
    no_display: None, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    if sys.platform != "linux" or Path("/sys/class/video4linux").exists():
        pytest.skip("NOT TESTED where there may be a screen or a camera: the pattern instead of them")
    with caplog.at_level(logging.INFO):
        source = open_source(AutoCapture(fps=50), OBS)
    assert isinstance(source, PatternSource)
    assert "auto passes over the screen: there is no display" in caplog.text
    assert "auto shows the test pattern" in caplog.text
    assert "there is no camera" in caplog.text
    source.close()


def test_obs_that_is_not_there_is_a_lost_source() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with pytest.raises(SourceLost, match=f"127.0.0.1:{port}"):
        open_source(ObsCapture(kind="obs"), ObsSettings(port=port))


@pytest.mark.parametrize(
    ("wanted", "desktop", "expected"),
    [
        ((10, 20, 30, 40), (0, 0, 100, 100), (10, 20, 30, 40)),
        ((-10, -5, 50, 50), (0, 0, 100, 100), (0, 0, 40, 45)),
        ((90, 80, 50, 50), (0, 0, 100, 100), (90, 80, 10, 20)),
        ((-1900, 10, 100, 100), (-1920, 0, 3840, 1080), (-1900, 10, 100, 100)),
        ((100, 0, 10, 10), (0, 0, 100, 100), None),
        ((0, -10, 10, 10), (0, 0, 100, 100), None),
    ],
)
def test_regions_are_clipped_to_the_desktop(
    wanted: tuple[int, int, int, int], desktop: tuple[int, int, int, int], expected: tuple[int, int, int, int] | None
) -> None:
    assert clip(wanted, desktop) == expected


def test_a_rectangle_is_said_in_words() -> None:
    assert say((-1920, 0, 1280, 720)) == "1280x720 at -1920,0"


@pytest.mark.usefixtures("no_display")
def test_the_list_says_what_there_is_and_why_the_rest_is_not() -> None:
    found = list_sources()
    assert {row.kind for row in found} == {"screen", "camera", "pattern"}
    for row in found:
        assert bool(row.setting) != bool(row.problem), row
        if row.setting:
            Settings.model_validate(yaml.safe_load(row.setting))
    assert found[-1] == FoundSource("pattern", "moving test picture", 512, 512, "capture: {kind: pattern}")


@on_linux
def test_opening_and_closing_200_films_leaves_no_handle_and_no_thread(tmp_path: Path) -> None:
    path = film(tmp_path / "a.mp4", 3, (64, 64))
    settings = VideoCapture(kind="video", path=path, realtime=False)
    held: list[int] = []
    for _ in range(201):
        source = open_source(settings, OBS)
        for _ in range(4):
            source.read()
        source.close()
        held.append(sum(len(list(Path("/proc/self", what).iterdir())) for what in ("fd", "task")))
    assert held[-1] <= held[0]
