"""The test pattern's counter can be read back, and its motion is known to the pixel."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from streamv2v_obs.capture.pattern import SCROLL, PatternSource, disc_at, draw_pattern, read_counter, strip_height
from streamv2v_obs.frames import Tag
from streamv2v_obs.settings import PatternCapture


@pytest.mark.parametrize("index", [0, 1, 2, 255, 256, 4095, 99_999, 2**24 - 1])
@pytest.mark.parametrize("size", [(64, 64), (512, 512), (1280, 720), (1918, 1080)])
def test_the_counter_is_read_back(index: int, size: tuple[int, int]) -> None:
    assert read_counter(draw_pattern(index, *size)) == index


def test_the_counter_survives_jpeg_and_scaling() -> None:
    drawn = draw_pattern(123_456, 1280, 720)
    _, jpeg = cv2.imencode(".jpg", drawn, [cv2.IMWRITE_JPEG_QUALITY, 40])
    worn = cv2.resize(np.asarray(cv2.imdecode(jpeg, cv2.IMREAD_COLOR)), (500, 282), interpolation=cv2.INTER_AREA)
    assert read_counter(np.asarray(worn, np.uint8)) == 123_456


def test_what_carries_no_counter_gives_none() -> None:
    rng = np.random.default_rng(3)
    noise = [rng.integers(0, 256, (256, 256, 3), np.uint8) for _ in range(200)]
    # Eight check bits: one in 256 would be read from pure chance.
    assert sum(read_counter(picture) is not None for picture in noise) <= 5
    for grey in (0, 255):
        assert read_counter(np.full((128, 128, 3), grey, np.uint8)) is None
    damaged = draw_pattern(77, 512, 512)
    damaged[: strip_height(512), :16] ^= 255
    assert read_counter(damaged) is None


def test_the_background_scrolls_and_the_disc_moves_exactly() -> None:
    width, height = 512, 384
    for index in (3, 50, 1000):
        before, after = draw_pattern(index, width, height), draw_pattern(index + 1, width, height)
        rows = slice(strip_height(height), strip_height(height) + 8)
        _, disc_y, radius = disc_at(index, width, height)
        if disc_y - radius > rows.stop:
            np.testing.assert_array_equal(np.roll(before[rows], SCROLL, axis=1), after[rows])
        x, y, _ = disc_at(index + 1, width, height)
        red = (after == (235, 60, 40)).all(axis=2)
        ys, xs = np.nonzero(red)
        assert (round(xs.mean()), round(ys.mean())) == (x, y)


def test_the_disc_never_leaves_the_picture() -> None:
    for width, height in ((64, 64), (512, 512), (64, 512)):
        for index in range(0, 3000, 7):
            x, y, radius = disc_at(index, width, height)
            assert radius <= x <= width - radius
            assert strip_height(height) + radius <= y <= height - radius


def test_the_source_counts_and_keeps_its_pace() -> None:
    source = PatternSource(PatternCapture(kind="pattern", width=128, height=96, fps=100))
    frames = [source.read() for _ in range(21)]
    source.close()
    assert [frame.index for frame in frames] == list(range(21))
    assert [read_counter(frame.pixels) for frame in frames] == list(range(21))
    assert frames[0].pixels.shape == (96, 128, 3)
    assert frames[0].tag is Tag.INPUT
    # Never faster than asked; a slow machine may be slower.
    assert frames[-1].captured_at - frames[0].captured_at > 0.19
    assert source.detail == "test pattern 128x96"
