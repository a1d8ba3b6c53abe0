"""The slate: any size, alive, cheap, and legible enough to differ from an empty one."""

from __future__ import annotations

import time

import numpy as np
import pytest

from streamv2v_obs.publish import slate
from streamv2v_obs.publish.slate import Slate

NOON = time.struct_time((2024, 5, 1, 12, 0, 0, 2, 122, 0))


def new() -> Slate:
    return Slate(lambda: NOON)


@pytest.mark.parametrize(("width", "height"), [(64, 64), (256, 256), (1280, 720), (360, 640), (4096, 64)])
def test_any_size(width: int, height: int) -> None:
    picture = new().picture(width, height, 1.0, "Loading the model", "a note")
    assert picture.shape == (height, width, 3)
    assert picture.dtype == np.uint8
    assert picture.flags.c_contiguous
    assert picture.max() > 150


def test_it_moves_ten_times_a_second_and_gives_the_same_array_in_between() -> None:
    one = new()
    first = one.picture(320, 240, 1.0)
    assert one.picture(320, 240, 1.05) is first
    second = one.picture(320, 240, 1.12)
    assert second is not first
    assert (second != first).any()


def test_a_picture_that_was_given_away_is_never_drawn_over() -> None:
    one = new()
    first = one.picture(320, 240, 1.0, "a")
    copy = first.copy()
    for n in range(20):
        one.picture(320, 240, 1.0 + n / 10, "a")
    assert (first == copy).all()


def test_lines_are_drawn_and_long_ones_stay_inside() -> None:
    empty = new().picture(640, 360, 1.0)
    short = new().picture(640, 360, 1.0, "Loading")
    long = new().picture(640, 360, 1.0, "Loading " * 100)
    other = new().picture(640, 360, 1.0, "Läuft gleich weiter\nПауза")
    assert all((picture != empty).any() for picture in (short, long, other))
    changed = (long != empty).any(axis=(0, 2))
    assert changed[: 640 // 20].sum() == 0
    assert changed[-640 // 20 :].sum() == 0


def test_the_time_is_shown() -> None:
    later = time.struct_time((2024, 5, 1, 12, 0, 1, 2, 122, 0))
    assert (Slate(lambda: NOON).picture(640, 360, 1.0) != Slate(lambda: later).picture(640, 360, 1.0)).any()


def test_without_true_fonts_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slate, "_FACE", None)
    slate.still.cache_clear()
    picture = new().picture(640, 360, 1.0, "Loading Пауза", "note")
    assert picture.max() > 150
    slate.still.cache_clear()
