"""Colour moods: what light and palette words add to any style. Each is a function of a pixel's colour alone."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from streamv2v_obs.demo.strokes import Picture, grey, limited, saturate

Mood = Callable[[Picture], Picture]


def _clip(picture: Picture) -> Picture:
    return limited(picture)


def _tone(picture: Picture, dark: tuple[float, ...], lit: tuple[float, ...], share: float) -> Picture:
    """Towards a ramp from ``dark`` to ``lit`` by lightness."""
    luma = grey(picture)[..., None]
    shade, light = np.array(dark, np.float32), np.array(lit, np.float32)
    return _clip(picture * (1 - share) + (shade + (light - shade) * luma) * share)


def _gain(picture: Picture, *gains: float) -> Picture:
    return _clip(picture * np.array(gains, np.float32))


MOODS: dict[str, Mood] = {
    "warm": lambda p: _gain(_clip(p * 1.02 + 0.02), 1.14, 1.0, 0.72),
    "cold": lambda p: _gain(saturate(p, 0.85), 0.76, 0.95, 1.18),
    "night": lambda p: _clip(_gain(saturate(p, 0.7), 0.34, 0.42, 0.68) + np.array([0.0, 0.01, 0.05], np.float32)),
    "sunset": lambda p: _tone(p, (0.2, 0.02, 0.25), (1.0, 0.75, 0.4), 0.6),
    "blue and gold": lambda p: _tone(p, (0.02, 0.07, 0.3), (1.0, 0.86, 0.45), 0.72),
    "teal and orange": lambda p: _tone(p, (0.0, 0.2, 0.25), (1.0, 0.78, 0.58), 0.5),
    "pastel": lambda p: _clip(saturate(p, 0.7) * 0.6 + 0.38),
    "vivid": lambda p: saturate(_clip(0.5 + (p - 0.5) * 1.15), 1.8),
    "black and white": lambda p: _clip(0.5 + (saturate(p, 0.0) - 0.5) * 1.2),
    "pink": lambda p: _tone(p, (0.25, 0.02, 0.2), (1.0, 0.85, 0.93), 0.6),
    "green": lambda p: _tone(p, (0.0, 0.1, 0.06), (0.85, 1.0, 0.7), 0.62),
}
