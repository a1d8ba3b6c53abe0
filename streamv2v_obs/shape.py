"""From one picture size to another without bending the picture: cut what is too much, or lay bars around it."""

from __future__ import annotations

from typing import Literal, TypeAlias

import cv2
import numpy as np

from streamv2v_obs.frames import Pixels

Fit: TypeAlias = Literal["crop", "letterbox"]
Box: TypeAlias = tuple[int, int, int, int]
"""x, y, width, height in pixels."""


def fit_to(pixels: Pixels, width: int, height: int, fit: Fit) -> Pixels:
    """uint8 [h, w, 3] of any size -> uint8 [height, width, 3], proportions kept.

    ``crop`` fills the new picture and loses what stands over, evenly on both sides; ``letterbox`` keeps all and adds
    black bars. A picture that fits already is returned as it is, not copied.
    """
    h, w, _ = pixels.shape
    if (w, h) == (width, height):
        return pixels
    if fit == "crop":
        x, y, w, h = _inner(width, height, w, h, even=False)
        return _scale(pixels[y : y + h, x : x + w], width, height)
    x, y, inner_width, inner_height = letterbox(w, h, width, height)
    boxed = np.zeros((height, width, 3), np.uint8)
    boxed[y : y + inner_height, x : x + inner_width] = _scale(pixels, inner_width, inner_height)
    return boxed


def cut_bars(pixels: Pixels, source_width: int, source_height: int, fit: Fit) -> Pixels:
    """The part of a fitted picture that shows its source: all of it, or what lies between the letterbox bars.

    uint8 [H, W, 3], its scale unchanged; C-contiguous. Width and height of a cut picture are even, since encoders and
    cameras want them so.
    """
    if fit == "crop":
        return pixels
    h, w, _ = pixels.shape
    x, y, inner_width, inner_height = letterbox(source_width, source_height, w, h)
    return np.ascontiguousarray(pixels[y : y + inner_height, x : x + inner_width])


def letterbox(source_width: int, source_height: int, width: int, height: int) -> Box:
    """Where the whole source lies in a picture of ``width`` x ``height``; all four numbers are even."""
    return _inner(source_width, source_height, width, height, even=True)


def _inner(inner_width: int, inner_height: int, width: int, height: int, *, even: bool) -> Box:
    """The largest centred box of the inner proportions in ``width`` x ``height``, to the nearest (even) pixel."""
    grain = 2 if even else 1
    # Equal proportions are asked for in whole numbers, so that rounding never leaves a bar of two pixels.
    if inner_width * height == inner_height * width:
        return 0, 0, width, height
    if inner_width * height > inner_height * width:
        w, h = width, round(width * inner_height / inner_width / grain) * grain
    else:
        w, h = round(height * inner_width / inner_height / grain) * grain, height
    w, h = min(max(w, grain), width), min(max(h, grain), height)
    return (width - w) // 2 // grain * grain, (height - h) // 2 // grain * grain, w, h


def _scale(pixels: Pixels, width: int, height: int) -> Pixels:
    h, w, _ = pixels.shape
    # Averaging keeps fine lines from shimmering when a picture shrinks; it is no good for making one larger.
    how = cv2.INTER_AREA if width < w and height < h else cv2.INTER_LINEAR
    scaled: Pixels = np.asarray(cv2.resize(pixels, (width, height), interpolation=how), np.uint8)
    return scaled
