"""What Linux knows of its cameras: names, nodes, permissions, and who holds one."""

from __future__ import annotations

import os
import stat
from pathlib import Path

_NAMES = Path("/sys/class/video4linux")


def cameras(names: Path = _NAMES) -> list[tuple[str, str]]:
    """(path, name) of every video device, in the order of their numbers; ``names`` is where the kernel lists them."""
    try:
        nodes = sorted(names.iterdir(), key=lambda node: (len(node.name), node.name))
    except OSError:
        # No such folder on a kernel that has never seen a camera.
        return []
    found = []
    for node in nodes:
        try:
            # A camera's further nodes carry metadata, not pictures.
            if int((node / "index").read_text()) > 0:
                continue
            found.append((f"/dev/{node.name}", (node / "name").read_text().strip()))
        except (OSError, ValueError):
            # Unplugged between two readings.
            continue
    return found


def problem(device: int | str) -> str | None:
    """Why ``device`` cannot be a camera that we may read; None if it may be one, or is no path at all."""
    path = _path(device)
    if path is None:
        return None
    try:
        mode = path.stat().st_mode
    except OSError as error:
        there = ", ".join(f"{p} ({name})" for p, name in cameras()) or "none"
        return (
            f"there is no camera {device} ({path}: {error.strerror}); cameras here: {there}; "
            "connect one, or set another capture.device or capture.kind"
        )
    if stat.S_ISDIR(mode):
        return f"camera {device} is a folder ({path}); capture.device is an index or a path such as /dev/video0"
    if not os.access(path, os.R_OK):
        return (
            f"camera {device} may not be read by this user ({path}); add the user to the group video and log in again"
        )
    return None


def holders_of(device: int | str) -> list[str]:
    """``name (pid)`` of each other process that has the device open, as far as this user may see."""
    path = _path(device)
    if path is None:
        return []
    target = str(path.resolve())
    found = []
    for process in Path("/proc").iterdir():
        if not process.name.isdigit() or int(process.name) == os.getpid():
            continue
        try:
            if any(str(link.readlink()) == target for link in (process / "fd").iterdir()):
                found.append(f"{(process / 'comm').read_text().strip()} ({process.name})")
        except OSError:
            # Another user's process, or one that has just ended.
            continue
    return found


def _path(device: int | str) -> Path | None:
    if isinstance(device, int):
        return Path(f"/dev/video{device}")
    return None if "://" in device else Path(device)
