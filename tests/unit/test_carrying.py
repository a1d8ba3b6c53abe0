"""Motion from one picture to the next, and what it carries on."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch

from streamv2v_obs.demo.clips import HIDDEN_LAG, draw_hidden
from streamv2v_obs.frames import Pixels
from streamv2v_obs.translator.carrying import Carry
from streamv2v_obs.translator.motion import Motion, MotionEstimator, View

SIDE, CELLS = 128, 16


def picture(seed: int = 0, side: int = 2 * SIDE) -> Pixels:
    noise = np.random.default_rng(seed).integers(0, 256, (side // 8, side // 8, 3), np.uint8)
    return np.asarray(cv2.resize(noise, (side, side), interpolation=cv2.INTER_CUBIC), np.uint8)


def view(x: int, y: int) -> Pixels:
    return np.ascontiguousarray(picture()[y : y + SIDE, x : x + SIDE])


def here(cells: int = CELLS) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    place = (2 * np.arange(cells, dtype=np.float32) + 1) / cells - 1
    return np.stack(np.meshgrid(place, place), 2)


def test_the_first_picture_has_come_from_nowhere() -> None:
    estimator = MotionEstimator(CELLS, CELLS)
    assert not estimator.to(view(0, 0)).before.seen.any()
    narrow = picture(side=64)[:, :48]  # of another size: neither has this one
    assert not estimator.to(narrow).before.seen.any()
    assert estimator.to(narrow).before.seen.all()
    estimator.forget()
    assert not estimator.to(narrow).before.seen.any()


@pytest.mark.parametrize(("x", "y"), [(0, 0), (4, 0), (-3, 5)])
def test_it_says_where_each_cell_was(x: int, y: int) -> None:
    estimator = MotionEstimator(CELLS, CELLS)
    estimator.to(view(30, 30))
    motion = estimator.to(view(30 + x, 30 + y)).before  # the window moves, so what is in it goes the other way
    shift = (motion.grid - here()) * SIDE / 2
    middle = np.s_[3:-3, 3:-3]
    assert np.allclose(shift[middle], (x, y), atol=0.3)
    assert motion.seen[middle].min() > 0.6
    if x > 0:
        assert motion.seen[:, -1].max() < 0.6  # what came in at the right was nowhere before


def test_what_is_new_was_not_seen() -> None:
    estimator = MotionEstimator(CELLS, CELLS)
    estimator.to(view(0, 0))
    assert estimator.to(picture(seed=1, side=SIDE)).before.seen.mean() < 0.1


def test_what_is_as_grey_in_another_colour_was_not_seen() -> None:
    texture = picture(side=SIDE)[..., :1].astype(int) // 8
    red, green = (
        np.clip(np.array(colour) + texture, 0, 255).astype(np.uint8) for colour in ((177, 35, 35), (29, 111, 29))
    )
    estimator = MotionEstimator(CELLS, CELLS, anchors=True)
    estimator.to(red)
    estimator.to(red)
    motion = estimator.to(green)
    assert motion.anchor is not None
    assert max(motion.before.seen.max(), motion.anchor.seen.max()) < 0.1


def test_larger_pictures_are_estimated_smaller_and_say_the_same() -> None:
    made = []
    for factor in (1, 4):
        estimator = MotionEstimator(CELLS, CELLS)
        grid = here()
        for x in (30, 34):
            shown = cv2.resize(view(x, 30), None, fx=factor, fy=factor, interpolation=cv2.INTER_CUBIC)
            grid = estimator.to(np.asarray(shown, np.uint8)).before.grid
        made.append(grid[3:-3, 3:-3])
    small, large = made
    assert np.allclose(small, large, atol=0.02)


SCENES = [picture(seed, SIDE) for seed in range(8)]


def covered(scene: Pixels, share: float) -> Pixels:
    shown = np.array(scene, np.uint8)
    shown[:, : round(share * SIDE)] = 250
    return shown


def test_what_comes_back_is_found_in_the_picture_that_was_kept() -> None:
    estimator = MotionEstimator(CELLS, CELLS, anchors=True)
    first = estimator.to(SCENES[0])
    assert (first.anchor, first.keep) == (None, 0)
    again = estimator.to(SCENES[0])
    assert again.anchor is not None
    assert again.keep is None
    assert again.anchor.seen.min() > 0.9
    half = [estimator.to(covered(SCENES[0], 0.4)) for _ in range(20)]
    assert all(motion.keep is None for motion in half)  # most of it is still there
    hidden = [estimator.to(SCENES[1]) for _ in range(60)]
    assert [motion.keep for motion in hidden if motion.keep is not None] == [1]
    back = [estimator.to(SCENES[0]) for _ in range(2)][-1]  # the second of two pictures at the latest
    assert back.anchor is not None
    assert (back.slot, back.keep) == (0, None)
    assert back.anchor.seen.min() > 0.9


@pytest.mark.parametrize("seed", [71, 72, 73])
def test_a_thing_that_was_hidden_and_has_moved_on_is_found(seed: int) -> None:
    side, cells = 256, 32
    clip = draw_hidden(np.random.default_rng(seed), side=side)
    first, second = next(iter(clip.again))
    estimator = MotionEstimator(cells, cells, anchors=True)
    for number in (first, *[first + HIDDEN_LAG // 2] * 10, second):
        motion = estimator.to(clip.frames[number])
    assert motion.anchor is not None
    assert motion.slot == 0, "the picture before it was hidden"
    flow, visible = clip.again[first, second]
    y, x = np.nonzero(visible)
    # From where it was to where it is; and there, the estimator says where it was.
    there_x, there_y = (x + flow[y, x, 0]), (y + flow[y, x, 1])
    at = np.clip((there_y / 8).astype(int), 0, cells - 1), np.clip((there_x / 8).astype(int), 0, cells - 1)
    assert motion.anchor.seen[at].mean() > 0.5
    middle = motion.anchor.grid[at] - here(cells)[at]  # the shift of the whole cell
    missed = np.hypot(middle[:, 0] * side / 2 + flow[y, x, 0], middle[:, 1] * side / 2 + flow[y, x, 1])
    assert np.median(missed) < 2


def test_what_was_of_use_for_long_is_kept_longest() -> None:
    estimator = MotionEstimator(CELLS, CELLS, anchors=True)
    for _ in range(100):
        estimator.to(SCENES[0])
    for scene in SCENES[1:7]:
        for _ in range(10):
            estimator.to(scene)
    back = [estimator.to(SCENES[0]) for _ in range(9)][-1]
    assert back.slot == 0


def test_what_changes_all_the_time_is_kept_now_and_then() -> None:
    estimator = MotionEstimator(CELLS, CELLS, anchors=True)
    kept = [estimator.to(picture(100 + number, SIDE)).keep for number in range(33)]
    places = [number for number, slot in enumerate(kept) if slot is not None]
    assert places == [0, 8, 16, 24, 32]


def test_a_new_look_has_no_anchor() -> None:
    estimator = MotionEstimator(CELLS, CELLS, anchors=True)
    for _ in range(3):
        estimator.to(SCENES[0])
    estimator.forget()
    motion = estimator.to(SCENES[0])
    assert (motion.anchor, motion.keep) == (None, 0)


def view_of(cells: int, seen: float = 1.0) -> View:
    """By whole cells to the right."""
    grid = here() - np.array([2 * cells / CELLS, 0], np.float32)
    return View(grid, np.full((CELLS, CELLS), seen, np.float32))


def moved(cells: int, seen: float = 1.0) -> Motion:
    return Motion(view_of(cells, seen))


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


def anchored(keep: int | None, slot: int = 0, seen: float = 1.0) -> Motion:
    return Motion(view_of(0, 0.0), view_of(0, seen), slot, keep)


def test_a_share_of_an_anchor_comes_along_however_long_ago_it_was() -> None:
    carry = Carry(0.25, 2, (4, CELLS, CELLS), torch.device("cpu"), anchor_share=0.5)
    made = []
    for seed, motion in enumerate(
        [Motion(view_of(0, 0.0), keep=3), *[moved(0, 0.0)] * 5, anchored(None, 3), moved(0)]
    ):
        carry.admit(motion, alone=True)
        made.append(carry.compute(latents(seed)))
        carry.depart()
    assert all(torch.equal(made[seed], latents(seed)) for seed in range(6))
    assert torch.allclose(made[6], (latents(6) + latents(0)) / 2, atol=1e-4)
    assert torch.allclose(made[7], 0.75 * latents(7) + 0.25 * made[6], atol=1e-4)


def test_what_has_come_back_takes_three_times_as_much_of_an_anchor() -> None:
    carry = Carry(0.0, 1, (4, CELLS, CELLS), torch.device("cpu"), anchor_share=0.1)
    half = np.zeros((CELLS, CELLS), np.float32)
    half[:, CELLS // 2 :] = 1.0
    carry.admit(Motion(view_of(0, 0.0), keep=0), alone=True)
    first = carry.compute(latents(0))
    carry.depart()
    carry.admit(replace(anchored(None), back=half), alone=True)
    made = carry.compute(latents(1))
    share = torch.from_numpy(0.1 + 0.2 * half)
    assert torch.allclose(made, (1 - share) * latents(1) + share * first, atol=1e-4)


def test_what_has_come_back_is_known_and_eases() -> None:
    side, cells = 256, 32
    clip = draw_hidden(np.random.default_rng(71), side=side)
    first, second = next(iter(clip.again))
    estimator = MotionEstimator(cells, cells, anchors=True)
    for number in (first, *[first + HIDDEN_LAG // 2] * 10):
        motion = estimator.to(clip.frames[number])
    assert motion.back is not None
    assert motion.back.mean() < 0.05, "what stands in front stands there, and is not back"
    seen = []
    for number in (second, second, *[second] * 30):
        back, anchor = (motion := estimator.to(clip.frames[number])).back, motion.anchor
        assert back is not None
        assert anchor is not None
        seen.append(float(back.mean()))
    assert seen[0] > 0.6
    assert seen[1] == pytest.approx(0.98 * seen[0], rel=0.05)
    assert seen[-1] < 0.6 * seen[0]
    estimator.forget()
    again = estimator.to(clip.frames[second]).back
    assert again is not None
    assert not again.any()


def test_nothing_comes_back_where_a_camera_only_pans() -> None:
    estimator = MotionEstimator(CELLS, CELLS, anchors=True)
    for step in range(12):
        motion = estimator.to(view(30 + 2 * step, 30))
        assert motion.back is None or motion.back[2:-2, 2:-2].mean() < 0.1


def test_in_a_stream_an_anchor_is_kept_when_its_picture_leaves() -> None:
    carry = Carry(0.0, 2, (4, CELLS, CELLS), torch.device("cpu"), anchor_share=0.5)
    made = []
    for seed, motion in enumerate([Motion(view_of(0, 0.0), keep=0), anchored(None), anchored(1), anchored(None, 1)]):
        carry.admit(motion, alone=False)
        made.append(carry.compute(latents(seed)))
        carry.depart()
    # The first to leave is nobody's, the second is the one that was kept.
    assert torch.equal(made[1], latents(1))
    assert torch.allclose(made[2], (latents(2) + latents(1)) / 2, atol=1e-4)
    assert torch.allclose(made[3], (latents(3) + latents(1)) / 2, atol=1e-4)
    carry.lay_ready()
    assert torch.allclose(carry.compute(latents(4)), (latents(4) + made[3]) / 2, atol=1e-4)


def test_after_a_new_look_no_anchor_comes_along_either() -> None:
    carry = Carry(0.0, 1, (4, CELLS, CELLS), torch.device("cpu"), anchor_share=0.5)
    for seed, motion in enumerate([Motion(view_of(0, 0.0), keep=0), anchored(None)]):
        carry.admit(motion, alone=True)
        carry.compute(latents(seed))
        carry.depart()
    carry.forget()
    for seed in (2, 3):  # nor from a slot that whoever estimates motion still believes in
        carry.admit(anchored(None), alone=True)
        assert torch.equal(carry.compute(latents(seed)), latents(seed))
        carry.depart()
    carry.admit(anchored(0), alone=True)
    kept = carry.compute(latents(4))
    carry.depart()
    carry.admit(anchored(None), alone=True)
    assert torch.allclose(carry.compute(latents(5)), (latents(5) + kept) / 2, atol=1e-4)


def test_what_is_not_finite_is_not_carried_on() -> None:
    carry = Carry(0.3, 1, (4, CELLS, CELLS), torch.device("cpu"), anchor_share=0.3)
    carry.admit(Motion(view_of(0, 0.0), keep=0), alone=True)
    assert carry.compute(torch.full((1, 4, CELLS, CELLS), torch.nan)).isnan().all()
    carry.depart()
    carry.forget()
    carry.admit(anchored(0), alone=True)
    assert torch.equal(carry.compute(latents(0)), latents(0))
    carry.depart()
    carry.admit(Motion(view_of(0), view_of(0)), alone=True)
    assert carry.compute(latents(1)).isfinite().all()
