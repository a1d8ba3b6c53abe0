"""A part that is a thread: started, asked to stop and waited for, which are three things."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod


class Worker(ABC):
    """Runs ``_run`` in a daemon thread called ``name``, until it returns; it has to when ``_stop`` is set."""

    def __init__(self, name: str) -> None:
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """Ask for the end."""
        self._stop.set()

    def join(self, timeout_s: float) -> None:
        """Wait for it; at once where it was never started."""
        if self._thread.ident is not None:
            self._thread.join(timeout_s)

    @abstractmethod
    def _run(self) -> None: ...
