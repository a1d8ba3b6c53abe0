"""What guest machines have in common: Debian's packages, the archive they start from, and what they tell."""

from __future__ import annotations

import json
import platform
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tests.rigs.kept import run

ROOT = Path(__file__).parents[2]
LOOPBACK = {
    # Numbers with a gap, so that nothing finds its device by counting; the third and fourth as a browser wants them.
    "devices": "4",
    "video_nr": "3,5,7,9",
    "card_label": '"Stage,Stage left,Booth,Hall"',
    "exclusive_caps": "0,0,1,1",
}
"""How v4l2loopback is loaded, as the kernel reads it."""


def machine_obstacle() -> str:
    """Why this machine is none for our guests; empty if it is."""
    here = sys.platform == "linux" and platform.machine() == "x86_64"
    return "" if here else "the guest is made for Linux on x86-64"


def init(prepare: str, said: str) -> bytes:
    """The first program of a guest: a shell that runs a module of ours as if it were started on this machine.

    ``prepare`` loads the guest's drivers, mounts this machine's files at /here and decides where complaints go;
    ``said`` is the file that takes what the module prints.
    """
    return f"""#!/bin/busybox sh
b=/bin/busybox
$b mount -t proc proc /proc
$b mount -t sysfs sysfs /sys
$b mount -t devtmpfs devtmpfs /dev
{prepare}
for folder in proc sys dev; do $b mount --bind /$folder /here/$folder; done
$b mkdir -p /dev/shm
$b mount -t tmpfs tmpfs /here/dev/shm
cd /
$b env -i PATH=/usr/bin:/bin HOME=/dev/shm TMPDIR=/dev/shm PYTHONPATH="$guest_checkout" PYTHONDONTWRITEBYTECODE=1 \\
    $b chroot /here "$guest_python" -m "$guest_module" >{said}
echo "guest: $guest_module ended with $?"
$b poweroff -f
""".encode()


def told(module: str, console: Path, said: Path, timeout_s: float) -> dict[str, Any]:
    """The lines of JSON that ``module`` has printed, merged. Raises RuntimeError if it did not end in order."""
    last_words = console.read_text("utf-8", "replace")[-6000:] if console.exists() else "it never began"
    lines = said.read_text("utf-8", "replace") if said.exists() else ""
    if f"guest: {module} ended with 0" not in last_words:
        raise RuntimeError(f"the guest did not end in order within {timeout_s:g} s: {lines[-2000:]}{last_words}")
    found: dict[str, Any] = {}
    for line in lines.splitlines():
        found |= json.loads(line)
    return found


def unpacked(work: Path, *packages: str) -> Path:
    """A folder with the files of these packages, downloaded into ``work``."""
    run("apt-get", "download", *packages, cwd=work)
    root = work / "root"
    for package in work.glob("*.deb"):
        run("dpkg", "-x", str(package), str(root))
    return root


def executable(root: Path, name: str) -> Path:
    """Where a program lies in unpacked packages."""
    return next(path for path in (root / "bin" / name, root / "usr/bin" / name) if path.exists())


def archive(files: dict[str, bytes], folders: Iterable[str]) -> bytes:
    """A cpio archive of the kind "newc", as the kernel unpacks it; every file may be executed."""
    entries = [(name, 0o040755, b"") for name in folders]
    entries += [(name, 0o100755, content) for name, content in files.items()]
    packed = b""
    for number, (name, mode, content) in enumerate([*entries, ("TRAILER!!!", 0, b"")], 1):
        numbers = (number, mode, 0, 0, 1, 0, len(content), 0, 0, 0, 0, len(name) + 1, 0)
        head = b"070701" + "".join(f"{value:08x}" for value in numbers).encode() + name.encode() + b"\0"
        packed += head + bytes(-len(head) % 4) + content + bytes(-len(content) % 4)
    return packed
