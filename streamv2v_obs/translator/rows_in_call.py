"""Which rows of the stream batch the UNet call holds that runs now: asked by whatever was put into the UNet."""

from __future__ import annotations

import threading
from typing import Protocol


class RowsInCall(Protocol):
    """Written before a call, read within it."""

    rows: slice


class RowsOfAll:
    """One call at a time. A plain object, since what is compiled reads it."""

    def __init__(self) -> None:
        self.rows = slice(0, 1)


class RowsOfThread(threading.local):
    """Calls of several threads at the same time, each with rows of its own."""

    rows = slice(0, 1)


def rows_in_call(*, by_threads: bool) -> RowsInCall:
    """One of the two."""
    return RowsOfThread() if by_threads else RowsOfAll()
