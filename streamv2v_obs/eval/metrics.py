"""Flicker in figures: the error along known motion, the unrest of a still scene, and what likeness remains."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import cv2
import numpy as np
from numpy.typing import NDArray

from streamv2v_obs.demo.clips import Clip
from streamv2v_obs.frames import Pixels

LAGS = (1, 4, 8, 16)

Flow = NDArray[np.float64]
"""[H, W, 2] (x, y): where a pixel of one frame lies in another, as a shift in pixels."""


@dataclass(frozen=True)
class Track:
    """Which pixels of frame ``start`` can be seen ``lag`` frames later, and where: each P long.

    ``here`` int64 [P] are flat indices into frame ``start``; ``corners`` int64 [4, P] into the later frame, to be
    mixed by ``weights`` float64 [4, P] (bilinear, in full precision: the remapping of OpenCV knows 1/32 of a pixel).
    """

    start: int
    lag: int
    here: NDArray[np.int64]
    corners: NDArray[np.int64]
    weights: NDArray[np.float64]


def _corners(
    x: NDArray[np.float64], y: NDArray[np.float64], height: int, width: int
) -> tuple[NDArray[np.int64], Flow]:
    """Flat indices [4, ...] of the pixels around positions inside the picture, and their shares [4, ...]."""
    left = np.clip(np.floor(x).astype(np.int64), 0, width - 2)
    top = np.clip(np.floor(y).astype(np.int64), 0, height - 2)
    across, down = x - left, y - top
    first = top * width + left
    indices = np.stack([first, first + 1, first + width, first + width + 1])
    shares = np.stack([(1 - across) * (1 - down), across * (1 - down), (1 - across) * down, across * down])
    return indices, shares


def new_track(flow: Flow, visible: NDArray[np.bool_], start: int, lag: int) -> Track:
    """Of a flow from frame ``start`` to frame ``start + lag``; what leaves the picture is not visible."""
    height, width = visible.shape
    y, x = np.mgrid[0:height, 0:width].astype(np.float64)
    gx, gy = x + flow[..., 0], y + flow[..., 1]
    seen = visible & (gx >= 0) & (gx <= width - 1) & (gy >= 0) & (gy <= height - 1)
    here = np.flatnonzero(seen)
    corners, weights = _corners(gx.ravel()[here], gy.ravel()[here], height, width)
    return Track(start, lag, here, corners, weights)


def chained(clip: Clip, start: int, lag: int) -> tuple[Flow, NDArray[np.bool_]]:
    """The exact flow over ``lag`` frames and what is visible in each of them.

    A layer moves affinely, so that flow mixed of four pixels of one layer is that layer's flow; where the four are
    not all visible one frame later, the pixel is given up.
    """
    height, width = clip.visible[start].shape
    y, x = np.mgrid[0:height, 0:width].astype(np.float64)
    gx, gy = x + clip.flow[start][..., 0], y + clip.flow[start][..., 1]
    seen = clip.visible[start].copy()
    for number in range(start + 1, start + lag):
        seen &= (gx >= 0) & (gx <= width - 1) & (gy >= 0) & (gy <= height - 1)
        indices, shares = _corners(np.where(seen, gx, 0.0), np.where(seen, gy, 0.0), height, width)
        seen &= (clip.visible[number].ravel()[indices] | (shares == 0)).all(0)
        step = (clip.flow[number].reshape(-1, 2).astype(np.float64)[indices] * shares[..., None]).sum(0)
        gx, gy = gx + step[..., 0], gy + step[..., 1]
    return np.stack([gx - x, gy - y], 2), seen


def exact_tracks(clip: Clip, lags: Sequence[int] = LAGS) -> list[Track]:
    """Every pair of frames of a clip that lies one of ``lags`` apart."""
    return [
        new_track(*chained(clip, start, lag), start, lag) for lag in lags for start in range(len(clip.frames) - lag)
    ]


def estimated_tracks(frames: Sequence[Pixels], lags: Sequence[int] = LAGS) -> list[Track]:
    """The same for a real clip, by OpenCV's DIS flow of the *input*; seen is what flows back to where it came from."""
    estimate = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    grey = [cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in frames]
    height, width = grey[0].shape
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)

    def flow(first: int, second: int) -> NDArray[np.float32]:
        nothing = np.zeros((height, width, 2), np.float32)
        return np.asarray(estimate.calc(grey[first], grey[second], nothing), np.float32)

    def tracks() -> Iterator[Track]:
        for lag in lags:
            for start in range(len(frames) - lag):
                there, back = flow(start, start + lag), flow(start + lag, start)
                returned = cv2.remap(back, x + there[..., 0], y + there[..., 1], cv2.INTER_LINEAR)
                lengths = np.square(there).sum(2) + np.square(returned).sum(2)
                # Sundaram et al. 2010: a hundredth of the way, and half a pixel.
                seen = np.square(there + returned).sum(2) < 0.01 * lengths + 0.5
                yield new_track(there.astype(np.float64), seen, start, lag)

    return list(tracks())


def _errors(
    frames: Sequence[Pixels], tracks: Sequence[Track], lag: int
) -> Iterator[tuple[Track, NDArray[np.float64]]]:
    """Of each pair of frames ``lag`` apart that shows something twice: squared differences [P, 3], grey levels."""
    flat = [frame.reshape(-1, frame.shape[-1]).astype(np.float64) for frame in frames]
    for track in tracks:
        if track.lag != lag or not len(track.here) or track.start + lag >= len(flat):
            continue
        later = (flat[track.start + lag][track.corners] * track.weights[..., None]).sum(0)
        yield track, np.square(later - flat[track.start][track.here])


def warp_mse(frames: Sequence[Pixels], tracks: Sequence[Track], lag: int) -> float | None:
    """Mean squared difference of what is seen twice, ``lag`` frames apart: grey levels squared, in float.

    Each pair of frames counts the same; None where nothing is seen twice.
    """
    errors = [float(np.mean(squared)) for _, squared in _errors(frames, tracks, lag)]
    return float(np.mean(errors)) if errors else None


def error_map(frames: Sequence[Pixels], tracks: Sequence[Track], lag: int) -> NDArray[np.float64]:
    """Where it lies: [H, W], the root of the mean over all pairs of frames; 0 where nothing is seen twice."""
    height, width = frames[0].shape[:2]
    total, seen = np.zeros(height * width), np.zeros(height * width)
    for track, squared in _errors(frames, tracks, lag):
        total[track.here] += squared.mean(1)
        seen[track.here] += 1
    return np.asarray(np.sqrt(total / np.maximum(seen, 1)).reshape(height, width), np.float64)


def static_std(frames: Sequence[Pixels]) -> float:
    """Of a still scene: the standard deviation of each pixel over time, in grey levels; their mean."""
    return float(np.std(np.stack(frames).astype(np.float64), axis=0).mean())


def feature_cosine(features: Sequence[NDArray[np.float32]]) -> float:
    """Mean cosine of the features [C, h, w] of each frame with the next one's, each channel's mean taken off."""
    flat = [(feature - feature.mean((1, 2), keepdims=True)).ravel().astype(np.float64) for feature in features]
    return float(np.mean([a @ b / (np.linalg.norm(a) * np.linalg.norm(b) + 1e-12) for a, b in pairwise(flat)]))
