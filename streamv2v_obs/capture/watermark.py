"""A faint mark in a picture that survives scaling, JPEG and video codecs, not translation: how a raw one is found."""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np
import numpy.typing as npt

from streamv2v_obs.frames import Pixels

CELLS = 96
"""The mark is a square of so many by so many cells, stretched over the whole picture, each lighter or darker."""
RAW = 0.45
"""Scores above are of raw pictures. Those keep 0.6 at 256x256; translated ones were seen to keep up to 0.16."""
DEPTH = 10
"""Grey levels that a cell is lighter or darker than the picture was."""
_SIDE = 2 * CELLS
_NOISE = 3.0
"""Grey levels under which detail counts as none, so that a smooth picture's rounding is not taken for a mark."""

Grey = npt.NDArray[np.float32]


def marked(pixels: Pixels) -> Pixels:
    """``pixels``, uint8 [H, W, 3] RGB, with the mark in them."""
    height, width, _ = pixels.shape
    lighter, darker = _layers(width, height)
    return np.asarray(cv2.subtract(cv2.add(pixels, lighter), darker), np.uint8)


def score(pixels: Pixels) -> float:
    """How much of the mark is in uint8 [H, W, 3] RGB, whatever its size: 0 none .. 1 nothing but the mark.

    The correlation of the fine detail of both; a whole picture that was scaled keeps it, one that was cropped or
    turned does not.
    """
    grey = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY).astype(np.float32)
    found, mark = _detail(_sized(grey)), _detail_of_mark()
    norm = float(np.sqrt((found * found).mean() + _NOISE**2) * np.sqrt((mark * mark).mean()))
    return float((found * mark).mean()) / norm


@lru_cache(maxsize=1)
def _signs() -> Grey:
    # Half and half in every block of two by two: no block is lighter as a whole, so nothing of it is a broad shade.
    chance = np.random.default_rng(0x57A7E)
    blocks = np.array([[1, 1, -1, -1]] * (CELLS * CELLS // 4), np.float32)
    blocks = chance.permuted(blocks, axis=1).reshape(CELLS // 2, CELLS // 2, 2, 2)
    return np.ascontiguousarray(blocks.transpose(0, 2, 1, 3).reshape(CELLS, CELLS))


@lru_cache(maxsize=4)
def _layers(width: int, height: int) -> tuple[Pixels, Pixels]:
    signs = cv2.resize(_signs(), (width, height), interpolation=cv2.INTER_NEAREST)
    lighter, darker = (
        np.repeat(np.where(side, DEPTH, 0).astype(np.uint8)[..., None], 3, axis=2) for side in (signs > 0, signs < 0)
    )
    return np.ascontiguousarray(lighter), np.ascontiguousarray(darker)


@lru_cache(maxsize=1)
def _detail_of_mark() -> Grey:
    return _detail(_sized(DEPTH * _signs()))


def _sized(grey: Grey) -> Grey:
    return np.asarray(cv2.resize(grey, (_SIDE, _SIDE), interpolation=cv2.INTER_AREA), np.float32)


def _detail(grey: Grey) -> Grey:
    """Without broad shades, and with edges no stronger than the mark itself: they are the picture's own."""
    fine = grey - cv2.GaussianBlur(grey, (0, 0), 3.0)
    return np.asarray(np.clip(fine, -2 * DEPTH, 2 * DEPTH), np.float32)
