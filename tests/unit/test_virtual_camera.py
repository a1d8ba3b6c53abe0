"""The virtual camera: the library's real refusal, and a fake device in memory (no kernel here can have a real one)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

import cv2
import numpy as np
import numpy.typing as npt
import pytest
import pyvirtualcam
from pyvirtualcam import camera as library

from streamv2v_obs.errors import SinkLost
from streamv2v_obs.frames import Pixels
from streamv2v_obs.publish.virtual_camera import VirtualCamera, conflict_with_obs, how_to_get_one
from streamv2v_obs.settings import PublishSettings


class MemoryDevice:
    """Fake: a pyvirtualcam backend that keeps what it is given. It stands for no particular system."""

    opened: ClassVar[list[MemoryDevice]] = []

    def __init__(self, *, width: int, height: int, fps: float, fourcc: int, device: str | None) -> None:
        if device == "busy":
            raise RuntimeError("Device busy is already in use.\nClose the other program.")
        self.size = (width, height)
        self.fps = fps
        self.fourcc = fourcc
        self.name = device or "memory0"
        self.frames: list[np.ndarray[Any, np.dtype[np.uint8]]] = []
        self.closes = 0
        self.dead = False
        MemoryDevice.opened.append(self)

    def close(self) -> None:
        self.closes += 1

    def send(self, frame: np.ndarray[Any, np.dtype[np.uint8]]) -> None:
        if self.dead:
            raise RuntimeError("write failed")
        assert frame.ndim == 1
        assert frame.flags.c_contiguous
        self.frames.append(frame.copy())

    def device(self) -> str:
        return self.name

    def native_fourcc(self) -> int | None:
        return None


@pytest.fixture
def memory() -> Iterator[None]:
    pyvirtualcam.register_backend("memory", MemoryDevice)
    MemoryDevice.opened.clear()
    yield
    del library.BACKENDS["memory"]


def settings(**values: Any) -> PublishSettings:
    return PublishSettings.model_validate(values)


def colours(width: int, height: int) -> Pixels:
    """Smooth, so that halving the colour's resolution loses little."""
    y, x = np.mgrid[0:height, 0:width]
    return np.stack([40 + 170 * x / width, 40 + 170 * y / height, 90 + 0 * x], -1).astype(np.uint8)


def test_the_real_library_says_no_and_we_say_what_to_do() -> None:
    with pytest.raises(SinkLost) as caught:
        VirtualCamera(settings(camera={"device": "/no/such device"}))
    text = str(caught.value)
    assert text.startswith("no virtual camera '/no/such device' could be opened (")
    assert "\n" not in text
    assert how_to_get_one() in text
    assert caught.value.exit_code == 5


def test_the_advice_is_for_the_system_at_hand() -> None:
    assert "exclusive_caps=1" in how_to_get_one("linux")
    assert "card_label" in how_to_get_one("linux")
    assert "OBS Virtual Camera" in how_to_get_one("win32")
    assert "Start Virtual Camera" in how_to_get_one("darwin")
    assert "plan9" in how_to_get_one("plan9")


@pytest.mark.usefixtures("memory")
def test_a_busy_device_is_named() -> None:
    with pytest.raises(SinkLost, match=r"'busy' could be opened .*already in use\.; Close the other program"):
        VirtualCamera(settings(camera={"device": "busy"}), backend="memory")


@pytest.mark.usefixtures("memory")
def test_it_is_opened_as_set_and_closed_once() -> None:
    camera = VirtualCamera(
        settings(width=640, height=360, fps=25, camera={"device": "studio"}),
        backend="memory",
    )
    (device,) = MemoryDevice.opened
    assert (device.size, device.fps, device.name) == ((640, 360), 25, "studio")
    assert camera.detail == "studio 640x360 (memory)"
    camera.close()
    assert device.closes == 1


@pytest.mark.usefixtures("memory")
def test_without_a_size_it_is_what_video_calls_ask_for() -> None:
    VirtualCamera(settings(), backend="memory").close()
    assert MemoryDevice.opened[0].size == (1280, 720)


@pytest.mark.usefixtures("memory")
def test_pictures_of_any_size_are_letterboxed_or_cropped() -> None:
    white = np.full((64, 64, 3), 255, np.uint8)
    for fit, share in (("letterbox", 0.5), ("crop", 1.0)):
        camera = VirtualCamera(settings(width=128, height=64, fit=fit), backend="memory")
        camera.send(white)
        camera.send(white[:32])
        camera.close()
        assert MemoryDevice.opened[-1].frames[0].mean() / 255 == pytest.approx(share)
        assert len(MemoryDevice.opened[-1].frames) == 2


@pytest.mark.usefixtures("memory")
@pytest.mark.parametrize(
    ("pixel_format", "back"),
    [
        ("auto", None),
        ("rgb", None),
        ("i420", cv2.COLOR_YUV2RGB_I420),
        ("nv12", cv2.COLOR_YUV2RGB_NV12),
        ("yuyv", cv2.COLOR_YUV2RGB_YUYV),
        ("uyvy", cv2.COLOR_YUV2RGB_UYVY),
    ],
)
def test_every_pixel_format_shows_the_same_picture(pixel_format: str, back: int | None) -> None:
    camera = VirtualCamera(settings(width=96, height=64, camera={"pixel_format": pixel_format}), backend="memory")
    picture = colours(96, 64)
    camera.send(picture)
    camera.close()
    raw = MemoryDevice.opened[0].frames[0]
    if back is None:
        shown: npt.NDArray[Any] = raw.reshape(64, 96, 3)
    elif pixel_format in ("i420", "nv12"):
        shown = cv2.cvtColor(raw.reshape(96, 96), back)
    else:
        shown = cv2.cvtColor(raw.reshape(64, 96, 2), back)
    assert np.abs(shown.astype(int) - picture).max() <= 6


@pytest.mark.usefixtures("memory")
def test_a_device_that_fails_is_lost() -> None:
    camera = VirtualCamera(settings(width=64, height=64), backend="memory")
    MemoryDevice.opened[0].dead = True
    with pytest.raises(SinkLost, match="write failed"):
        camera.send(np.zeros((64, 64, 3), np.uint8))
    camera.close()


@pytest.mark.parametrize(("platform", "shared"), [("win32", True), ("darwin", True), ("linux", False)])
def test_where_obs_feeds_the_same_device_that_is_said(platform: str, shared: bool) -> None:
    assert ("Stop Virtual Camera" in conflict_with_obs(platform)) == shared
