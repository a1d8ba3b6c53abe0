"""Clips whose motion is known: fetched along the flow, the next frame is this one wherever both show the same."""

from __future__ import annotations

import numpy as np
import pytest

from streamv2v_obs.demo.clips import HIDDEN, HIDDEN_LAG, KINDS, affine, draw_clip, draw_hidden, warp_back

SIDE, FRAMES = 128, 6


@pytest.mark.parametrize("kind", sorted(set(KINDS) - {"still"}))
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_flow_leads_to_the_same_thing_in_the_next_frame(kind: str, seed: int) -> None:
    clip = draw_clip(np.random.default_rng(seed), kind, frames=FRAMES, side=SIDE)
    assert len(clip.frames) == FRAMES == len(clip.flow) + 1 == len(clip.visible) + 1
    for number, (flow, visible) in enumerate(zip(clip.flow, clip.visible, strict=True)):
        assert visible.mean() > 0.6
        error = np.abs(warp_back(clip.frames[number + 1], flow).astype(int) - clip.frames[number].astype(int))
        # Sampling between pixels costs a little; a wrong flow would cost as much as the frames differ.
        assert error[visible].mean() < 2.0
        assert np.percentile(error[visible], 99) < 20
        # The test can fail: a flow that is wrong by two pixels does worse.
        astray = warp_back(clip.frames[number + 1], flow + np.float32(1.5)).astype(int) - clip.frames[number]
        assert error[visible].mean() < 0.8 * np.abs(astray)[visible].mean()


@pytest.mark.parametrize("kind", ["pan", "zoom", "rotation", "parallax", "fast", "loop"])
def test_things_do_move(kind: str) -> None:
    clip = draw_clip(np.random.default_rng(3), kind, frames=FRAMES, side=SIDE)
    assert max(np.hypot(flow[..., 0], flow[..., 1]).max() for flow in clip.flow) > 0.5


def test_what_goes_behind_something_is_not_called_visible() -> None:
    clip = draw_clip(np.random.default_rng(5), "occluder", frames=FRAMES, side=SIDE)
    hidden = [~visible for visible in clip.visible]
    still = [np.hypot(flow[..., 0], flow[..., 1]) == 0 for flow in clip.flow]
    # The background rests, so whatever of it is hidden is hidden by the occluder, not by the picture's border.
    covered = [(h & s)[2:-2, 2:-2].sum() for h, s in zip(hidden, still, strict=True)]
    assert max(covered) > 20
    number = int(np.argmax(covered))
    there = (hidden[number] & still[number])[..., None]
    change = np.abs(clip.frames[number + 1].astype(int) - clip.frames[number].astype(int))
    assert change[there[..., 0]].mean() > 3 * change[~there[..., 0] & still[number]].mean()


def test_a_loop_ends_where_it_began() -> None:
    clip = draw_clip(np.random.default_rng(0), "loop", frames=12, side=64)
    total = sum(flow.mean() for flow in clip.flow)
    assert abs(total) < 6


def test_a_still_clip_has_noise_alone() -> None:
    clip = draw_clip(np.random.default_rng(0), "still", frames=4, side=64)
    assert all(not flow.any() for flow in clip.flow)
    spread = np.stack(clip.frames).astype(float).std(0)
    assert 0.5 < spread.mean() < 4


def test_a_clip_is_its_seed() -> None:
    first, again = (draw_clip(np.random.default_rng(7), "parallax", frames=2, side=64) for _ in range(2))
    assert np.array_equal(first.frames[1], again.frames[1])
    assert np.array_equal(first.flow[0], again.flow[0])


def test_an_unknown_kind_is_named() -> None:
    with pytest.raises(ValueError, match="'spin': allowed are pan, zoom"):
        draw_clip(np.random.default_rng(0), "spin")


def test_a_motion_turns_around_its_centre() -> None:
    motion = affine(10, 20, angle=1.0, scale=2.0)
    assert motion @ np.array([10.0, 20.0, 1.0]) == pytest.approx([10.0, 20.0])


@pytest.mark.parametrize("seed", [0, 1])
def test_what_was_hidden_is_found_again(seed: int) -> None:
    clip = draw_hidden(np.random.default_rng(seed), side=SIDE)
    assert len(clip.again) == 8
    for (first, later), (flow, seen) in clip.again.items():
        assert later - first == HIDDEN_LAG > HIDDEN
        assert 0.01 < seen.mean() < 0.5  # the thing alone
        assert np.hypot(flow[..., 0], flow[..., 1])[seen].max() < 0.06 * SIDE
        error = np.abs(warp_back(clip.frames[later], flow).astype(int) - clip.frames[first].astype(int))
        assert error[seen].mean() < 2.0
    shown, covering = clip.frames[0].astype(int), clip.frames[11].astype(int)
    between = clip.frames[11 : 11 + HIDDEN]
    assert not np.array_equal(clip.frames[11 + HIDDEN], between[0])
    assert not np.array_equal(clip.frames[10], between[0])
    assert all(np.array_equal(frame, between[0]) for frame in between)
    assert np.abs(covering - shown).mean() > 10
