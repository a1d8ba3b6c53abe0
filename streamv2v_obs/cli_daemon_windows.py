"""A process apart from the console, and the signals that ask one to end, on Windows."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from typing import IO

assert sys.platform == "win32"  # noqa: S101 - lets the type checker look at what only Windows has


def on_end_signals(act: Callable[[int], None]) -> None:
    """Call ``act`` with the number on Ctrl-C, Ctrl-Break or a closed console."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGBREAK):
        signal.signal(number, lambda number, frame: act(number))


def spawn_detached(command: Sequence[str], log: IO[bytes]) -> subprocess.Popen[bytes]:
    """Start ``command`` without a console window, in a group that the console's Ctrl-C does not reach."""
    flags = subprocess.CREATE_NO_WINDOW | subprocess.CREATE_NEW_PROCESS_GROUP
    return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, creationflags=flags)
