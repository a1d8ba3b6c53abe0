"""A fake output that keeps what it is sent, and hangs or fails when told to."""

from __future__ import annotations

import threading

from streamv2v_obs.frames import Pixels


class CollectingSink:
    """A sink for tests. ``pictures`` are those sent so far, oldest first."""

    def __init__(self, detail: str = "a list") -> None:
        self.detail = detail
        self.pictures: list[Pixels] = []
        self.error: Exception | None = None
        """What the next ``send`` raises."""
        self.free = threading.Event()
        """While it is cleared, ``send`` hangs."""
        self.free.set()
        self.closes = 0

    def send(self, pixels: Pixels) -> None:
        """Keep ``pixels``."""
        self.free.wait()
        if self.error is not None:
            raise self.error
        self.pictures.append(pixels)

    def close(self) -> None:
        """Count it."""
        self.closes += 1
