"""A guest as fast as this machine: Debian's Linux built as a program (User-mode Linux), with v4l2loopback in it.

Its programs run on this processor, one at a time, and only their system calls go to the guest's kernel; so what takes
minutes in an emulated machine (``loopback_vm``) takes seconds here. They see this machine's files; what they write
stays in the guest.
"""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import platformdirs
from filelock import FileLock

from tests.rigs import guest

_BUILD_S = 1800
_MEMORY_MIB = 2560
_CONFIG = Path(__file__).with_name("user_mode.config")
_PACKAGES = ("linux-source-6.1", "v4l2loopback-dkms", "busybox-static")
_NEEDED = ("apt-get", "dpkg", "make", "gcc", "flex", "bison", "bc", "tar", "xz")
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
    if sys.platform != "linux" or platform.machine() != "x86_64":
        return "the guest is made for Linux on x86-64"
    if (_image() / "done").exists():
        return ""
    missing = [program for program in _NEEDED if shutil.which(program) is None]
    if missing:
        return f"building the guest's kernel needs Debian 12; not here: {', '.join(missing)}"
    if not build:
        return f"its kernel is built, in minutes, by `python -m {__name__}`"
    try:
        built_image()
    except (RuntimeError, subprocess.TimeoutExpired) as error:
        return f"the guest's kernel could not be built: {error}"
    return ""


def run_in_guest(module: str, timeout_s: float = 600) -> dict[str, Any]:
    """What ``module`` prints, one JSON object a line, merged; run in the guest by this interpreter, as ``-m`` does.

    Raises RuntimeError with the guest's last words if it does not end in order.
    """
    image = built_image()
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


def built_image() -> Path:
    """The folder with the guest's kernel and shell; built, which takes minutes, unless it is kept already."""
    image = _image()
    image.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{image}.lock", timeout=2 * _BUILD_S):
        if not (image / "done").exists():
            shutil.rmtree(image, ignore_errors=True)
            with tempfile.TemporaryDirectory(dir=image.parent, prefix="building-") as name:
                _build(Path(name), image)
    return image


def _image() -> Path:
    recipe = hashlib.sha256(_CONFIG.read_bytes() + " ".join(_PACKAGES).encode()).hexdigest()[:16]
    return platformdirs.user_cache_path("streamv2v-obs-tests") / f"user-mode-guest-{recipe}"


def _build(work: Path, image: Path) -> None:
    root = guest.unpacked(work, *_PACKAGES)
    (packed,) = (root / "usr/src").glob("linux-source-*.tar.xz")
    guest.run("tar", "-xf", str(packed), "--strip-components=1", "--one-top-level=linux", cwd=work)
    source = work / "linux"
    video = source / "drivers/media/v4l2-core"
    for path in (root / "usr/src").glob("v4l2loopback-*/*.[ch]"):
        shutil.copy(path, video)
    with (video / "Makefile").open("a") as makefile:
        makefile.write("\nobj-y += v4l2loopback.o\n")
    make = ("make", "-s", "-C", str(source), "ARCH=um", f"-j{os.cpu_count() or 1}")
    guest.run(*make, f"KCONFIG_ALLCONFIG={_CONFIG}", "allnoconfig", timeout_s=_BUILD_S)
    guest.run(*make, "linux", timeout_s=_BUILD_S)
    image.mkdir()
    guest.run("strip", "-o", str(image / "linux"), str(source / "linux"))
    shutil.copy(guest.executable(root, "busybox"), image / "busybox")
    (image / "done").touch()


if __name__ == "__main__":
    print(os.fspath(built_image()))
