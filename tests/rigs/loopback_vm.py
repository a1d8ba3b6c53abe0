"""A guest machine with a real v4l2loopback device, for kernels that have none: Debian's kernel, emulated by qemu.

Kernel, module source and a shell come as Debian packages, are put together once and are kept in the user's cache. The
guest's programs are this machine's own: it sees the file system here, for reading, so what is tested is the checkout.
"""

from __future__ import annotations

import lzma
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from tests.rigs import guest
from tests.rigs.kept import Kept, run

_DRIVERS = ("virtio_pci", "9pnet_virtio", "9p", "videodev")
_OPTIONS = " ".join(f"'{name}={value}'" for name, value in guest.LOOPBACK.items())
_INIT = guest.init(
    f"""exec >/dev/ttyS0 2>&1 </dev/null
for module in $($b cat /modules/order); do $b insmod /modules/$module.ko || echo "cannot load $module"; done
$b insmod /modules/v4l2loopback.ko {_OPTIONS}
$b mount -t 9p -o ro,trans=virtio,version=9p2000.L,cache=loose,msize=1048576 here /here || echo "cannot mount"
""",
    said="/dev/ttyS1",
)


def vcam_obstacle() -> str:
    """Why no guest can be run here, after an attempt to build it; empty if one can."""
    if obstacle := guest.machine_obstacle():
        return obstacle
    if shutil.which("qemu-system-x86_64") is None:
        return "install qemu-system-x86"
    return IMAGE.obstacle()


def run_in_guest(module: str, timeout_s: float = 700) -> dict[str, Any]:
    """What ``module`` prints, one JSON object a line, merged; run in the guest by this interpreter, as ``-m`` does.

    Raises RuntimeError with the guest's last words if it does not end in order.
    """
    image = IMAGE.made()
    with tempfile.TemporaryDirectory(prefix="guest-") as name:
        console, said = Path(name) / "console", Path(name) / "said"
        words = {"guest_python": sys.executable, "guest_checkout": str(guest.ROOT), "guest_module": module}
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
        return guest.told(module, console, said, timeout_s)


def _build(work: Path, image: Path) -> None:
    try:
        version, root = _download(work)
    except RuntimeError:
        if os.geteuid() != 0:
            raise
        run("apt-get", "-qq", "update")  # the lists may be old, or not there
        version, root = _download(work)
    # It includes the common headers by the path of their installation, which this is not.
    makefile = root / "usr/src" / f"linux-headers-{version}" / "Makefile"
    makefile.write_text(makefile.read_text().replace("include /usr/", f"include {root}/usr/"))
    (source,) = (root / "usr/src").glob("v4l2loopback-*")
    run("make", "-s", "-C", str(makefile.parent), f"M={source}", "CC=gcc", "modules")

    files = {"init": _INIT, "bin/busybox": guest.executable(root, "busybox").read_bytes()}
    modules = {path.name.partition(".")[0]: path for path in (root / "lib/modules").rglob("*.ko*")}
    order = list(dict.fromkeys(_with_needs(_DRIVERS, modules)))
    files |= {f"modules/{name}.ko": _module(modules[name]) for name in order}
    files["modules/order"] = " ".join(order).encode()
    files["modules/v4l2loopback.ko"] = (source / "v4l2loopback.ko").read_bytes()
    (image / "initramfs").write_bytes(guest.archive(files, ("bin", "modules", "proc", "sys", "dev", "here")))
    shutil.copy(root / "boot" / f"vmlinuz-{version}", image / "vmlinuz")


def _download(work: Path) -> tuple[str, Path]:
    """The kernel's version, as in the names of its files, and where the packages' files are."""
    (kernel,) = _depends("linux-image-amd64", r"linux-image-\d.*")
    (headers,) = _depends("linux-headers-amd64", r"linux-headers-\d.*")
    build = _depends(headers, r"linux-headers-.*-common|linux-kbuild-.*")
    root = guest.unpacked(work, kernel, headers, *build, "v4l2loopback-dkms", "busybox-static")
    return kernel.removeprefix("linux-image-"), root


def _depends(package: str, pattern: str) -> list[str]:
    """Names of packages that ``package`` depends on and ``pattern`` matches."""
    said = run("apt-cache", "depends", "--important", package)
    found = [name for name in re.findall(r"Depends: (\S+)", said) if re.fullmatch(pattern, name)]
    if not found:
        raise RuntimeError(f"apt-cache knows no {pattern} that {package} depends on; run apt-get update: {said}")
    return found


def _with_needs(names: Iterable[str], modules: dict[str, Path]) -> Iterator[str]:
    """``names`` with all that they need before them; what is built into the kernel is no module and left out."""
    for name in names:
        if name in modules:
            needs = re.search(rb"\0depends=([^\0]*)\0", _module(modules[name]))
            yield from _with_needs(filter(None, needs.group(1).decode().split(",")) if needs else (), modules)
            yield name


def _module(path: Path) -> bytes:
    return lzma.decompress(path.read_bytes()) if path.suffix == ".xz" else path.read_bytes()


IMAGE = Kept(
    "loopback-guest",
    Path(__file__).read_bytes() + _INIT,
    _build,
    what="the guest's disc",
    how="on Debian, with make and gcc",
    programs=("apt-get", "apt-cache", "dpkg", "make", "gcc"),
)
"""The guest's kernel and initramfs."""


if __name__ == "__main__":
    print(IMAGE.made())
