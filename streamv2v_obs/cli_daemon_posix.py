"""A process apart from the terminal, and the signals that ask one to end, on Linux and macOS."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Callable, Sequence
from typing import IO


def on_end_signals(act: Callable[[int], None]) -> None:
    """Call ``act`` with the number on Ctrl-C, a polite kill or a closed terminal."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        # nohup has a closed terminal ignored; a shell's background job has Ctrl-C ignored, yet kill -INT must end it.
        if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, lambda number, frame: act(number))


def spawn_detached(command: Sequence[str], log: IO[bytes]) -> subprocess.Popen[bytes]:
    """Start ``command`` in a session of its own, so that closing the terminal does not reach it."""
    return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
