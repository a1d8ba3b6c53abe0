"""Motion from one picture to the next, and what it carries on."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch

from streamv2v_obs.frames import Pixels
from streamv2v_obs.translator.carrying import Carry, Motion, MotionEstimator

SIDE, CELLS = 128, 16


def picture(seed: int = 0, side: int = 2 * SIDE) -> Pixels:
    noise = np.random.default_rng(seed).integers(0, 256, (side // 8, side // 8, 3), np.uint8)
    return np.asarray(cv2.resize(noise, (side, side), interpolation=cv2.INTER_CUBIC), np.uint8)


def view(x: int, y: int) -> Pixels:
    return np.ascontiguousarray(picture()[y : y + SIDE, x : x + SIDE])


def here() -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    place = (2 * np.arange(CELLS, dtype=np.float32) + 1) / CELLS - 1
    return np.stack(np.meshgrid(place, place), 2)


def test_the_first_picture_has_come_from_nowhere() -> None:
    estimator = MotionEstimator(CELLS, CELLS)
    assert estimator.to(view(0, 0)) is None
    assert estimator.to(picture(side=64)) is None  # of another size: neither has this one
    assert estimator.to(picture(side=64)) is not None


@pytest.mark.parametrize(("x", "y"), [(0, 0), (4, 0), (-3, 5)])
def test_it_says_where_each_cell_was(x: int, y: int) -> None:
    estimator = MotionEstimator(CELLS, CELLS)
    estimator.to(view(30, 30))
    motion = estimator.to(view(30 + x, 30 + y))  # the window moves, so what is in it goes the other way
    assert motion is not None
    shift = (motion.grid - here()) * SIDE / 2
    middle = np.s_[3:-3, 3:-3]
    assert np.allclose(shift[middle], (x, y), atol=0.3)
    assert motion.seen[middle].min() > 0.7
    if x > 0:
        assert motion.seen[:, -1].max() < 0.6  # what came in at the right was nowhere before


def test_what_is_new_was_not_seen() -> None:
    estimator = MotionEstimator(CELLS, CELLS)
    estimator.to(view(0, 0))
    motion = estimator.to(picture(seed=1, side=SIDE))
    assert motion is not None
    assert motion.seen.mean() < 0.1


def test_larger_pictures_are_estimated_smaller_and_say_the_same() -> None:
    made = []
    for factor in (1, 4):
        estimator = MotionEstimator(CELLS, CELLS)
        motion = None
        for x in (30, 34):
            shown = cv2.resize(view(x, 30), None, fx=factor, fy=factor, interpolation=cv2.INTER_CUBIC)
            motion = estimator.to(np.asarray(shown, np.uint8))
        assert motion is not None
        made.append(motion.grid[3:-3, 3:-3])
    small, large = made
    assert np.allclose(small, large, atol=0.02)


def moved(cells: int, seen: float = 1.0) -> Motion:
    """By whole cells to the right."""
    grid = here() - np.array([2 * cells / CELLS, 0], np.float32)
    return Motion(grid, np.full((CELLS, CELLS), seen, np.float32))


def latents(seed: int) -> torch.Tensor:
    return torch.randn((1, 4, CELLS, CELLS), generator=torch.Generator().manual_seed(seed))


def new_carry(share: float = 0.5, rows: int = 1) -> Carry:
    return Carry(share, rows, (4, CELLS, CELLS), torch.device("cpu"))


def test_a_share_of_the_last_picture_comes_along() -> None:
    carry = new_carry()
    first, second = latents(0), latents(1)
    carry.admit(None, alone=True)
    assert torch.equal(carry.compute(first), first)
    carry.depart()
    carry.admit(moved(2), alone=True)
    made = carry.compute(second)
    # Bicubic at whole cells is the cell itself; the left border is not asked for.
    wanted = (second + torch.roll(first, 2, dims=3)) / 2
    assert torch.allclose(made[..., 2:], wanted[..., 2:], atol=1e-4)
    carry.depart()
    carry.admit(moved(0), alone=True)
    assert torch.allclose(carry.compute(second), (second + made) / 2, atol=1e-4)  # and goes on to the next


def test_what_was_not_seen_is_drawn_by_itself() -> None:
    carry = new_carry()
    carry.admit(None, alone=True)
    carry.compute(latents(0))
    carry.depart()
    carry.admit(moved(1, seen=0.0), alone=True)
    assert torch.equal(carry.compute(latents(1)), latents(1))


def test_a_motion_waits_for_the_frame_that_came_by_it() -> None:
    carry = new_carry(rows=3)
    carry.admit(None, alone=False)
    carry.compute(latents(0))
    carry.depart()
    carry.admit(moved(0), alone=False)
    for seed in (1, 2):  # frames before it leave as they are
        assert torch.equal(carry.compute(latents(seed)), latents(seed))
        carry.depart()
        carry.lay_ready()
    assert torch.allclose(carry.compute(latents(3)), (latents(3) + latents(2)) / 2, atol=1e-4)


@pytest.mark.parametrize("alone", [True, False])
def test_after_a_new_look_nothing_comes_along(alone: bool) -> None:
    carry = new_carry(rows=2)
    for seed in range(3):
        carry.admit(moved(0), alone=alone)
        carry.compute(latents(seed))
        carry.depart()
    carry.forget()
    for seed in range(3, 4 if alone else 5):  # what was in flight, and the first one to enter since
        carry.admit(moved(0), alone=alone)
        assert torch.equal(carry.compute(latents(seed)), latents(seed))
        carry.depart()
    carry.admit(moved(0), alone=alone)
    assert not torch.equal(carry.compute(latents(9)), latents(9))
