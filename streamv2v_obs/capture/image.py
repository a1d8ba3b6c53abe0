"""A still picture as a source."""

from __future__ import annotations

import time
from pathlib import Path

import cv2
import numpy as np

from streamv2v_obs.capture.cadence import Cadence
from streamv2v_obs.capture.quiet import quiet_opencv
from streamv2v_obs.errors import SourceLost
from streamv2v_obs.frames import Frame, Pixels
from streamv2v_obs.settings import ImageCapture


class ImageSource:
    """The same picture at every beat, turned as its EXIF data says. Raises SourceLost naming the file."""

    def __init__(self, settings: ImageCapture) -> None:
        self._path = settings.path.expanduser()
        self._cadence = Cadence(settings.fps)
        self._pixels = read_image(self._path)
        self._index = 0

    @property
    def detail(self) -> str:
        """What is captured, in a few words for ``status``."""
        height, width, _ = self._pixels.shape
        return f"picture {self._path.name} {width}x{height}"

    def read(self) -> Frame:
        """The picture once more; each frame has its own copy."""
        self._cadence.wait()
        frame = Frame(self._pixels.copy(), time.monotonic(), self._index)
        self._index += 1
        return frame

    def close(self) -> None:
        """Nothing is held; the file was closed when it had been read."""


def read_image(path: Path) -> Pixels:
    """The picture in ``path``, uint8 [H, W, 3] RGB; transparency is dropped. Raises SourceLost naming the file."""
    try:
        # Not cv2.imread: on Windows it cannot open paths with letters outside the system's code page.
        encoded = np.frombuffer(path.read_bytes(), np.uint8)
    except OSError as error:
        raise SourceLost(f"cannot read the picture {path}: {error.strerror}; check capture.path") from error
    decoded = None
    if encoded.size:
        try:
            with quiet_opencv():
                decoded = cv2.imdecode(encoded, cv2.IMREAD_COLOR)
        except cv2.error as error:
            raise SourceLost(f"cannot decode the picture {path}: {error.err}") from error
    if decoded is None:
        raise SourceLost(f"{path} is no picture that can be decoded; PNG, JPEG, WebP, BMP and TIFF can")
    pixels: Pixels = np.asarray(cv2.cvtColor(decoded, cv2.COLOR_BGR2RGB), np.uint8)
    return pixels
