"""What an evaluation shows to eyes: films, a row of them over time, and where each arm flickers less than no bank."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from streamv2v_obs.eval.suite import Pictures
from streamv2v_obs.frames import Pixels

SHOWN_FRAMES = 12
KINDS = ("film", "time", "error", "gain")
"""Of each arm; there is no gain of the input, nor of the run without a bank."""
_SMOOTH = 3.0
_LESS, _MORE = (20, 90, 220), (220, 40, 20)


def picture_path(folder: Path, clip: int, arm: str, kind: str) -> Path:
    """Where one of ``KINDS`` lies."""
    return folder / f"{clip:03d}-{arm.replace(' ', '_')}.{kind}.jpg"


def write_pictures(folder: Path, clip: int, shown: Sequence[Pictures]) -> None:
    """Those of all arms of one clip, ``off`` among them, whose errors set the scale of all."""
    without = next(pictures.error for pictures in shown if pictures.arm == "off")
    met = without[without > 0]
    most, usual = (float(np.percentile(met, 99)), float(met.mean())) if met.size else (1.0, 1.0)
    for pictures in shown:
        made = {
            "film": (_film(pictures.frames), 80),
            "time": (through_time(pictures.frames), 90),
            "error": (error_picture(pictures.error, most), 90),
        }
        if pictures.arm not in ("input", "off"):
            made["gain"] = gain_picture(without, pictures.error, usual / 2), 90
        for kind, (pixels, quality) in made.items():
            picture_path(folder, clip, pictures.arm, kind).write_bytes(_as_jpeg(pixels, quality))


def _film(frames: Sequence[Pixels]) -> Pixels:
    half = SHOWN_FRAMES // 2
    long = len(frames) > 4 * SHOWN_FRAMES  # then what comes back at the end is what matters
    return np.vstack([*frames[:half], *frames[-half:]] if long else frames[:SHOWN_FRAMES])


def through_time(frames: Sequence[Pixels]) -> Pixels:
    """The middle row of every frame, one under the other: what is steady makes clean stripes, flicker ragged ones."""
    rows = np.stack([frame[frame.shape[0] // 2] for frame in frames])
    tall = cv2.resize(rows, (rows.shape[1], 8 * len(frames)), interpolation=cv2.INTER_NEAREST)
    return np.asarray(tall, np.uint8)


def error_picture(error: NDArray[np.float64], full: float) -> Pixels:
    """An ``error_map`` in colours, from black over red to yellow at ``full`` grey levels and more."""
    levels = np.clip(error / full * 255, 0, 255).astype(np.uint8)
    return np.asarray(cv2.applyColorMap(levels, cv2.COLORMAP_INFERNO)[..., ::-1], np.uint8)


def gain_picture(without: NDArray[np.float64], error: NDArray[np.float64], full: float) -> Pixels:
    """Where the error is less (blue) or more (red) than without a bank; full colour from ``full`` grey levels on."""
    # Smoothed: single pixels differ by chance, and a surface that is all blue does not.
    gain = cv2.GaussianBlur(without - error, (0, 0), _SMOOTH)
    share = np.clip(gain / full, -1, 1)[..., None]
    ink = np.where(share > 0, np.array(_LESS), np.array(_MORE))
    return np.asarray(255 + np.abs(share) * (ink - 255), np.uint8)


def _as_jpeg(pixels: Pixels, quality: int) -> bytes:
    _, encoded = cv2.imencode(".jpg", cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, quality])
    return bytes(encoded)
