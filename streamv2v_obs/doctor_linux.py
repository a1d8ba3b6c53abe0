"""What Linux tells in its virtual files: processor features, video loopback devices, the kind of display."""

from __future__ import annotations

import os
import platform
import shutil
from dataclasses import dataclass
from pathlib import Path

from streamv2v_obs.publish.virtual_camera_linux import loopback_devices


def cpu_flags() -> frozenset[str]:
    """Feature names of the processor."""
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
        name, _, value = line.partition(":")
        if name.strip() in ("flags", "Features"):
            return frozenset(value.split())
    return frozenset()


@dataclass(frozen=True)
class Loopback:
    """A device that v4l2loopback made. ``holders`` are programs of this user that have it open."""

    path: str
    name: str
    writable: bool
    exclusive_caps: bool | None
    holders: tuple[str, ...]


def loopbacks(sys: Path = Path("/sys"), dev: Path = Path("/dev"), proc: Path = Path("/proc")) -> list[Loopback]:
    """All of them, by number."""
    found = []
    caps = _text(sys / "module/v4l2loopback/parameters/exclusive_caps").split(",")
    for place, (listed, name) in enumerate(loopback_devices(sys / "devices/virtual/video4linux")):
        path = dev / Path(listed).name
        exclusive = caps[place] in ("Y", "1") if place < len(caps) and caps[place] else None
        found.append(Loopback(str(path), name, os.access(path, os.W_OK), exclusive, _holders(path, proc)))
    return found


def module_state(sys: Path = Path("/sys"), modules: Path | None = None, proc: Path = Path("/proc")) -> str:
    """``loaded``, ``installed``, ``not installed`` or ``impossible``: v4l2loopback, for the kernel that runs."""
    if (sys / "module/v4l2loopback").is_dir():
        return "loaded"
    if not (proc / "modules").exists():
        return "impossible"  # a kernel that was built without
    modules = modules or Path("/lib/modules") / platform.release()
    known = next(modules.rglob("v4l2loopback.ko*"), None) if modules.is_dir() else None
    return "installed" if known is not None else "not installed"


def as_root(command: str) -> str:
    """``command``, with sudo before it where that is needed."""
    return command if os.geteuid() == 0 else f"sudo {command}"


def install_command(debian: str, arch: str, fedora: str) -> str:
    """How to get a package with the first of the package managers that is here; empty if there is none of them."""
    managers = (("apt", f"apt install {debian}"), ("pacman", f"pacman -S {arch}"), ("dnf", f"dnf install {fedora}"))
    return next((as_root(command) for name, command in managers if shutil.which(name)), "")


def has_nvidia_card(sys: Path = Path("/sys")) -> bool:
    """Whether the machine has one, with or without a driver."""
    for device in (sys / "bus/pci/devices").glob("*"):
        if _text(device / "vendor") == "0x10de" and _text(device / "class").startswith("0x03"):
            return True
    return False


def _holders(device: Path, proc: Path) -> tuple[str, ...]:
    found = []
    for folder in proc.glob("[0-9]*"):
        try:
            if any(entry.is_symlink() and str(entry.readlink()) == str(device) for entry in (folder / "fd").iterdir()):
                found.append(f"{_text(folder / 'comm')} (process {folder.name})")
        except OSError:  # another user's, or gone by now
            continue
    return tuple(found)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""
