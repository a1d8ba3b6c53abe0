"""What Linux tells in its virtual files: processor features, and what may be written."""

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


def may_write(device: str) -> bool:
    """Whether this user may open a device for writing."""
    return os.access(device, os.W_OK)
