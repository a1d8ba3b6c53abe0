"""The beat of the outputs: absolute deadlines, so that no tick's delay is handed on to the next."""

from __future__ import annotations

import time
from collections.abc import Callable


class Pacer:
    """Says when the next tick is due. Used by one thread.

    Deadlines are ``start + n interval``, never "now + interval": being late once does not shift what follows. A tick
    that comes a whole interval late or more takes the place of those it missed, and these are counted in ``late``.
    """

    def __init__(
        self,
        interval_s: float,
        # Not monotonic(): on Windows that one moves in steps of 15.6 ms before Python 3.13.
        clock: Callable[[], float] = time.perf_counter,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.interval_s = interval_s
        self._clock = clock
        self._sleep = sleep
        self._started_at: float | None = None
        self._ticks = 0
        self.late = 0
        """Whole intervals that were skipped."""
        self.deviation_s = 0.0
        """How far behind its deadline the last tick began."""

    def due(self, patience_s: float) -> bool:
        """Sleep towards the next deadline, ``patience_s`` at most; True if a tick is due now.

        False only means that the patience ended first: call again. The first call is due at once.
        """
        now = self._clock()
        if self._started_at is None:
            self._started_at = now
            return True
        deadline = self._started_at + (self._ticks + 1) * self.interval_s
        if now < deadline:
            if deadline - now > patience_s:
                self._sleep(patience_s)
                return False
            self._sleep(deadline - now)
            now = self._clock()
            if now < deadline:  # some systems wake a little early; the rest is slept on the next call
                return False
        missed = int((now - deadline) / self.interval_s)
        self.late += missed
        self._ticks += 1 + missed
        self.deviation_s = now - deadline - missed * self.interval_s
        return True
