"""Cameras: none is here, so errors are tested for real, and reading on a film, which OpenCV opens like a camera."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import cv2
import numpy as np
import pytest

from streamv2v_obs.capture import camera_linux
from streamv2v_obs.capture.cadence import Cadence
from streamv2v_obs.capture.camera import CameraSource
from streamv2v_obs.capture.pattern import draw_pattern, read_counter
from streamv2v_obs.capture.quiet import quiet_opencv
from streamv2v_obs.errors import SourceLost
from streamv2v_obs.frames import Frame
from streamv2v_obs.settings import CameraCapture

on_linux = pytest.mark.skipif(sys.platform != "linux", reason="how Linux tells its cameras apart")


def _film(path: Path, count: int, size: tuple[int, int] = (320, 240)) -> Path:
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 30, size)
    assert writer.isOpened()
    for n in range(count):
        writer.write(np.ascontiguousarray(draw_pattern(n, *size)[..., ::-1]))
    writer.release()
    return path


def _opened(device: int | str, fps: float = 240) -> CameraSource:
    return CameraSource(CameraCapture(kind="camera", device=device, width=320, height=240, fps=fps))


def _read(source: CameraSource, count: int) -> list[Frame]:
    return [source.read() for _ in range(count)]


@pytest.fixture
def running(tmp_path: Path) -> Iterator[str]:
    """A camera of 100 pictures a second that runs whether it is read or not: a film sent through a named pipe."""
    path = tmp_path / "camera.mjpeg"
    os.mkfifo(path)
    pictures = [
        cv2.imencode(".jpg", np.ascontiguousarray(draw_pattern(n, 320, 240)[..., ::-1]))[1].tobytes()
        for n in range(400)
    ]

    def send() -> None:
        cadence = Cadence(100)
        # The reader's end is closed when the test has seen enough.
        with suppress(BrokenPipeError), path.open("wb", buffering=0) as pipe:
            for picture in pictures:
                cadence.wait()
                pipe.write(picture)

    thread = threading.Thread(target=send, name="camera")
    thread.start()
    yield str(path)
    thread.join(10)


@on_linux
def test_pictures_come_in_order_as_rgb(running: str) -> None:
    source = _opened(running, fps=240)
    frames = _read(source, 60)
    source.close()
    numbers = [read_counter(frame.pixels) or 0 for frame in frames]
    # What waited in the pipe while it was opened comes faster than asked and is thinned; then none is missing.
    assert numbers == sorted(set(numbers))
    assert 1 in np.diff(numbers)
    assert [frame.index for frame in frames] == list(range(60))
    assert frames[0].pixels.flags.c_contiguous
    assert np.abs(frames[0].pixels.astype(int) - draw_pattern(numbers[0], 320, 240)).mean() < 8
    assert source.detail.endswith("camera.mjpeg 320x240")


@on_linux
def test_a_camera_that_is_faster_than_asked_is_thinned(running: str) -> None:
    source = _opened(running, fps=25)
    frames = _read(source, 12)
    source.close()
    numbers = [read_counter(frame.pixels) or 0 for frame in frames]
    # Opening has let some wait in the pipe; then about every fourth comes.
    assert numbers == sorted(set(numbers))
    assert numbers[-1] - numbers[0] > 33
    assert frames[-1].captured_at - frames[0].captured_at > 11 / 25 - 0.05


def test_another_size_than_asked_is_told_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    source = _opened(str(_film(tmp_path / "a.avi", 500, (160, 120))))
    with caplog.at_level(logging.WARNING):
        source.read()
        source.read()
    source.close()
    assert [r.getMessage().split(" gives ")[1] for r in caplog.records] == ["160x120 instead of 320x240"]


def test_a_camera_that_stops_is_lost_at_once(tmp_path: Path) -> None:
    source = _opened(str(_film(tmp_path / "a.avi", 2)))
    with pytest.raises(SourceLost, match="gives no more pictures; was it unplugged"):
        _read(source, 10)
    source.close()


@on_linux
@pytest.mark.parametrize("device", [63, "/dev/video63"])
def test_no_such_camera(device: int | str, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SourceLost, match=r"^there is no camera .*/dev/video63: No such file.*; cameras here: "):
        _opened(device)
    assert capfd.readouterr().err == ""


@on_linux
def test_what_is_no_camera_is_told_apart_from_one_that_is_busy(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "video0"
    path.write_text("no camera at all")
    with pytest.raises(SourceLost, match="it is no camera, or another program holds it"):
        _opened(str(path))
    with path.open() as opened, subprocess.Popen(["sleep", "60"], stdin=opened) as holder:
        try:
            with pytest.raises(SourceLost, match=rf"video0 is busy, held by sleep \({holder.pid}\); close it there"):
                _opened(str(path))
        finally:
            holder.kill()
    assert capfd.readouterr().err == ""


@on_linux
def test_opencv_is_quiet_inside_the_block_only(capfd: pytest.CaptureFixture[str]) -> None:
    with quiet_opencv():
        cv2.VideoCapture(97).release()
    assert capfd.readouterr().err == ""
    cv2.VideoCapture(97).release()
    assert "VIDEOIO" in capfd.readouterr().err


@on_linux
def test_a_folder_is_no_camera(tmp_path: Path) -> None:
    with pytest.raises(SourceLost, match="is a folder"):
        _opened(str(tmp_path))


@on_linux
def test_cameras_are_listed_as_the_kernel_lays_them_out(tmp_path: Path) -> None:
    # A copy of the kernel's layout stands in for /sys, which has no cameras here.
    for node, index, name in (
        ("video0", 0, "Webcam"),
        ("video1", 1, "Webcam"),
        ("video10", 0, "OBS"),
        ("video2", 0, "Grabber"),
    ):
        (tmp_path / node).mkdir()
        (tmp_path / node / "index").write_text(f"{index}\n")
        (tmp_path / node / "name").write_text(f"{name}\n")
    (tmp_path / "video3").mkdir()
    assert camera_linux.cameras(tmp_path) == [
        ("/dev/video0", "Webcam"),
        ("/dev/video2", "Grabber"),
        ("/dev/video10", "OBS"),
    ]
    assert camera_linux.cameras(tmp_path / "absent") == []


def test_an_address_is_left_to_opencv() -> None:
    with pytest.raises(SourceLost, match="cannot be opened"):
        _opened("http://127.0.0.1:9/nothing")


@on_linux
def test_opening_and_closing_200_times_leaves_no_handle(tmp_path: Path) -> None:
    path = str(_film(tmp_path / "a.avi", 2, (64, 64)))
    held = Path("/proc/self/fd")
    _opened(path).close()
    before = len(list(held.iterdir()))
    for _ in range(200):
        source = _opened(path)
        source.read()
        source.close()
    assert len(list(held.iterdir())) <= before
