"""A camera as a source, through OpenCV: by index, by path, or by the address of a network camera."""

from __future__ import annotations

import logging
import os
import sys
import time
from typing import Any

# OpenCV's own patience with a camera that hangs is 10 s, and nobody could end the capture thread meanwhile. It reads
# this when it is loaded.
os.environ.setdefault("OPENCV_VIDEOIO_V4L_SELECT_TIMEOUT", "1")

import cv2
import numpy as np

from streamv2v_obs.capture.cadence import Cadence
from streamv2v_obs.capture.quiet import quiet_opencv
from streamv2v_obs.errors import SourceLost, SourceStalled
from streamv2v_obs.frames import Frame, Pixels
from streamv2v_obs.settings import CameraCapture

log = logging.getLogger(__name__)

STALLS = 5
"""How often in a row a picture may fail to come, each time after about a second, before the camera is given up."""
_SLOW_S = 0.5  # a read that fails sooner has not waited for a picture: the device is gone


class CameraSource:
    """Reads at the camera's pace and passes on at most ``fps`` pictures a second.

    The size is asked of the camera, which may choose another one: that is logged, not an error. Raises SourceLost:
    no such camera, one that others hold, no permission, unplugged.
    """

    def __init__(self, settings: CameraCapture) -> None:
        self._device = settings.device
        problem = _problem(self._device)
        if problem is not None:
            raise SourceLost(problem)
        with quiet_opencv():
            self._camera: Any = cv2.VideoCapture(self._device)
            if not self._camera.isOpened():
                self._camera.release()
                raise SourceLost(_cannot_open(self._device))
            self._camera.set(cv2.CAP_PROP_FRAME_WIDTH, settings.width)
            self._camera.set(cv2.CAP_PROP_FRAME_HEIGHT, settings.height)
            self._camera.set(cv2.CAP_PROP_FPS, settings.fps)
        self._asked = (settings.width, settings.height)
        self._size: tuple[int, int] | None = None
        self._cadence = Cadence(settings.fps)
        self._stalls = 0
        self._index = 0

    @property
    def detail(self) -> str:
        """What is captured, in a few words for ``status``."""
        size = f" {self._size[0]}x{self._size[1]}" if self._size else ""
        return f"camera {self._device}{size}"

    def read(self) -> Frame:
        """The next picture. Raises SourceStalled when none comes for a second, SourceLost after that or at once."""
        while True:
            self._grab()
            captured_at = time.monotonic()
            # Pictures beyond fps are grabbed, so that they do not wait in the driver, and never decoded.
            if self._cadence.due():
                break
        try:
            decoded, picture = self._camera.retrieve()
        except cv2.error as error:
            raise SourceLost(f"the picture of camera {self._device} cannot be decoded: {error.err}") from error
        if not decoded:
            raise SourceLost(f"the picture of camera {self._device} cannot be decoded; {_ADVICE}")
        pixels: Pixels = np.asarray(cv2.cvtColor(picture, cv2.COLOR_BGR2RGB), np.uint8)
        self._note_size(pixels)
        frame = Frame(pixels, captured_at, self._index)
        self._index += 1
        return frame

    def close(self) -> None:
        """Let the camera go, for others to use."""
        self._camera.release()

    def _grab(self) -> None:
        began_at = time.monotonic()
        with quiet_opencv():
            grabbed = self._camera.grab()
        if grabbed:
            self._stalls = 0
            return
        self._stalls += 1
        if self._index == 0 and self._stalls == STALLS:
            raise SourceLost(_cannot_open(self._device))
        if time.monotonic() - began_at < _SLOW_S or self._stalls == STALLS:
            raise SourceLost(
                f"camera {self._device} gives no more pictures; was it unplugged, or taken by another program?"
            )
        raise SourceStalled(f"camera {self._device} gave no picture for a second")

    def _note_size(self, pixels: Pixels) -> None:
        height, width, _ = pixels.shape
        if self._size == (width, height):
            return
        self._size = (width, height)
        if self._size != self._asked:
            log.warning("camera %s gives %dx%d instead of %dx%d", self._device, width, height, *self._asked)


_ADVICE = "try another capture.width and capture.height"


def _problem(device: int | str) -> str | None:
    """What the system knows to be wrong with the device before it is opened; None if nothing."""
    if sys.platform == "linux":
        from streamv2v_obs.capture.camera_linux import problem

        return problem(device)
    return None


def _cannot_open(device: int | str) -> str:
    holders: list[str] = []
    if sys.platform == "linux":
        from streamv2v_obs.capture.camera_linux import holders_of

        holders = holders_of(device)
    if holders:
        return (
            f"camera {device} is busy, held by {', '.join(holders)}; close it there, or choose another capture.device"
        )
    return (
        f"camera {device} cannot be opened: it is no camera, or another program holds it; "
        "streamv2v-obs sources lists those there are"
    )
