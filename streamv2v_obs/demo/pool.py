"""Pictures and what the teachers made of them, drawn beforehand into .npy files, so that training never waits."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from rich.progress import track

from streamv2v_obs.demo.chance import Chance, latent_noise
from streamv2v_obs.demo.moods import MOODS
from streamv2v_obs.demo.scenes import draw_scene
from streamv2v_obs.demo.strokes import to_picture, to_pixels
from streamv2v_obs.demo.teachers import STYLES, teach
from streamv2v_obs.errors import ConfigError
from streamv2v_obs.frames import Pixels
from streamv2v_obs.processes import in_processes

log = logging.getLogger(__name__)

SIDE = 256
STYLE_NAMES = tuple(STYLES)
MOOD_NAMES = tuple(MOODS)
NONE = -1
"""In a label: no second style, no mood."""

BLENDED, IN_A_MOOD = 0.07, 0.25
"""Shares of the pictures."""

Labels = NDArray[np.int16]
"""int16 [pictures, 3]: style, second style or NONE, mood or NONE."""


@dataclass(frozen=True)
class Shard:
    """One part of a pool. Target ``i`` was made of source ``i // (targets / sources)``; memory-mapped, uint8."""

    number: int
    folder: Path

    def path(self, what: str) -> Path:
        """Where ``what`` (sources, targets, labels, seeds) of this shard lies."""
        return self.folder / f"{self.number:05d}.{what}.npy"

    def read(self, what: str) -> NDArray[np.uint8]:
        """uint8 [n, 256, 256, 3]."""
        array: NDArray[np.uint8] = np.load(self.path(what), mmap_mode="r")
        return array

    def seeds(self) -> NDArray[np.int64]:
        """Of each target's noise."""
        numbers: NDArray[np.int64] = np.load(self.path("seeds"))
        return numbers

    def labels(self) -> Labels:
        """One row for each target."""
        rows: Labels = np.load(self.path("labels"))
        return rows


def make_target(chance: Chance, source: Pixels, label: NDArray[np.int16]) -> Pixels:
    """What the teachers make of ``source`` for a label: a style or two at equal shares, then a mood."""
    style, second, mood = (int(number) for number in label)
    picture = to_picture(teach(chance, STYLE_NAMES[style], source))
    if second != NONE:
        picture = (picture + to_picture(teach(chance, STYLE_NAMES[second], source))) / 2
    if mood != NONE:
        picture = MOODS[MOOD_NAMES[mood]](picture)
    return to_pixels(picture)


def target_noise(seed: int) -> NDArray[np.float32]:
    """The latent noise of the target with this number in its shard's ``seeds``: float32 [16, 32, 32]."""
    return latent_noise(np.random.default_rng(seed), SIDE, SIDE)


def draw_label(rng: np.random.Generator, style: int) -> NDArray[np.int16]:
    """A label of this style, at times blended with another one or in a mood."""
    second = int(rng.integers(len(STYLE_NAMES))) if rng.random() < BLENDED else NONE
    mood = int(rng.integers(len(MOOD_NAMES))) if rng.random() < IN_A_MOOD else NONE
    return np.array([style, NONE if second == style else second, mood], np.int16)


def draw_shard(shard: Shard, seed: int, sources: int, targets_each: int) -> None:
    """Draw and write one shard; the same numbers give the same files. One thread."""
    cv2.setNumThreads(1)
    rng = np.random.default_rng((seed, shard.number))
    pictures = np.empty((sources, SIDE, SIDE, 3), np.uint8)
    targets = np.empty((sources * targets_each, SIDE, SIDE, 3), np.uint8)
    labels = np.empty((sources * targets_each, 3), np.int16)
    seeds = rng.integers(2**62, size=sources * targets_each)
    for i in range(sources):
        pictures[i] = draw_scene(rng, SIDE, SIDE)
        for k, style in enumerate(rng.permutation(len(STYLE_NAMES))[:targets_each]):
            at = i * targets_each + k
            labels[at] = draw_label(rng, int(style))
            targets[at] = make_target(Chance(target_noise(int(seeds[at]))), pictures[i], labels[at])
    np.save(shard.path("sources"), pictures)
    np.save(shard.path("seeds"), seeds)
    np.save(shard.path("targets"), targets)
    # Last: a shard counts from here on, so that one half written by a killed run is drawn again.
    np.save(shard.path("labels"), labels)


def draw_pool(
    folder: Path, *, shards: int, sources: int = 64, targets_each: int = 6, seed: int = 0, workers: int = 1
) -> None:
    """Draw the shards that ``folder`` lacks, ``workers`` at a time; interrupted, it goes on where it was."""
    folder.mkdir(parents=True, exist_ok=True)
    missing = [s for s in (Shard(number, folder) for number in range(shards)) if not s.path("labels").is_file()]
    tasks = [(shard, seed, sources, targets_each) for shard in missing]
    with in_processes(draw_shard, tasks, workers) as done:
        for _ in track(done, "drawing pictures", len(tasks)):
            pass


def open_pool(folder: Path) -> list[Shard]:
    """The complete shards of a pool. Raises ConfigError where there is none."""
    found = [Shard(int(path.name.split(".")[0]), folder) for path in sorted(folder.glob("*.labels.npy"))]
    if not found:
        raise ConfigError(f"{folder} holds no pictures; run: python -m streamv2v_obs.demo pool {folder}")
    return found


def random_crops(rng: np.random.Generator, shards: list[Shard], count: int, side: int) -> Pixels:
    """Crops of sources (a third) and targets, some mirrored, uint8 [count, side, side, 3]."""
    crops = np.empty((count, side, side, 3), np.uint8)
    chosen = rng.integers(len(shards), size=min(2, len(shards)))
    opened = [(shards[n].read("sources"), shards[n].read("targets")) for n in chosen]
    for i in range(count):
        sources, targets = opened[int(rng.integers(len(opened)))]
        array = sources if rng.random() < 1 / 3 else targets
        picture = array[int(rng.integers(len(array)))]
        y, x = rng.integers(0, SIDE - side + 1, 2)
        crop = picture[y : y + side, x : x + side]
        crops[i] = crop[:, ::-1] if rng.random() < 0.5 else crop
    return crops


def held_out(count: int, seed: int = 10**9) -> Iterator[Pixels]:
    """Drawn scenes of seeds that no pool uses; uint8 [256, 256, 3]."""
    for number in range(count):
        yield draw_scene(np.random.default_rng((seed, number)), SIDE, SIDE)
