"""Pictures meet the model's shape without losing their proportions, and letterbox bars come off again."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamv2v_obs.frames import Pixels
from streamv2v_obs.shape import cut_bars, fit_to, letterbox


def _disc(width: int, height: int, radius: int) -> Pixels:
    pixels = np.full((height, width, 3), 40, np.uint8)
    cv2.circle(pixels, (width // 2, height // 2), radius, (200, 200, 200), cv2.FILLED)
    return pixels


def _extent(pixels: Pixels) -> tuple[int, int]:
    inside = pixels[..., 0] > 120
    return int(inside.any(axis=0).sum()), int(inside.any(axis=1).sum())


@pytest.mark.parametrize("fit", ["crop", "letterbox"])
@pytest.mark.parametrize("size", [(1920, 1080), (1080, 1920), (640, 480), (100, 90), (512, 511)])
def test_a_circle_stays_a_circle(fit: str, size: tuple[int, int]) -> None:
    fitted = fit_to(_disc(*size, min(size) // 4), 512, 512, "crop" if fit == "crop" else "letterbox")
    assert fitted.shape == (512, 512, 3)
    assert fitted.dtype == np.uint8
    assert fitted.flags.c_contiguous
    width, height = _extent(fitted)
    assert abs(width - height) <= 3
    # The short side is a quarter of the radius either way; crop shows it at full scale.
    shown = 512 if fit == "crop" else letterbox(*size, 512, 512)[2 if size[0] < size[1] else 3]
    assert width == pytest.approx(shown / 2, abs=6)


def test_crop_loses_both_sides_evenly() -> None:
    wide = np.zeros((100, 300, 3), np.uint8)
    wide[:, :100], wide[:, 100:200], wide[:, 200:] = (255, 0, 0), (0, 255, 0), (0, 0, 255)
    assert (fit_to(wide, 100, 100, "crop") == (0, 255, 0)).all()


def test_letterbox_adds_black_bars_and_they_are_cut_them_off() -> None:
    white = np.full((1080, 1920, 3), 255, np.uint8)
    boxed = fit_to(white, 512, 512, "letterbox")
    x, y, width, height = letterbox(1920, 1080, 512, 512)
    assert (x, y, width, height) == (0, 112, 512, 288)
    assert not boxed[:y].any()
    assert not boxed[y + height :].any()
    cut = cut_bars(boxed, 1920, 1080, "letterbox")
    assert cut.shape == (288, 512, 3)
    assert cut.flags.c_contiguous
    assert (cut == 255).all()


def test_a_picture_that_fits_is_not_copied() -> None:
    pixels = _disc(512, 512, 50)
    assert fit_to(pixels, 512, 512, "crop") is pixels
    assert fit_to(pixels, 512, 512, "letterbox") is pixels
    assert cut_bars(pixels, 1920, 1080, "crop") is pixels


def test_shrinking_averages_so_that_fine_lines_become_grey_and_do_not_shimmer() -> None:
    # Shrunk to a fifth, the middle of each five lines would be white in turn if it were merely picked.
    lines = np.zeros((1000, 1000, 3), np.uint8)
    lines[:, ::2] = 255
    for fit in ("crop", "letterbox"):
        shrunk = fit_to(lines, 200, 200, "crop" if fit == "crop" else "letterbox")
        assert 100 <= int(shrunk.min()) <= int(shrunk.max()) <= 155


@given(*(st.integers(2, 4000) for _ in range(2)), *(st.integers(32, 512).map(lambda n: 2 * n) for _ in range(2)))
def test_the_letterbox_is_even_inside_and_touches_two_edges(sw: int, sh: int, width: int, height: int) -> None:
    x, y, w, h = letterbox(sw, sh, width, height)
    assert all(number % 2 == 0 for number in (x, y, w, h))
    assert x >= 0 <= y
    assert w >= 2 <= h
    assert x + w <= width
    assert y + h <= height
    assert w == width or h == height
    # As close to the source's proportions as even numbers allow.
    assert abs(w * sh / sw - h) <= max(2.0, 2 * sh / sw)
