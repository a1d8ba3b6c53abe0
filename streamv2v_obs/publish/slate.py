"""The picture that is shown when there is none: name, a line or two, the time, and a wave that shows it is alive."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import lru_cache
from typing import Any, TypeAlias

import cv2
import numpy as np

from streamv2v_obs.frames import Pixels

Colour: TypeAlias = tuple[int, int, int]

TITLE = "StreamV2V"
_PHASES_PER_S = 10
_WHITE: Colour = (238, 240, 246)
_GREY: Colour = (160, 168, 190)
_DIM: Colour = (124, 132, 158)
_WAVES: tuple[tuple[Colour, float, float, float], ...] = (
    # colour, amplitude (of the strip), periods across the picture, turns a second
    ((64, 82, 140), 0.40, 1.1, 0.11),
    ((52, 122, 150), 0.28, 1.7, -0.17),
    ((196, 138, 84), 0.18, 2.3, 0.23),
)
# OpenCV 5 has true fonts with many scripts, OpenCV 4 line strokes and ASCII alone.
_FACE: Any = getattr(cv2, "FontFace", None)


class Slate:
    """Draws slates of any size. Nothing of any input gets here. Used by one thread.

    The still part is kept per size and text; ten times a second the wave and the clock are drawn over a copy of it.
    In between the same array is given again, so that whoever compares identities knows that nothing has changed.
    """

    def __init__(self, local_time: Callable[[], time.struct_time] = time.localtime) -> None:
        self._local_time = local_time
        self._key: tuple[object, ...] = ()
        self._picture: Pixels | None = None

    def picture(self, width: int, height: int, now: float, line: str = "", note: str = "") -> Pixels:
        """uint8 [height, width, 3] RGB with ``line`` and a smaller ``note``; ``now`` in seconds moves the wave."""
        phase = int(now * _PHASES_PER_S)
        key = (width, height, line, note, phase)
        if self._picture is None or key != self._key:
            picture = still(width, height, line, note).copy()
            _wave(picture, phase / _PHASES_PER_S)
            unit = _unit(width, height)
            if unit >= 160:  # smaller, it would lie over the wave
                clock = time.strftime("%H:%M:%S", self._local_time())
                _write(picture, clock, width - width // 28, height - unit // 20, unit / 34, _DIM, align="right")
            self._picture, self._key = picture, key
        return self._picture


@lru_cache(maxsize=4)
def still(width: int, height: int, line: str, note: str = "") -> Pixels:
    """The part of a slate that stays the same: uint8 [height, width, 3] RGB, not to be written to."""
    picture: Pixels = _background(width, height).copy()
    middle, room = width // 2, int(width * 0.88)
    unit = _unit(width, height)
    _write(picture, TITLE, middle, int(height * 0.42), unit / 8, _WHITE, room=room, weight=600)
    bar = max(1, unit // 180)
    x, y, reach = middle, int(height * 0.42 + unit * 0.055), unit // 14
    cv2.rectangle(picture, (x - reach, y), (x + reach, y + bar), _WAVES[2][0], -1, cv2.LINE_AA)
    _write(picture, line, middle, int(height * 0.42 + unit * 0.145), unit / 20, _GREY, room=room)
    _write(picture, note, middle, int(height * 0.42 + unit * 0.215), unit / 30, _DIM, room=room)
    picture.setflags(write=False)
    return picture


def _unit(width: int, height: int) -> int:
    """What sizes are measured by, so that upright pictures are no less legible."""
    return min(height, int(width * 0.75))


@lru_cache(maxsize=4)
def _background(width: int, height: int) -> Pixels:
    """A dark blue that is lightest behind the title and falls off to the corners."""
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    distance = np.hypot((x - width / 2) / width, (y - height * 0.4) / height)
    light = np.clip(1.0 - 1.25 * distance, 0.0, 1.0)[..., None]
    colour = np.array([11, 13, 22], np.float32) + light * np.array([19, 23, 38], np.float32)
    # Without a little noise the few levels of a dark gradient stand out as rings.
    dither = np.random.default_rng(0).uniform(0.0, 1.0, (height, width, 1)).astype(np.float32)
    return np.ascontiguousarray(colour + dither, dtype=np.uint8)


def _wave(picture: Pixels, now: float) -> None:
    height, width, _ = picture.shape
    x = np.linspace(0, 1, max(16, width // 8), dtype=np.float32)
    taper = np.sin(np.pi * x)
    thickness = max(1, height // 360)
    for colour, amplitude, periods, turns in _WAVES:
        swing = np.sin(2 * np.pi * (periods * x + turns * now))
        y = height * (0.815 + 0.16 * amplitude * taper * swing)
        # Four binary digits of the coordinates are fractions: without them slow lines walk in steps.
        points = np.stack([x * (width - 1) * 16, y * 16], 1).round().astype(np.int32)
        cv2.polylines(picture, [points.reshape(-1, 1, 2)], False, colour, thickness, cv2.LINE_AA, 4)


def _write(
    picture: Pixels,
    text: str,
    x: int,
    y: int,
    size: float,
    colour: Colour,
    *,
    align: str = "middle",
    room: int | None = None,
    weight: int = 400,
) -> None:
    """``text`` on the base line ``y``, ``size`` pixels high; made smaller, then cut, where it exceeds ``room``."""
    text = " ".join(text.split())
    if not text:
        return
    room = room or picture.shape[1]
    wanted = _extent(text, size, weight)
    if wanted > room:
        size = max(7.0, size * 0.6, size * room / wanted)
        while len(text) > 1 and _extent(text, size, weight) > room:
            text = text.removesuffix("...")[:-1].rstrip() + "..." if len(text) > 4 else text[:-1]
    left = x - _extent(text, size, weight) // (2 if align == "middle" else 1)
    if _FACE is not None:
        cv2.putText(picture, text, (left, y), colour, _FACE("sans"), round(size), weight)
        return
    scale, thickness = _stroke(size, weight)
    plain = text.encode("ascii", "replace").decode()
    cv2.putText(picture, plain, (left, y), cv2.FONT_HERSHEY_DUPLEX, scale, colour, thickness, cv2.LINE_AA)


def _extent(text: str, size: float, weight: int) -> int:
    """How wide ``text`` comes out, in pixels."""
    if _FACE is not None:
        x, _, width, _ = cv2.getTextSize((0, 0), text, (0, 0), _FACE("sans"), round(size), weight)
        return int(x + width)
    scale, thickness = _stroke(size, weight)
    (width, _), _ = cv2.getTextSize(text, cv2.FONT_HERSHEY_DUPLEX, scale, thickness)
    return int(width)


def _stroke(size: float, weight: int) -> tuple[float, int]:
    """Hershey's scale and thickness for letters ``size`` pixels high: they are 30 high at scale 1."""
    return size / 30, max(1, round(size / (18 if weight > 500 else 26)))
