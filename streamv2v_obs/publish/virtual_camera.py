"""The system's virtual camera, and the only place that imports pyvirtualcam."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt
import pyvirtualcam
from pyvirtualcam import PixelFormat

from streamv2v_obs.errors import SinkLost
from streamv2v_obs.frames import Pixels
from streamv2v_obs.publish.slate import still
from streamv2v_obs.settings import PublishSettings
from streamv2v_obs.shape import fit_to

if sys.platform == "linux":
    from streamv2v_obs.publish import virtual_camera_linux as linux

WIDTH, HEIGHT = 1280, 720
"""Of a camera whose size nobody set: what video calls ask for."""

Packed = npt.NDArray[np.uint8]

_LOOK_S = 1.0
"""From one look at a Linux device to the next."""

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
    """One device, opened once and kept: whoever watches it would lose it with each closing.

    pyvirtualcam prints a write that fails on Linux and does not report it; so there each picture's bytes are counted,
    and the device is looked at once a second. Elsewhere what the library does not report goes unnoticed.
    """

    def __init__(self, settings: PublishSettings, *, backend: str | None = None) -> None:
        """Open ``settings.camera``; ``backend`` is one of pyvirtualcam's. Raises SinkLost with what to do."""
        self._width = settings.width or WIDTH
        self._height = settings.height or HEIGHT
        self._fit = settings.fit
        name = settings.camera.pixel_format
        self._format = _FORMATS["rgb" if name == "auto" else name]
        self._camera = self._opened(settings, backend)
        self._device = self._camera.device  # once it is closed, the library no longer knows
        self.detail = f"{self._device} {self._width}x{self._height} ({self._camera.backend})"
        self._watched = sys.platform == "linux" and self._camera.backend == "v4l2loopback"
        if self._watched:
            self._health = linux.Health(self._device, self._format.fourcc, self._width, self._height)
            self._looked_at = -_LOOK_S
            # Shown by the driver to whoever watches, should this process die; a frozen face tells nobody anything.
            slate = self._format.on_device(still(self._width, self._height, "No picture"))
            linux.show_on_timeout(self._device, slate.tobytes(), max(settings.hold_s, 3 / settings.fps))

    def _opened(self, settings: PublishSettings, backend: str | None) -> pyvirtualcam.Camera:
        device, on_linux = settings.camera.device, sys.platform == "linux" and backend in (None, "v4l2loopback")
        if on_linux and device is not None:
            device = linux.path_of(device)

        def open_device() -> pyvirtualcam.Camera:
            return pyvirtualcam.Camera(
                self._width, self._height, settings.fps, fmt=self._format.given, device=device, backend=backend
            )

        try:
            try:
                return open_device()
            except RuntimeError:
                if not on_linux:
                    raise
                if device is None:
                    linux.rearm_unused()
                else:
                    linux.rearm(device)
                return open_device()
        except RuntimeError as error:
            which = f"virtual camera {settings.camera.device!r}" if settings.camera.device else "virtual camera"
            reason = "; ".join(line.strip() for line in str(error).splitlines() if line.strip())
            advice = how_to_get_one()
            if on_linux and (there := linux.loopback_devices()):
                listed = ", ".join(f"{path} ({name})" for path, name in there)
                advice = f"loopback devices here: {listed}; close the program that feeds the one you want"
            raise SinkLost(f"no {which} could be opened ({reason}); {advice}") from error

    def send(self, pixels: Pixels) -> None:
        """Show ``pixels``, uint8 [H, W, 3] RGB of any size. Raises SinkLost."""
        packed = self._format.pack(fit_to(pixels, self._width, self._height, self._fit))
        try:
            if self._watched:
                self._send_watched(packed)
            else:
                self._camera.send(packed)
        except (RuntimeError, OSError) as error:
            raise SinkLost(f"virtual camera {self.detail} takes no more pictures: {error}") from error

    def _send_watched(self, packed: Packed) -> None:
        before = linux.written_by_this_thread()
        self._camera.send(packed)
        after = linux.written_by_this_thread()
        problem = None
        if before is not None and after is not None and after - before < self._bytes:
            problem = "the system refuses them; stderr says what it calls that"
        elif time.monotonic() - self._looked_at >= _LOOK_S:
            self._looked_at = time.monotonic()
            problem = self._health.problem()
        if problem is not None:
            raise SinkLost(f"virtual camera {self.detail} shows no more pictures: {problem}")

    @property
    def _bytes(self) -> int:
        """Of one picture, as it is written to a Linux device."""
        return self._width * self._height * self._format.bits // 8

    def close(self) -> None:
        """Give the device back."""
        if self._watched:
            linux.forget_timeout(self._device)
        self._camera.close()
        if self._watched:
            linux.rearm(self._device)


def _nv12(pixels: Pixels) -> Packed:
    height, width, _ = pixels.shape
    planar = cv2.cvtColor(pixels, cv2.COLOR_RGB2YUV_I420).reshape(-1)
    luma, chroma = planar[: width * height], planar[width * height :].reshape(2, -1)
    return np.concatenate([luma, chroma.T.reshape(-1)]).astype(np.uint8, copy=False)


def _as(code: int) -> Callable[[Pixels], Packed]:
    return lambda pixels: np.ascontiguousarray(cv2.cvtColor(pixels, code), dtype=np.uint8)


_i420 = _as(cv2.COLOR_RGB2YUV_I420)


@dataclass(frozen=True)
class _Format:
    """A way to hand pictures over."""

    given: PixelFormat
    pack: Callable[[Pixels], Packed]
    fourcc: str
    """What a Linux device is then set to; RGB is turned to I420 by the library."""
    bits: int
    """Of one pixel on a Linux device."""

    def on_device(self, pixels: Pixels) -> Packed:
        """As ``pixels`` come to lie in a Linux device."""
        return _i420(pixels) if self.given is PixelFormat.RGB else self.pack(pixels)


# BT.601, limited range: what the readers of webcams take for granted.
_FORMATS = {
    "rgb": _Format(PixelFormat.RGB, lambda pixels: pixels, "YU12", 12),
    "i420": _Format(PixelFormat.I420, _i420, "YU12", 12),
    "nv12": _Format(PixelFormat.NV12, _nv12, "NV12", 12),
    "yuyv": _Format(PixelFormat.YUYV, _as(cv2.COLOR_RGB2YUV_YUYV), "YUYV", 16),
    "uyvy": _Format(PixelFormat.UYVY, _as(cv2.COLOR_RGB2YUV_UYVY), "UYVY", 16),
}
