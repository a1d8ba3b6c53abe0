"""Pool of moving scenes: pictures of a few moments each, and where their pixels lay at the first of them."""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from rich.progress import track

from streamv2v_obs.demo.clips import KINDS, draw_clip
from streamv2v_obs.errors import ConfigError

SIDE = 192
MOMENTS = 4
_GAPS, _GAP_SHARES = (1, 2, 4), (0.2, 0.2, 0.6)
"""Frames from one update of a bank to the next."""
_NOISY = 0.5
"""Share of the clips with sensor noise, of up to three grey levels."""


@dataclass(frozen=True)
class MovingShard:
    """One part of a pool: ``pictures`` uint8 [n, 4, 192, 192, 3]; of the later three moments ``flow`` float16
    [n, 3, 192, 192, 2] (x, y), from each pixel to its place at the first one, and ``seen`` bool [n, 3, 192, 192],
    whether it could be seen there.
    """

    number: int
    folder: Path

    def path(self, what: str) -> Path:
        """Where ``what`` (pictures, flow, seen) of this shard lies."""
        return self.folder / f"{self.number:05d}.{what}.npy"

    def read(self, what: str) -> NDArray[np.generic]:
        """Memory-mapped."""
        found: NDArray[np.generic] = np.load(self.path(what), mmap_mode="r")
        return found


def draw_moving(shard: MovingShard, seed: int, clips: int) -> None:
    """Draw and write one shard; the same numbers give the same files. One thread."""
    cv2.setNumThreads(1)
    rng = np.random.default_rng((seed, 1, shard.number))
    pictures = np.empty((clips, MOMENTS, SIDE, SIDE, 3), np.uint8)
    flow = np.empty((clips, MOMENTS - 1, SIDE, SIDE, 2), np.float16)
    seen = np.empty((clips, MOMENTS - 1, SIDE, SIDE), bool)
    for number in range(clips):
        gap = int(rng.choice(_GAPS, p=_GAP_SHARES))
        # The bank has the first three; the last is up to a gap later, as a frame between two updates is.
        moments = [0, gap, 2 * gap, 2 * gap + int(rng.integers(1, gap + 1))]
        begin = int(rng.integers(0, 20 - moments[-1]))
        clip = draw_clip(
            rng,
            str(rng.choice(KINDS)),
            frames=20,
            side=SIDE,
            moments=[begin + moment for moment in moments],
            again=[(later, 0) for later in range(1, MOMENTS)],
        )
        shaken = rng.uniform(0, 3) if rng.random() < _NOISY else 0.0
        noise = shaken * rng.standard_normal(pictures[number].shape)
        pictures[number] = np.clip(np.stack(clip.frames) + noise + 0.5, 0, 255)
        for later in range(1, MOMENTS):
            flow[number, later - 1], seen[number, later - 1] = clip.again[later, 0]
    for what, array in (("pictures", pictures), ("flow", flow), ("seen", seen)):
        written = shard.path(f"{what}.partial")
        np.save(written, array)
        written.replace(shard.path(what))


def draw_moving_pool(folder: Path, *, shards: int, clips: int = 128, seed: int = 0, workers: int = 1) -> None:
    """Draw the shards that ``folder`` lacks, ``workers`` at a time; interrupted, it goes on where it was."""
    folder.mkdir(parents=True, exist_ok=True)
    # ``seen`` is written last.
    missing = [s for s in (MovingShard(n, folder) for n in range(shards)) if not s.path("seen").is_file()]
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        jobs = [pool.submit(draw_moving, shard, seed, clips) for shard in missing]
        for job in track(as_completed(jobs), "drawing clips", len(jobs)):
            job.result()


def open_moving(folder: Path) -> list[MovingShard]:
    """The complete shards of a pool. Raises ConfigError where there is none."""
    found = [MovingShard(int(path.name.split(".")[0]), folder) for path in sorted(folder.glob("*.seen.npy"))]
    if not found:
        raise ConfigError(f"{folder}: holds no moving scenes; run: python -m streamv2v_obs.demo moving {folder}")
    return found
