"""The model works in the source's shape, with about as many pixels as it was made for."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamv2v_obs.engine.working_size import working_size
from streamv2v_obs.settings import ModelSettings


@dataclass
class Square:
    """A model's measures."""

    width: int
    height: int
    multiple: int


@pytest.mark.parametrize(
    ("model", "source", "expected"),
    [
        (Square(512, 512, 64), (1920, 1080), (704, 384)),
        (Square(512, 512, 64), (1080, 1920), (384, 704)),
        (Square(512, 512, 64), (800, 800), (512, 512)),
        (Square(256, 256, 32), (640, 360), (352, 192)),
        (Square(256, 256, 32), (4000, 100), (352, 192)),
    ],
)
def test_known_shapes(model: Square, source: tuple[int, int], expected: tuple[int, int]) -> None:
    assert working_size(model, ModelSettings(), *source) == expected


def test_what_is_set_is_taken() -> None:
    assert working_size(Square(512, 512, 64), ModelSettings(width=640, height=360), 100, 100) == (640, 360)


@given(st.integers(1, 8000), st.integers(1, 8000), st.sampled_from([(512, 64), (256, 32), (64, 8)]))
def test_every_source_costs_about_the_same(width: int, height: int, model: tuple[int, int]) -> None:
    side, step = model
    w, h = working_size(Square(side, side, step), ModelSettings(), width, height)
    assert w % step == h % step == 0
    assert 0.7 * side * side <= w * h <= 1.3 * side * side
