"""How much of the machine the translator may take: a cap, pauses for others who need the GPU, still pictures."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from streamv2v_obs.frames import Pixels
from streamv2v_obs.settings import BudgetSettings

Coarse = npt.NDArray[np.int16]

_EVERY = 4
_BLOCK = 8
_LONGEST_PAUSE_S = 1.0


class Budget:
    """Decides of each picture whether it is worth translating, and how long to rest after it. One thread calls it.

    A picture is still if no part of it differs from the last translated one by more than ``still_level``. Still ones
    are passed over, but never for longer than ``still_s``, and only once ``steps`` of them went in: the answers of a
    stream batch are behind.
    """

    def __init__(self, settings: BudgetSettings, clock: Callable[[], float] = time.monotonic) -> None:
        self.skipped = 0
        """Pictures that were passed over."""
        self._settings = settings
        self._clock = clock
        self._last: Coarse | None = None
        self._still = 0
        self._translated_at = 0.0

    def wants(self, pixels: Pixels, steps: int) -> bool:
        """Whether to translate ``pixels`` uint8 [H, W, 3]; asked once for each picture."""
        if self._settings.still_s == 0:
            return True
        now = self._clock()
        coarse = pixels[::_EVERY, ::_EVERY].astype(np.int16)
        last = self._last
        still = (
            last is not None and last.shape == coarse.shape and _furthest(last, coarse) <= self._settings.still_level
        )
        self._still = self._still + 1 if still else 0
        if still and self._still > steps and now - self._translated_at < self._settings.still_s:
            self.skipped += 1
            return False
        if not still:
            # Not at every picture: what creeps has moved on some day.
            self._last = coarse
        self._translated_at = now
        return True

    def forget(self) -> None:
        """Something was changed: the next pictures are translated, whatever they show."""
        self._last = None

    def pause_s(self, took_s: float) -> float:
        """How long to rest after a picture that took ``took_s``."""
        rest = took_s * (1 / self._settings.gpu_share - 1)
        if self._settings.fps is not None:
            rest = max(rest, 1 / self._settings.fps - took_s)
        return min(_LONGEST_PAUSE_S, max(0.0, rest))


def _furthest(one: Coarse, other: Coarse) -> float:
    """The mean difference, in grey levels, of the part of the picture that differs most."""
    difference = np.abs(one - other).mean(axis=2)
    rows, columns = (max(_BLOCK, size // _BLOCK * _BLOCK) for size in difference.shape)
    if min(difference.shape) < _BLOCK:
        return float(difference.mean())
    cut = difference[:rows, :columns]
    return float(cut.reshape(rows // _BLOCK, _BLOCK, columns // _BLOCK, _BLOCK).mean(axis=(1, 3)).max())
