"""A guest machine with a real v4l2loopback device, for kernels that have none: Debian's kernel, emulated by qemu.

Kernel, module source and a shell come as Debian packages, are put together once and are kept in the user's cache. The
guest's programs are this machine's own: it sees the file system here, for reading, so what is tested is the checkout.
"""

from __future__ import annotations

import hashlib
import json
import lzma
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import platformdirs
from filelock import FileLock

ROOT = Path(__file__).parents[2]
BUILD_S = 300
_DRIVERS = ("virtio_pci", "9pnet_virtio", "9p", "videodev")
# Numbers with a gap, so that nothing finds its device by counting; the third and fourth as a browser wants them.
_LOOPBACK = "devices=4 video_nr=3,5,7,9 'card_label=\"Stage,Stage left,Booth,Hall\"' exclusive_caps=0,0,1,1"
_INIT = f"""#!/bin/busybox sh
b=/bin/busybox
$b mount -t proc proc /proc
$b mount -t sysfs sysfs /sys
$b mount -t devtmpfs devtmpfs /dev
exec >/dev/ttyS0 2>&1 </dev/null
for module in $($b cat /modules/order); do $b insmod /modules/$module.ko || echo "cannot load $module"; done
$b insmod /modules/v4l2loopback.ko {_LOOPBACK}
$b mount -t 9p -o ro,trans=virtio,version=9p2000.L,cache=loose,msize=1048576 here /here || echo "cannot mount"
for folder in proc sys dev; do $b mount --bind /$folder /here/$folder; done
$b mkdir -p /dev/shm
$b mount -t tmpfs tmpfs /dev/shm
cd /
$b env -i PATH=/usr/bin:/bin HOME=/dev/shm TMPDIR=/dev/shm PYTHONPATH="$guest_checkout" PYTHONDONTWRITEBYTECODE=1 \\
    $b chroot /here "$guest_python" -m "$guest_module" >/dev/ttyS1
echo "guest: $guest_module ended with $?"
$b poweroff -f
"""


def vcam_obstacle() -> str:
    """Why no guest can be run here, after an attempt to build it; empty if one can."""
    if sys.platform != "linux" or platform.machine() != "x86_64":
        return "the guest is made for Linux on x86-64"
    if shutil.which("qemu-system-x86_64") is None:
        return "install qemu-system-x86"
    if (_image() / "done").exists():
        return ""
    missing = [program for program in ("apt-get", "apt-cache", "dpkg", "make", "gcc") if shutil.which(program) is None]
    if missing:
        return f"building the guest needs Debian, with make and gcc; not here: {', '.join(missing)}"
    try:
        built_image()
    except RuntimeError as error:
        return f"the guest could not be built: {error}"
    return ""


def run_in_guest(module: str, timeout_s: float = 700) -> dict[str, Any]:
    """What ``module`` prints, one JSON object a line, merged; run in the guest by this interpreter, as ``-m`` does.

    Raises RuntimeError with the guest's last words if it does not end in order.
    """
    image = built_image()
    with tempfile.TemporaryDirectory(prefix="guest-") as name:
        console, said = Path(name) / "console", Path(name) / "said"
        words = {"guest_python": sys.executable, "guest_checkout": str(ROOT), "guest_module": module}
        # What the kernel does not know on its command line becomes init's environment.
        settings = " ".join(f'"{key}={value}"' for key, value in words.items())
        with console.open("wb") as heard, suppress(subprocess.TimeoutExpired):
            subprocess.run(
                [
                    *("qemu-system-x86_64", "-accel", "tcg", "-cpu", "Nehalem", "-smp", "2", "-m", "1024"),
                    *("-nodefaults", "-no-user-config", "-no-reboot", "-display", "none"),
                    *("-kernel", str(image / "vmlinuz"), "-initrd", str(image / "initramfs")),
                    *("-append", f"console=ttyS0 quiet panic=-1 {settings}"),
                    *("-serial", "stdio", "-serial", f"file:{said}"),
                    "-virtfs",
                    "local,path=/,mount_tag=here,security_model=none,readonly=on,multidevs=remap",
                ],
                stdin=subprocess.DEVNULL,
                stdout=heard,
                stderr=subprocess.STDOUT,
                timeout=timeout_s,
            )
        last_words = console.read_text("utf-8", "replace")[-6000:]
        told = said.read_text("utf-8", "replace") if said.exists() else ""
        if f"guest: {module} ended with 0" not in last_words:
            raise RuntimeError(f"the guest did not end in order within {timeout_s:g} s: {told[-2000:]}{last_words}")
        found: dict[str, Any] = {}
        for line in told.splitlines():
            found |= json.loads(line)
        return found


