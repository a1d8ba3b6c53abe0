"""What Linux tells of its loopback devices, and the way out of v4l2loopback's trap; without pyvirtualcam."""

from __future__ import annotations

import fcntl
import os
import struct
from contextlib import suppress
from pathlib import Path

from streamv2v_obs.errors import SinkLost

_DEVICES = Path("/sys/devices/virtual/video4linux")
_IO = Path("/proc/thread-self/io")
_STREAMON = 0x40045612  # VIDIOC_STREAMON, whose argument is the direction
_OUTPUT = struct.pack("i", 2)  # V4L2_BUF_TYPE_VIDEO_OUTPUT


def loopback_devices(devices: Path = _DEVICES) -> list[tuple[str, str]]:
    """(path, name) of each device that v4l2loopback made, in the order of their numbers."""
    found = []
    for device in sorted(devices.glob("video*"), key=lambda device: (len(device.name), device.name)):
        with suppress(OSError):  # removed between two readings
            found.append((f"/dev/{device.name}", (device / "name").read_text("utf-8", "replace").strip()))
    return found


def path_of(device: str, devices: Path = _DEVICES) -> str:
    """The path of a device that is named by its path or its name. Raises SinkLost where that is none or several."""
    if device.startswith("/"):
        return device
    there = loopback_devices(devices)
    paths = [path for path, name in there if name == device]
    if len(paths) == 1:
        return paths[0]
    listed = ", ".join(f"{path} ({name})" for path, name in there) or "none"
    why = f"{len(paths)} devices have this name, so give a path" if paths else "no device has this name"
    raise SinkLost(f"no virtual camera {device!r}: {why}; loopback devices here: {listed}")


def rearm(path: str) -> None:
    """Have the device take pictures again.

    With ``exclusive_caps=1``, v4l2loopback 0.12 calls a device that somebody has written to "no output" from then on,
    also when the writer has left: unless one who leaves had started to stream, which writing does not need.
    """
    with suppress(OSError):
        descriptor = os.open(path, os.O_RDWR | os.O_NONBLOCK)
        try:
            fcntl.ioctl(descriptor, _STREAMON, _OUTPUT)
        finally:
            os.close(descriptor)


def rearm_unused(devices: Path = _DEVICES) -> None:
    """``rearm`` every device that nobody feeds or watches; of others it cannot be told whether a writer is there."""
    for path, _ in loopback_devices(devices):
        if _format_of(path, devices) is None:
            rearm(path)


def _format_of(path: str, devices: Path = _DEVICES) -> str | None:
    """Such as ``YU12:1280x720@30``; None while the device has none, or where the driver does not tell."""
    try:
        return (devices / Path(path).resolve().name / "format").read_text("utf-8", "replace").strip() or None
    except OSError:
        return None


class Health:
    """Whether an open device still is what was opened, as seen from outside."""

    def __init__(self, path: str, fourcc: str, width: int, height: int, devices: Path = _DEVICES) -> None:
        self._path = path
        self._expected = f"{fourcc}:{width}x{height}"
        self._devices = devices
        self._number = self._device_number()

    def problem(self) -> str | None:
        """What is wrong with it; None if nothing is. Before the first picture the format may be anybody's."""
        if self._number is None or self._device_number() != self._number:
            return f"{self._path} is gone; what was opened there can be reached by nobody"
        format_now = _format_of(self._path, self._devices)
        if format_now is not None and format_now.partition("@")[0] != self._expected:
            return (
                f"{self._path} carries {format_now} instead of {self._expected}, because another program feeds or "
                "watches it: close that one, or publish in its size"
            )
        return None

    def _device_number(self) -> int | None:
        try:
            return os.stat(self._path).st_rdev  # noqa: PTH116  Path.stat is this, and os.stat says what is meant
        except OSError:
            return None


def written_by_this_thread() -> int | None:
    """How many bytes this thread has written to anything so far; None where the kernel does not count them."""
    try:
        for line in _IO.read_text("ascii").splitlines():
            if line.startswith("wchar:"):
                return int(line.partition(":")[2])
    except (OSError, ValueError):
        pass
    return None
