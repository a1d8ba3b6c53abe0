"""A guest as fast as this machine: Debian's Linux built as a program (User-mode Linux), with v4l2loopback in it.

Its programs run on this processor, one at a time, and only their system calls go to the guest's kernel; so what takes
minutes in an emulated machine (``loopback_vm``) takes seconds here. They see this machine's files; what they write
stays in the guest.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from tests.rigs import guest
from tests.rigs.kept import Kept, run

_BUILD_S = 1800
_MEMORY_MIB = 2560
_CONFIG = Path(__file__).with_name("user_mode.config")
_PACKAGES = ("linux-source-6.1", "v4l2loopback-dkms", "busybox-static")
_INIT = guest.init(
    """$b mount -t hostfs -o "$guest_folder" told /told
exec >/told/console 2>&1 </dev/null
$b mount -t hostfs -o ro,/ below /below
$b mount -t tmpfs above /above
$b mkdir /above/files /above/work
$b mount -t overlay -o lowerdir=/below,upperdir=/above/files,workdir=/above/work here /here || echo "cannot mount"
""",
    said="/told/said",
)


def loop_obstacle(build: bool = False) -> str:
    """Why no guest can be run here, if wished after an attempt to build its kernel; empty if one can."""
    later = "" if build else f"its kernel is built, in minutes, by `python -m {__name__}`"
    return guest.machine_obstacle() or IMAGE.obstacle(instead=later)


def run_in_guest(module: str, timeout_s: float = 600) -> dict[str, Any]:
    """What ``module`` prints, one JSON object a line, merged; run in the guest by this interpreter, as ``-m`` does.

    Raises RuntimeError with the guest's last words if it does not end in order.
    """
    image = IMAGE.made()
    with tempfile.TemporaryDirectory(prefix="guest-") as name:
        folder = Path(name)
        files = {"init": _INIT, "bin/busybox": (image / "busybox").read_bytes()}
        folders = ("bin", "proc", "sys", "dev", "told", "below", "above", "here")
        (folder / "initramfs").write_bytes(guest.archive(files, folders))
        words = {"folder": name, "python": sys.executable, "checkout": str(guest.ROOT), "module": module}
        command = [str(image / "linux"), f"mem={_MEMORY_MIB}M", f"initrd={folder / 'initramfs'}", f"uml_dir={name}/"]
        command += ["con=null", "con0=null,fd:1", "ssl=null", "stderr=1", "panic=-1"]
        command += [f"guest_{key}={value}" for key, value in words.items()]
        command += [f"v4l2loopback.{key}={value}" for key, value in guest.LOOPBACK.items()]
        _run_until_end(command, folder / "kernel", timeout_s)
        try:
            return guest.told(module, folder / "console", folder / "said", timeout_s)
        except RuntimeError as error:
            kernel = (folder / "kernel").read_text("utf-8", "replace")[-3000:]
            raise RuntimeError(f"{error}\nIts kernel said: {kernel}") from None


def _run_until_end(command: Sequence[str], log: Path, timeout_s: float) -> None:
    with log.open("wb") as heard:
        # A group of its own: the guest's processes are processes of this machine, and would outlive their kernel.
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=heard,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env=os.environ | {"TMPDIR": "/dev/shm"},  # the guest's memory is a file
        )
        try:
            with suppress(subprocess.TimeoutExpired):
                process.wait(timeout_s)
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _build(work: Path, image: Path) -> None:
    root = guest.unpacked(work, *_PACKAGES)
    (packed,) = (root / "usr/src").glob("linux-source-*.tar.xz")
    run("tar", "-xf", str(packed), "--strip-components=1", "--one-top-level=linux", cwd=work)
    source = work / "linux"
    video = source / "drivers/media/v4l2-core"
    for path in (root / "usr/src").glob("v4l2loopback-*/*.[ch]"):
        shutil.copy(path, video)
    with (video / "Makefile").open("a") as makefile:
        makefile.write("\nobj-y += v4l2loopback.o\n")
    make = ("make", "-s", "-C", str(source), "ARCH=um", f"-j{os.cpu_count() or 1}")
    run(*make, f"KCONFIG_ALLCONFIG={_CONFIG}", "allnoconfig", timeout_s=_BUILD_S)
    run(*make, "linux", timeout_s=_BUILD_S)
    run("strip", "-o", str(image / "linux"), str(source / "linux"))
    shutil.copy(guest.executable(root, "busybox"), image / "busybox")


IMAGE = Kept(
    "user-mode-guest",
    _CONFIG.read_bytes() + " ".join(_PACKAGES).encode(),
    _build,
    what="the guest's kernel",
    how="on Debian 12",
    programs=("apt-get", "dpkg", "make", "gcc", "flex", "bison", "bc", "tar", "xz"),
    patience_s=2 * _BUILD_S,
)
"""The guest's kernel and shell."""


if __name__ == "__main__":
    print(IMAGE.made())
