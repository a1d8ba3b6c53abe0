"""Ctrl-C and the processes that a thread starts, on Linux and macOS."""

from __future__ import annotations

import signal


def keep_from_children() -> None:
    """Keep Ctrl-C from every process that the calling thread starts from now on, and from that thread.

    The terminal sends it to all of them, and Python would end with a traceback wherever its start has got to.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
