"""The pictures of an evaluation: stripes of what is steady, and colours where one arm flickers less than another."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from streamv2v_obs.eval.metrics import error_map, new_track, warp_mse
from streamv2v_obs.eval.pictures import (
    SHOWN_FRAMES,
    error_picture,
    gain_picture,
    picture_path,
    through_time,
    write_pictures,
)
from streamv2v_obs.eval.suite import Pictures

SIDE = 32


def test_a_steady_picture_makes_stripes() -> None:
    frame = np.random.default_rng(0).integers(0, 256, (8, 10, 3)).astype(np.uint8)
    tall = through_time([frame] * 3)
    assert tall.shape == (24, 10, 3)
    assert (tall == frame[4]).all()


def test_an_error_lies_where_it_was_made() -> None:
    first, second = np.full((2, SIDE, SIDE, 3), 100, np.uint8)
    second[4:8, 6:10] = 110
    frames = [first, second, second]
    still = np.zeros((SIDE, SIDE, 2))
    hidden = np.ones((SIDE, SIDE), bool)
    hidden[:, :7] = False
    tracks = [new_track(still, hidden, start, 1) for start in (0, 1)]
    found = error_map(frames, tracks, 1)
    expected = np.zeros((SIDE, SIDE))
    expected[4:8, 7:10] = np.sqrt(100 / 2)
    np.testing.assert_allclose(found, expected)
    error = warp_mse(frames, tracks, 1)
    assert error is not None
    np.testing.assert_allclose(np.square(found).sum() / hidden.sum(), error)
    assert not error_map(frames, tracks, 4).any()


def test_colours_tell_less_from_more() -> None:
    without = np.full((SIDE, SIDE), 10.0)
    assert (gain_picture(without, without, 4) == 255).all()
    red, green, blue = gain_picture(without, without - 4, 4)[SIDE // 2, SIDE // 2]
    assert blue > green > red
    red, green, blue = gain_picture(without, without + 4, 4)[SIDE // 2, SIDE // 2]
    assert red > green > blue
    dark, bright = error_picture(np.array([[0.0, 9.0]]), 9)[0]
    assert dark.max() < 10
    assert bright.sum() > 500


def test_each_arm_s_pictures_are_written(tmp_path: Path) -> None:
    frames = [np.full((SIDE, SIDE, 3), 7 * n, np.uint8) for n in range(SHOWN_FRAMES + 2)]
    shown = [
        Pictures("a clip", "a prompt", arm, frames, np.zeros((SIDE, SIDE))) for arm in ("input", "off", "queue 1")
    ]
    write_pictures(tmp_path, 3, shown)
    assert picture_path(tmp_path, 3, "queue 1", "gain").name == "003-queue_1.gain.jpg"
    found = sorted(path.name for path in tmp_path.iterdir())
    assert len(found) == 3 * 3 + 1
    assert "003-queue_1.gain.jpg" in found
