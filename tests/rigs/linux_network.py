"""A private network for a test: a loopback of its own, with every port free, that nothing outside can reach."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

_CLONE_NEWNET = 0x40000000


def network_obstacle() -> str:
    """Why no private network can be made here; empty if one can."""
    if sys.platform != "linux":
        return "network namespaces exist on Linux only"
    if shutil.which("ip") is None or shutil.which("unshare") is None:
        return "install iproute2 and util-linux"
    tried = subprocess.run(["unshare", "-n", "ip", "link", "set", "lo", "up"], capture_output=True, check=False)
    return tried.stderr.decode(errors="replace").strip() if tried.returncode else ""


@contextmanager
def private_network() -> Iterator[None]:
    """Move the calling thread into a network namespace with nothing but its own loopback, and back again.

    Threads and processes that it starts meanwhile are born in there and stay, so the code under test needs to know
    nothing of it; sockets from before keep their old network. Unlike an address pair into a namespace, it leaves
    nothing behind if the test is killed.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    outside = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    try:
        _check(libc.unshare(_CLONE_NEWNET), "unshare")
        try:
            subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
            yield
        finally:
            _check(libc.setns(outside, _CLONE_NEWNET), "setns")
    finally:
        os.close(outside)


def _check(result: int, call: str) -> None:
    if result != 0:
        code = ctypes.get_errno()
        raise OSError(code, f"{call}: {os.strerror(code)}")
