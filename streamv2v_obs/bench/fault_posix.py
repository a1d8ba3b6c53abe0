"""What not every system has: a signal to a whole group of processes, as a terminal sends it; a pipe soon full."""

from __future__ import annotations

import os
import signal


def interrupt_group(leader: int) -> None:
    """Ctrl-C to every process of the group."""
    os.killpg(leader, signal.SIGINT)


def small_pipe() -> tuple[int, int]:
    """Reading and writing end of a pipe of one page, the least that Linux takes."""
    import fcntl

    reading, writing = os.pipe()
    fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, os.sysconf("SC_PAGESIZE"))
    return reading, writing
