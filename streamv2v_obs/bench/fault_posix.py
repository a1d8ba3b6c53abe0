"""What only POSIX systems have: a signal to all processes of a group, as a terminal sends it."""

from __future__ import annotations

import os
import signal


def interrupt_group(leader: int) -> None:
    """Ctrl-C to every process of the group."""
    os.killpg(leader, signal.SIGINT)
