"""Flicker's figures over pictures whose answer is known beforehand."""

from __future__ import annotations

import numpy as np
import pytest

from streamv2v_obs.demo.clips import Clip, draw_clip, warp_back
from streamv2v_obs.demo.evaluate import edges, edges_found
from streamv2v_obs.eval.metrics import (
    chained,
    estimated_tracks,
    exact_tracks,
    feature_cosine,
    new_track,
    static_std,
    warp_mse,
)
from streamv2v_obs.frames import Pixels

SIDE = 48


def texture(seed: int = 0, side: int = SIDE) -> Pixels:
    return np.random.default_rng(seed).integers(0, 256, (side, side, 3)).astype(np.uint8)


def shifted(step: int, frames: int) -> Clip:
    """A texture that moves ``step`` pixels to the right a frame; what comes in is not what went out."""
    wide = texture(side=SIDE + step * frames)[:SIDE]
    pictures = [np.ascontiguousarray(wide[:, step * (frames - n) : step * (frames - n) + SIDE]) for n in range(frames)]
    flow = np.zeros((SIDE, SIDE, 2), np.float32)
    flow[..., 0] = step
    inside = np.ones((SIDE, SIDE), bool)
    inside[:, SIDE - step :] = False
    return Clip(pictures, [flow] * (frames - 1), [inside] * (frames - 1))


@pytest.mark.parametrize("lag", [1, 2, 4])
def test_motion_alone_is_no_flicker(lag: int) -> None:
    clip = shifted(3, 6)
    tracks = exact_tracks(clip, (lag,))
    assert len(tracks) == 6 - lag
    assert all(len(track.here) == SIDE * (SIDE - 3 * lag) for track in tracks)
    assert warp_mse(clip.frames, tracks, lag) == 0
    # It can fail: unmoved, the same frames differ by what two random textures differ by, 2 * 255^2 / 12.
    unmoved = [new_track(np.zeros((SIDE, SIDE, 2)), np.ones((SIDE, SIDE), bool), n, lag) for n in range(6 - lag)]
    assert warp_mse(clip.frames, unmoved, lag) == pytest.approx(2 * 255**2 / 12, rel=0.1)


def test_flicker_is_measured_in_grey_levels_squared_and_bytes_do_not_wrap() -> None:
    clip = shifted(2, 4)
    dark = np.full((SIDE, SIDE, 3), 5, np.uint8)
    bright = np.full((SIDE, SIDE, 3), 250, np.uint8)
    tracks = exact_tracks(clip, (1, 2))
    assert warp_mse([dark, bright, dark, bright], tracks, 1) == 245**2
    assert warp_mse([dark, bright, dark, bright], tracks, 2) == 0
    assert warp_mse([dark], tracks, 1) is None


def test_between_two_pixels_is_their_mean() -> None:
    flow = np.full((4, 4, 2), 0.5)
    picture = np.arange(16, dtype=np.uint8).reshape(4, 4, 1)
    track = new_track(flow, np.ones((4, 4), bool), 0, 1)
    assert len(track.here) == 9
    # A plane: half a pixel right and down is 0.5 + 0.5 * 4 more.
    assert warp_mse([picture, picture], [track], 1) == pytest.approx(2.5**2)


@pytest.mark.parametrize("kind", ["pan", "zoom", "rotation", "parallax", "occluder", "loop"])
def test_flow_chained_over_eight_frames_leads_to_the_same_thing(kind: str) -> None:
    clip = draw_clip(np.random.default_rng(1), kind, frames=9, side=96)
    flow, visible = chained(clip, 0, 8)
    assert visible.mean() > 0.3
    error = np.abs(warp_back(clip.frames[8], flow.astype(np.float32)).astype(int) - clip.frames[0].astype(int))
    assert error[visible].mean() < 3
    astray = np.abs(warp_back(clip.frames[8], (flow + 2).astype(np.float32)).astype(int) - clip.frames[0].astype(int))
    assert error[visible].mean() < 0.8 * astray[visible].mean()
    alone, seen = chained(clip, 0, 1)
    assert np.array_equal(alone.astype(np.float32), clip.flow[0])
    assert np.array_equal(seen, clip.visible[0])


def test_what_was_hidden_on_the_way_is_given_up() -> None:
    clip = draw_clip(np.random.default_rng(5), "occluder", frames=7, side=96)
    _, once = chained(clip, 0, 1)
    _, always = chained(clip, 0, 6)
    assert not (always & ~once).any()
    assert always.sum() < once.sum()


def test_estimated_flow_follows_a_slow_pan() -> None:
    clip = draw_clip(np.random.default_rng(2), "pan", frames=3, side=96)
    (track, *_) = estimated_tracks(clip.frames, (1,))
    assert len(track.here) > 0.5 * 96 * 96
    estimated = warp_mse(clip.frames, [track], 1)
    exact = warp_mse(clip.frames, exact_tracks(clip, (1,))[:1], 1)
    unmoved = warp_mse(clip.frames, [new_track(np.zeros((96, 96, 2)), np.ones((96, 96), bool), 0, 1)], 1)
    assert estimated is not None
    assert exact is not None
    assert unmoved is not None
    assert exact < unmoved
    assert estimated < 0.5 * unmoved


def test_unrest_is_the_deviation_over_time() -> None:
    noise = np.random.default_rng(0).normal(128, 3, (200, 8, 8, 3)).round().astype(np.uint8)
    assert static_std(list(noise)) == pytest.approx(3, rel=0.05)
    assert static_std([texture()] * 3) == 0


def test_cosine_of_features_is_blind_to_brightness() -> None:
    feature = np.random.default_rng(0).normal(size=(4, 6, 6)).astype(np.float32)
    assert feature_cosine([feature, 2 * feature + 5]) == pytest.approx(1, abs=1e-5)
    assert feature_cosine([feature, -feature]) == pytest.approx(-1, abs=1e-5)


def test_edges_of_another_picture_are_found_by_chance_only() -> None:
    def box(x: int, y: int) -> Pixels:
        picture = np.full((96, 96, 3), 40, np.uint8)
        picture[y : y + 30, x : x + 30] = 200
        return picture

    assert edges_found(box(10, 10), box(10, 10)) == 1
    assert edges_found(box(10, 10), 255 - box(10, 10)) == 1, "which side is brighter does not count"
    assert edges_found(box(10, 10), box(55, 55)) < 0.1
    assert edges(texture(side=96)).mean() == pytest.approx(0.1, abs=0.01)
    assert edges_found(np.full((32, 32, 3), 9, np.uint8), box(1, 1)[:32, :32]) == 1
