"""The pace of a source: absolute deadlines, so that nothing drifts and nobody spins."""

from __future__ import annotations

import time
from collections.abc import Callable


class Cadence:
    """``fps`` beats a second. Whoever comes late is let through at once and loses the beats that have passed."""

    def __init__(
        self, fps: float, clock: Callable[[], float] = time.monotonic, sleep: Callable[[float], None] = time.sleep
    ) -> None:
        self._interval_s = 1 / fps
        self._clock = clock
        self._sleep = sleep
        self._due_at: float | None = None

    def wait(self) -> None:
        """Return at the next beat; the first one is now."""
        now = self._clock()
        if self._due_at is None:
            self._due_at = now
        elif now < self._due_at:
            self._sleep(self._due_at - now)
        else:
            self._due_at += (now - self._due_at) // self._interval_s * self._interval_s
        self._due_at += self._interval_s

    def due(self) -> bool:
        """Whether the next beat has come, with half an interval of patience; if so it is taken.

        For sources that set their own pace, a camera say: of 60 pictures a second every other one meets 30 beats,
        and of 30 pictures none is lost to a camera that comes a millisecond early.
        """
        now = self._clock()
        if self._due_at is None:
            self._due_at = now
        if now < self._due_at - self._interval_s / 2:
            return False
        self._due_at += max(0.0, (now - self._due_at) // self._interval_s) * self._interval_s + self._interval_s
        return True
