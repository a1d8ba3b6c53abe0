"""Pool of scenes in motion: pictures of a few moments each."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from rich.progress import track

from streamv2v_obs.demo.clips import KINDS, draw_clip
from streamv2v_obs.errors import ConfigError
from streamv2v_obs.processes import in_processes

SIDE = 192
MOMENTS = 4
_GAPS, _GAP_SHARES = (1, 2, 4), (0.2, 0.2, 0.6)
"""Frames from one update of a bank to the next."""
_NOISY = 0.5
"""Share of the scenes with sensor noise, of up to three grey levels."""


def _shard(folder: Path, number: int) -> Path:
    return folder / f"{number:05d}.npy"


def draw_moving(path: Path, seed: tuple[int, ...], scenes: int) -> None:
    """Draw and write one shard; the same numbers give the same file. One thread."""
    cv2.setNumThreads(1)
    rng = np.random.default_rng(seed)
    pictures = np.empty((scenes, MOMENTS, SIDE, SIDE, 3), np.uint8)
    for number in range(scenes):
        gap = int(rng.choice(_GAPS, p=_GAP_SHARES))
        # The bank has the first three; the last is up to a gap later, as a frame between two updates is.
        moments = [0, gap, 2 * gap, 2 * gap + int(rng.integers(1, gap + 1))]
        begin = int(rng.integers(0, 20 - moments[-1]))
        kind = str(rng.choice(KINDS))
        clip = draw_clip(rng, kind, frames=20, side=SIDE, moments=[begin + moment for moment in moments])
        shaken = rng.uniform(0, 3) if rng.random() < _NOISY else 0.0
        noise = shaken * rng.standard_normal(pictures[number].shape)
        pictures[number] = np.clip(np.stack(clip.frames) + noise + 0.5, 0, 255)
    written = path.with_suffix(".partial.npy")
    np.save(written, pictures)
    written.replace(path)


def draw_moving_pool(folder: Path, *, shards: int, scenes: int = 128, seed: int = 0, workers: int = 1) -> None:
    """Draw the shards that ``folder`` lacks, ``workers`` at a time; interrupted, it goes on where it was."""
    folder.mkdir(parents=True, exist_ok=True)
    missing = [number for number in range(shards) if not _shard(folder, number).is_file()]
    tasks = [(_shard(folder, number), (seed, 1, number), scenes) for number in missing]
    with in_processes(draw_moving, tasks, workers) as done:
        for _ in track(done, "drawing scenes", len(tasks)):
            pass


def open_moving(folder: Path) -> list[NDArray[np.uint8]]:
    """The complete shards of a pool, memory-mapped, uint8 [n, 4, 192, 192, 3]. Raises ConfigError where none is."""
    found = sorted(path for path in folder.glob("*.npy") if ".partial" not in path.name)
    if not found:
        raise ConfigError(f"{folder}: holds no moving scenes; run: python -m streamv2v_obs.demo moving {folder}")
    return [np.load(path, mmap_mode="r") for path in found]
