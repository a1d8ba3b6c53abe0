"""What Linux tells of its loopback devices, and the way out of v4l2loopback's trap; without pyvirtualcam."""

from __future__ import annotations

import fcntl
import logging
import mmap
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from streamv2v_obs.errors import SinkLost

log = logging.getLogger(__name__)

_DEVICES = Path("/sys/devices/virtual/video4linux")
_IO = Path("/proc/thread-self/io")

# Of linux/videodev2.h: VIDIOC_..., V4L2_CTRL_FLAG_NEXT_CTRL, V4L2_BUF_TYPE_VIDEO_OUTPUT, V4L2_MEMORY_MMAP.
_STREAMON, _QUERYCTRL, _S_CTRL, _REQBUFS, _QUERYBUF = 0x40045612, 0xC0445624, 0xC008561C, 0xC0145608, 0xC0585609
_NEXT, _OUTPUT, _MMAP = 0x80000000, 2, 1


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
    with suppress(OSError), _opened(path) as device:
        fcntl.ioctl(device, _STREAMON, struct.pack("i", _OUTPUT))


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


def show_on_timeout(path: str, picture: bytes, after_s: float) -> None:
    """Have the driver itself show ``picture``, of the device's present format, when nothing comes for ``after_s``.

    Silently without effect where the driver cannot: v4l2loopback keeps one picture for that purpose, others none.
    """
    try:
        with _opened(path) as device:
            controls = _controls(device)
            _set(device, controls["timeout"], int(1000 * after_s))
            _set(device, controls["timeout_image_io"], 1)
        # By that control, whoever opens the device next is given that picture's memory instead of a frame's.
        with _opened(path) as device:
            fcntl.ioctl(device, _REQBUFS, bytearray(struct.pack("5I", 1, _OUTPUT, _MMAP, 0, 0)))
            buffer = bytearray(88)
            struct.pack_into("II", buffer, 0, 0, _OUTPUT)
            fcntl.ioctl(device, _QUERYBUF, buffer)
            offset, length = struct.unpack_from("I4xI", buffer, 64)
            with mmap.mmap(device, length, offset=offset) as memory:
                memory[: min(length, len(picture))] = picture[:length]
    except (OSError, KeyError, ValueError) as error:
        log.info("%s cannot show a slate of its own when this program dies: %r", path, error)


def forget_timeout(path: str) -> None:
    """Undo ``show_on_timeout``, whose picture would interrupt whoever feeds the device next."""
    with suppress(OSError, KeyError), _opened(path) as device:
        _set(device, _controls(device)["timeout"], 0)


@contextmanager
def _opened(path: str) -> Iterator[int]:
    descriptor = os.open(path, os.O_RDWR | os.O_NONBLOCK)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _controls(device: int) -> dict[str, int]:
    """The device's controls, name -> number; the driver's versions differ in the numbers."""
    found: dict[str, int] = {}
    last = 0
    with suppress(OSError):  # that there is no next one
        while True:
            request = bytearray(68)
            struct.pack_into("I", request, 0, last | _NEXT)
            fcntl.ioctl(device, _QUERYCTRL, request)
            last, _, name = struct.unpack_from("II32s", request)
            found[name.rstrip(b"\0").decode("ascii", "replace")] = last
    return found


def _set(device: int, control: int, value: int) -> None:
    fcntl.ioctl(device, _S_CTRL, struct.pack("Ii", control, value))


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
