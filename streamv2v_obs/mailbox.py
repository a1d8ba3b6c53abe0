"""A one-slot mailbox between two threads: the newest wins, and the loss is counted here and nowhere else."""

from __future__ import annotations

import threading
from typing import Generic, TypeVar

T = TypeVar("T")


class Mailbox(Generic[T]):
    """Holds at most one item. ``put`` never blocks; losing the older item is the intent, not an accident."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._item: T | None = None  # guarded by _changed
        self._overwritten = 0  # guarded by _changed
        self._closed = False  # guarded by _changed

    def put(self, item: T) -> None:
        """Lay ``item`` down; an item that was never taken is dropped and counted."""
        with self._changed:
            if self._item is not None:
                self._overwritten += 1
            self._item = item
            self._changed.notify_all()

    def put_when_free(self, item: T, timeout_s: float) -> bool:
        """Lay ``item`` down once the slot is free, so that nothing is lost; False after ``timeout_s`` without room."""
        with self._changed:
            if not self._changed.wait_for(lambda: self._item is None or self._closed, timeout_s):
                return False
            self._item = item
            self._changed.notify_all()
            return True

    def take(self, timeout_s: float | None = None) -> T | None:
        """The item, taken out; None after ``timeout_s`` without one, or once the mailbox is closed and empty."""
        with self._changed:
            self._changed.wait_for(lambda: self._item is not None or self._closed, timeout_s)
            item, self._item = self._item, None
            self._changed.notify_all()
            return item

    def close(self) -> None:
        """Wake every waiting ``take``; items put later can still be taken."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    @property
    def overwritten(self) -> int:
        """How many items were replaced before anyone took them."""
        with self._changed:
            return self._overwritten