def built_image() -> Path:
    """The folder with the guest's kernel and initramfs; built, which takes some seconds, unless it is kept already."""
    image = _image()
    image.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{image}.lock", timeout=2 * BUILD_S):
        if not (image / "done").exists():
            shutil.rmtree(image, ignore_errors=True)
            with tempfile.TemporaryDirectory(dir=image.parent, prefix="building-") as name:
                _build(Path(name), image)
    return image


def _image() -> Path:
    recipe = hashlib.sha256(Path(__file__).read_bytes()).hexdigest()[:16]
    return platformdirs.user_cache_path("streamv2v-obs-tests") / f"loopback-guest-{recipe}"


def _build(work: Path, image: Path) -> None:
    try:
        version = _download(work)
    except RuntimeError:
        if os.geteuid() != 0:
            raise
        _run("apt-get", "-qq", "update")  # the lists may be old, or not there
        version = _download(work)
    root = work / "root"
    for package in work.glob("*.deb"):
        _run("dpkg", "-x", str(package), str(root))

    # It includes the common headers by the path of their installation, which this is not.
    makefile = root / "usr/src" / f"linux-headers-{version}" / "Makefile"
    makefile.write_text(makefile.read_text().replace("include /usr/", f"include {root}/usr/"))
    (source,) = (root / "usr/src").glob("v4l2loopback-*")
    _run("make", "-s", "-C", str(makefile.parent), f"M={source}", "CC=gcc", "modules")

    files = {"init": _INIT.encode(), "bin/busybox": _executable(root, "busybox").read_bytes()}
    modules = {path.name.partition(".")[0]: path for path in (root / "lib/modules").rglob("*.ko*")}
    order = list(dict.fromkeys(_with_needs(_DRIVERS, modules)))
    files |= {f"modules/{name}.ko": _module(modules[name]) for name in order}
    files["modules/order"] = " ".join(order).encode()
    files["modules/v4l2loopback.ko"] = (source / "v4l2loopback.ko").read_bytes()
    image.mkdir()
    (image / "initramfs").write_bytes(_archive(files, ("bin", "modules", "proc", "sys", "dev", "here")))
    shutil.copy(root / "boot" / f"vmlinuz-{version}", image / "vmlinuz")
    (image / "done").touch()


def _download(work: Path) -> str:
    """Fetch the packages into ``work``; the kernel's version, as in the names of its files."""
    (kernel,) = _depends("linux-image-amd64", r"linux-image-\d.*")
    (headers,) = _depends("linux-headers-amd64", r"linux-headers-\d.*")
    build = _depends(headers, r"linux-headers-.*-common|linux-kbuild-.*")
    _run("apt-get", "download", kernel, headers, *build, "v4l2loopback-dkms", "busybox-static", cwd=work)
    return kernel.removeprefix("linux-image-")


def _depends(package: str, pattern: str) -> list[str]:
    """Names of packages that ``package`` depends on and ``pattern`` matches."""
    said = _run("apt-cache", "depends", "--important", package)
    found = [name for name in re.findall(r"Depends: (\S+)", said) if re.fullmatch(pattern, name)]
    if not found:
        raise RuntimeError(f"apt-cache knows no {pattern} that {package} depends on; run apt-get update: {said}")
    return found


def _run(*command: str, cwd: Path | None = None) -> str:
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=BUILD_S)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)} ended with {done.returncode}: {(done.stdout + done.stderr)[-3000:]}")
    return done.stdout


def _executable(root: Path, name: str) -> Path:
    return next(path for path in (root / "bin" / name, root / "usr/bin" / name) if path.exists())


def _with_needs(names: Iterable[str], modules: dict[str, Path]) -> Iterator[str]:
    """``names`` with all that they need before them; what is built into the kernel is no module and left out."""
    for name in names:
        if name in modules:
            needs = re.search(rb"\0depends=([^\0]*)\0", _module(modules[name]))
            yield from _with_needs(filter(None, needs.group(1).decode().split(",")) if needs else (), modules)
            yield name


def _module(path: Path) -> bytes:
    return lzma.decompress(path.read_bytes()) if path.suffix == ".xz" else path.read_bytes()


def _archive(files: dict[str, bytes], folders: Iterable[str]) -> bytes:
    """A cpio archive of the kind "newc", as the kernel unpacks it; every file may be executed."""
    entries = [(name, 0o040755, b"") for name in folders]
    entries += [(name, 0o100755, content) for name, content in files.items()]
    archive = b""
    for number, (name, mode, content) in enumerate([*entries, ("TRAILER!!!", 0, b"")], 1):
        numbers = (number, mode, 0, 0, 1, 0, len(content), 0, 0, 0, 0, len(name) + 1, 0)
        head = b"070701" + "".join(f"{value:08x}" for value in numbers).encode() + name.encode() + b"\0"
        archive += head + bytes(-len(head) % 4) + content + bytes(-len(content) % 4)
    return archive


if __name__ == "__main__":
    print(os.fspath(built_image()))
