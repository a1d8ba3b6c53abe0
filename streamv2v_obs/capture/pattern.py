"""A moving test picture: known motion to the pixel, and a frame counter for machines and for people."""

from __future__ import annotations

import time
from collections.abc import Callable

import cv2
import numpy as np

from streamv2v_obs.capture.cadence import Cadence
from streamv2v_obs.capture.watermark import marked
from streamv2v_obs.frames import Frame, Pixels
from streamv2v_obs.settings import PatternCapture

SCROLL = 2
"""Pixels that the background moves to the right from one picture to the next; it wraps around."""
DISC_STEP = (5, 3)
"""Pixels that the disc moves in x and y from one picture to the next, until it bounces."""

_COUNT_BITS = 24
_CHECK_BITS = 8
_CELLS = _COUNT_BITS + _CHECK_BITS


def draw_pattern(index: int, width: int, height: int) -> Pixels:
    """Picture ``index`` of the pattern, uint8 [height, width, 3] RGB; the same for the same numbers, everywhere."""
    return _draw(_background(width, height), index)


def disc_at(index: int, width: int, height: int) -> tuple[int, int, int]:
    """x, y and radius of the disc in picture ``index``."""
    radius = max(4, min(width, height) // 8)
    top = strip_height(height) + radius
    x = radius + _bounce(index * DISC_STEP[0], width - 2 * radius)
    y = top + _bounce(index * DISC_STEP[1], height - radius - top)
    return x, y, radius


def read_counter(pixels: Pixels) -> int | None:
    """The number a pattern's picture carries; None where none can be read.

    It survives scaling of the whole picture, JPEG and video codecs, not cropping: the strip runs along the whole
    upper edge. Eight check bits keep chance from being read as a number.
    """
    height, width, _ = pixels.shape
    rows = strip_height(height)
    middle = pixels[rows // 4 : max(rows // 4 + 1, rows - rows // 4)].mean(axis=(0, 2))
    cells = [int(middle[(2 * n + 1) * width // (2 * _CELLS)] > 127) for n in range(_CELLS)]
    word = sum(bit << n for n, bit in enumerate(cells))
    count, check = word & (1 << _COUNT_BITS) - 1, word >> _COUNT_BITS
    return count if check == _check(count) else None


def strip_height(height: int) -> int:
    """Rows of the counter strip in a picture of ``height`` rows."""
    return max(4, height // 16)


class PatternSource:
    """Draws the next picture at every beat; ``read`` never fails."""

    def __init__(self, settings: PatternCapture, clock: Callable[[], float] = time.monotonic) -> None:
        self._settings = settings
        self._clock = clock
        self._cadence = Cadence(settings.fps, clock)
        self._background = _background(settings.width, settings.height)
        self._index = 0

    @property
    def detail(self) -> str:
        """What is captured, in a few words for ``status``."""
        return f"test pattern {self._settings.width}x{self._settings.height}"

    def read(self) -> Frame:
        """Picture ``index``; its counter says the same number, modulo 2**24."""
        self._cadence.wait()
        captured_at = self._clock()
        pixels = _draw(self._background, self._index)
        frame = Frame(marked(pixels) if self._settings.watermark else pixels, captured_at, self._index)
        self._index += 1
        return frame

    def close(self) -> None:
        """Nothing is held."""


def _draw(background: Pixels, index: int) -> Pixels:
    height, width, _ = background.shape
    pixels: Pixels = np.roll(background, index * SCROLL % width, axis=1)
    x, y, radius = disc_at(index, width, height)
    cv2.circle(pixels, (x, y), radius, (235, 60, 40), cv2.FILLED, cv2.LINE_8)
    _write_number(pixels, index)
    _write_strip(pixels, index)
    return pixels


def _background(width: int, height: int) -> Pixels:
    """Colours that run and wrap, and squares: something for a model to hold on to."""
    x = np.arange(width, dtype=np.float64) / width * 2 * np.pi
    y = np.arange(height, dtype=np.float64)[:, None] / height
    planes = [127.5 + 90 * np.cos(x + 2 * np.pi * k / 3) * (1 - 0.6 * y) for k in range(3)]
    squares = 25.0 * ((np.arange(width) * 8 // width + np.arange(height)[:, None] * 8 // height) % 2)
    picture: Pixels = np.ascontiguousarray((np.stack(planes, axis=-1) + squares[..., None]).astype(np.uint8))
    return picture


def _write_number(pixels: Pixels, index: int) -> None:
    height, width, _ = pixels.shape
    text = f"{index:06d}"
    (text_width, _), _ = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, 1, 1)
    scale = width / 3 / text_width
    where = (width // 32, height - max(4, height // 32))
    for colour, thickness in ((0, max(3, round(6 * scale))), (255, max(1, round(2 * scale)))):
        cv2.putText(pixels, text, where, cv2.FONT_HERSHEY_SIMPLEX, scale, (colour,) * 3, thickness, cv2.LINE_AA)


def _write_strip(pixels: Pixels, index: int) -> None:
    height, width, _ = pixels.shape
    count = index % (1 << _COUNT_BITS)
    word = count | _check(count) << _COUNT_BITS
    cells = np.array([255 * (word >> n & 1) for n in range(_CELLS)], np.uint8)
    pixels[: strip_height(height)] = cells[np.arange(width) * _CELLS // width][None, :, None]


def _check(count: int) -> int:
    # The multiplier is odd and large, so that neighbouring numbers differ in many bits; + 1 keeps black from being 0.
    return ((count + 1) * 0x9E3779B1 >> 13) & (1 << _CHECK_BITS) - 1


def _bounce(travelled: int, room: int) -> int:
    """Where a ball is that rolls to and fro over ``room`` pixels."""
    if room <= 0:
        return 0
    place = travelled % (2 * room)
    return min(place, 2 * room - place)
