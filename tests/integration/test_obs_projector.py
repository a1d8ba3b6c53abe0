"""A projector of a real OBS as a source: the very pixels, its shape, its end with its source and with us."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import suppress

import cv2
import numpy as np
import pytest

from streamv2v_obs.capture.obs_projector import ObsProjector
from streamv2v_obs.capture.source import open_source
from streamv2v_obs.capture.window_x11 import arrange, windows
from streamv2v_obs.errors import SourceLost, SourceStalled
from streamv2v_obs.frames import Frame
from streamv2v_obs.settings import ObsCapture
from tests.conftest import Require
from tests.rigs.obs import SCENES, RealObs
from tests.rigs.obs30 import EITHER, either_obs

pytestmark = pytest.mark.obs

TURNED = "B colour"


@pytest.fixture(scope="module", params=EITHER)
def running(request: pytest.FixtureRequest, require: Require) -> Iterator[RealObs]:
    with either_obs(request.param, require) as obs:
        yield obs


@pytest.fixture
def obs(running: RealObs, monkeypatch: pytest.MonkeyPatch) -> RealObs:
    monkeypatch.setenv("DISPLAY", running.display.name)
    for other in ("WAYLAND_DISPLAY", "XDG_SESSION_TYPE", "XAUTHORITY"):
        monkeypatch.delenv(other, raising=False)
    running.scene("A")
    return running


def opened(obs: RealObs, source: str | None, width: int = 320, timeout_s: float = 1.0) -> ObsProjector:
    settings = ObsCapture(kind="obs", source=source, width=width, fps=100, method="projector")
    found = open_source(settings, obs.settings(timeout_s=timeout_s))
    assert isinstance(found, ObsProjector)
    return found


def until(source: ObsProjector, colour: tuple[int, int, int]) -> Frame:
    """The first picture that is all of this colour: while OBS draws its window anew, a later one may be half black."""
    patient_until = time.monotonic() + 5
    while not (np.abs((frame := source.read()).pixels.astype(int) - colour) <= 1).all():
        assert time.monotonic() < patient_until, frame.pixels.mean((0, 1))
    return frame


def read_on(source: ObsProjector) -> None:
    for _ in range(300):  # three seconds
        with suppress(SourceStalled):  # while its window goes, it is hidden already and not gone yet
            source.read()


def projectors() -> int:
    return sum("Projector" in window.title for window in windows())


def test_a_source_comes_pixel_by_pixel_in_its_own_shape(obs: RealObs) -> None:
    source = opened(obs, TURNED)
    assert until(source, SCENES["B"]).pixels.shape == (180, 320, 3)
    assert source.detail == "OBS source 'B colour' in its projector"
    settings = {"inputName": TURNED, "inputSettings": {"color": 0xFF302010}}
    obs.requests.call("SetInputSettings", settings)
    assert until(source, (0x10, 0x20, 0x30)).pixels.flags.c_contiguous
    obs.requests.call("SetInputSettings", settings | {"inputSettings": {"color": 0xFF00FF00}})
    until(source, SCENES["B"])
    assert projectors() == 1
    source.close()
    patient_until = time.monotonic() + 5
    while projectors():
        assert time.monotonic() < patient_until, "its window goes with it"
        time.sleep(0.05)


def test_the_program_is_followed(obs: RealObs) -> None:
    source = opened(obs, None)
    for scene in ("A", "C", "B"):
        obs.scene(scene)
        until(source, SCENES[scene])
    source.close()


def test_bars_of_a_window_of_another_shape_are_cut_off(obs: RealObs) -> None:
    source = opened(obs, TURNED)
    assert source._window is not None
    arrange(source._window, 320, 300)
    patient_until = time.monotonic() + 5
    while (shape := until(source, SCENES["B"]).pixels.shape) != (180, 320, 3):
        assert time.monotonic() < patient_until, shape
    source.close()


def test_a_source_that_goes_takes_its_projector_with_it(obs: RealObs) -> None:
    created = {"sceneName": "A", "inputName": "short", "inputKind": "color_source_v3"}
    obs.requests.call("CreateInput", created | {"inputSettings": {"color": 0xFF0000FF, "width": 64, "height": 64}})
    source = opened(obs, "short", width=64)
    assert until(source, (255, 0, 0)).pixels.shape == (64, 64, 3)
    obs.requests.call("RemoveInput", {"inputName": "short"})
    with pytest.raises(SourceLost):
        read_on(source)
    source.close()
    with pytest.raises(SourceLost, match="was it renamed or removed"):
        opened(obs, "short")


def test_a_frozen_obs_is_noticed_though_its_window_stays(obs: RealObs) -> None:
    source = opened(obs, TURNED, timeout_s=0.5)
    until(source, SCENES["B"])
    obs.freeze()
    try:
        with pytest.raises(SourceLost, match=r"did not answer within 0\.5 s"):
            read_on(source)
    finally:
        obs.thaw()
    source.close()


def test_without_a_display_it_is_said_what_to_do(obs: RealObs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DISPLAY")
    with pytest.raises(SourceLost, match=r"capture\.method: projector needs the screen, and there is no display"):
        opened(obs, TURNED)


def test_it_is_the_picture_that_a_screenshot_shows(obs: RealObs) -> None:
    jpeg = obs.requests.screenshot("C")
    shot = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR_RGB)
    source = opened(obs, "C")
    frame = until(source, SCENES["C"])
    assert shot is not None
    assert np.abs(frame.pixels.astype(int) - shot).mean() < 2
    source.close()
