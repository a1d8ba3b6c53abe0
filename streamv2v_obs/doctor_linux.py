"""What Linux tells in its virtual files: processor features, video loopback devices, the kind of display."""

from __future__ import annotations

import os
from pathlib import Path


def cpu_flags() -> frozenset[str]:
    """Feature names of the processor."""
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
        name, _, value = line.partition(":")
        if name.strip() in ("flags", "Features"):
            return frozenset(value.split())
    return frozenset()


def loopback_devices() -> list[str]:
    """Devices that v4l2loopback made, each as ``/dev/videoN (name)``."""
    found = []
    for device in sorted(Path("/sys/devices/virtual/video4linux").glob("video*")):
        name = (device / "name").read_text(encoding="utf-8", errors="replace").strip()
        found.append(f"/dev/{device.name} ({name})")
    return found


def may_write(device: str) -> bool:
    """Whether this user may open a device for writing."""
    return os.access(device, os.W_OK)
