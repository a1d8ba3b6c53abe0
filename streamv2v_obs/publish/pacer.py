"""The beat of the outputs: absolute deadlines, so that no tick's delay is handed on to the next."""

from __future__ import annotations

import cmath
import math
import time
from collections.abc import Callable

_NEW = 1 / 16
"""What one arrival weighs beside all before it."""
_TOGETHER = 0.6
"""Arrivals that lie closer than this (1: all at one place of the interval, 0: anywhere) are followed."""
_STEP = 0.005
"""Of the interval: how far a tick may be moved, which no viewer sees."""
_ROOM_S = 0.001
"""Between the latest of the usual arrivals and the tick."""


class Pacer:
    """Says when the next tick is due. Used by one thread.

    Deadlines are ``start + n interval``, never "now + interval": being late once does not shift what follows. A tick
    that comes a whole interval late or more takes the place of those it missed, and these are counted in ``late``.

    Pictures that come as often as ticks would wait, by chance, for anything up to an interval. Told of their waiting
    (``met``), all deadlines move little by little to shortly after the arrivals. Where these come at no steady pace,
    nothing moves.
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
        self._arrivals = 0j
        """The mean of the last arrivals, each a point of the unit circle, which is the interval before a tick."""
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

    def met(self, waited_s: float) -> None:
        """A tick has found a new picture, which had been ready for ``waited_s``."""
        turn = 2j * math.pi / self.interval_s
        self._arrivals += (cmath.exp(turn * waited_s) - self._arrivals) * _NEW
        together = min(1.0, abs(self._arrivals))
        if self._started_at is None or together < _TOGETHER:
            return
        # Of a normal distribution wound round the circle, whose mean is so long.
        spread_s = math.sqrt(-2 * math.log(together)) / abs(turn)
        wanted_s = min(_ROOM_S + 2 * spread_s, self.interval_s / 2)
        # The shorter way round: who waits for nearly an interval came a moment after the tick before.
        over_s = cmath.phase(self._arrivals * cmath.exp(-turn * wanted_s)) / abs(turn)
        earlier_s = max(-_STEP * self.interval_s, min(_STEP * self.interval_s, over_s))
        self._started_at -= earlier_s
        self._arrivals *= cmath.exp(-turn * earlier_s)
