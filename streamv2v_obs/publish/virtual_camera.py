"""The system's virtual camera, and the only place that imports pyvirtualcam."""

from __future__ import annotations

import sys
from collections.abc import Callable

import cv2
import numpy as np
import numpy.typing as npt
import pyvirtualcam
from pyvirtualcam import PixelFormat

from streamv2v_obs.errors import SinkLost
from streamv2v_obs.frames import Pixels
from streamv2v_obs.settings import PublishSettings
from streamv2v_obs.shape import fit_to

WIDTH, HEIGHT = 1280, 720
"""Of a camera whose size nobody set: what video calls ask for."""

Packed = npt.NDArray[np.uint8]

_HOW_TO_GET_ONE = {
    "linux": (
        "install v4l2loopback-dkms, then "
        "`sudo modprobe v4l2loopback video_nr=10 card_label=StreamV2V exclusive_caps=1` makes one"
    ),
    "win32": (
        "install OBS Studio, which brings 'OBS Virtual Camera'; "
        "one program at a time can feed it, so stop OBS's own 'Start Virtual Camera'"
    ),
    "darwin": "install OBS Studio and press its 'Start Virtual Camera' once, so that macOS asks for permission",
}


def how_to_get_one(platform: str = sys.platform) -> str:
    """How a user of this system comes by a virtual camera, in one line."""
    return _HOW_TO_GET_ONE.get(platform, f"pyvirtualcam knows none for {platform}")


def conflict_with_obs(platform: str = sys.platform) -> str:
    """What to say when OBS's own virtual camera is on beside ours; nothing where they are two devices."""
    if platform not in ("win32", "darwin"):
        return ""
    return (
        "OBS's own virtual camera is on, and on this system it is the device that we feed: press 'Stop Virtual "
        "Camera' in OBS, or leave the camera out of publish.outputs"
    )


class VirtualCamera:
    """One device, opened once and kept: v4l2loopback may refuse to be opened a second time.

    A device that vanishes while it is open goes unnoticed on Linux: the driver's failures are printed by the library,
    not reported. Whoever watches the device's health does it from outside.
    """

    def __init__(self, settings: PublishSettings, *, backend: str | None = None) -> None:
        """Open ``settings.camera``; ``backend`` is one of pyvirtualcam's. Raises SinkLost with what to do."""
        self._width = settings.width or WIDTH
        self._height = settings.height or HEIGHT
        self._fit = settings.fit
        name = settings.camera.pixel_format
        pixel_format, self._pack = _FORMATS["rgb" if name == "auto" else name]
        try:
            self._camera = pyvirtualcam.Camera(
                self._width,
                self._height,
                settings.fps,
                fmt=pixel_format,
                device=settings.camera.device,
                backend=backend,
            )
        except RuntimeError as error:
            which = f"virtual camera {settings.camera.device!r}" if settings.camera.device else "virtual camera"
            reason = "; ".join(line.strip() for line in str(error).splitlines() if line.strip())
            raise SinkLost(f"no {which} could be opened ({reason}); {how_to_get_one()}") from error
        self.detail = f"{self._camera.device} {self._width}x{self._height} ({self._camera.backend})"

    def send(self, pixels: Pixels) -> None:
        """Show ``pixels``, uint8 [H, W, 3] RGB of any size. Raises SinkLost."""
        packed = self._pack(fit_to(pixels, self._width, self._height, self._fit))
        try:
            self._camera.send(packed)
        except (RuntimeError, OSError) as error:
            raise SinkLost(f"virtual camera {self.detail} takes no more pictures: {error}") from error

    def close(self) -> None:
        """Give the device back."""
        self._camera.close()


def _nv12(pixels: Pixels) -> Packed:
    height, width, _ = pixels.shape
    planar = cv2.cvtColor(pixels, cv2.COLOR_RGB2YUV_I420).reshape(-1)
    luma, chroma = planar[: width * height], planar[width * height :].reshape(2, -1)
    return np.concatenate([luma, chroma.T.reshape(-1)]).astype(np.uint8, copy=False)


def _as(code: int) -> Callable[[Pixels], Packed]:
    return lambda pixels: np.ascontiguousarray(cv2.cvtColor(pixels, code), dtype=np.uint8)


# BT.601, limited range: what the readers of webcams take for granted.
_FORMATS: dict[str, tuple[PixelFormat, Callable[[Pixels], Packed]]] = {
    "rgb": (PixelFormat.RGB, lambda pixels: pixels),
    "i420": (PixelFormat.I420, _as(cv2.COLOR_RGB2YUV_I420)),
    "nv12": (PixelFormat.NV12, _nv12),
    "yuyv": (PixelFormat.YUYV, _as(cv2.COLOR_RGB2YUV_YUYV)),
    "uyvy": (PixelFormat.UYVY, _as(cv2.COLOR_RGB2YUV_UYVY)),
}
