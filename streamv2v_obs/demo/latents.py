"""The pool as latents: encoded once per encoder, so that the UNet's training touches no pixel."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderTiny
from numpy.typing import NDArray
from rich.progress import track
from torch import Tensor

from streamv2v_obs.demo.pool import STYLE_NAMES, Labels, Shard, open_pool, target_noise
from streamv2v_obs.demo.train_autoencoder import encoder_key, fold, load_autoencoder, to_tensor
from streamv2v_obs.demo.training import half_precision
from streamv2v_obs.frames import Pixels

_EASY = frozenset({"photo", "sepia", "neon", "blueprint", "pencil"})
_WEIGHTS = np.array([1.0 if name in _EASY else 3.0 for name in STYLE_NAMES])
"""How often a style is drawn. At equal shares these five looked right after 5,800 steps, the others hardly began."""

Latents = NDArray[np.float16]
"""float16 [n, 16, 32, 32], scaled so that the channels deviate by 1 on average."""


@dataclass(frozen=True)
class LatentPool:
    """All pictures of a pool as scaled latents. Target i was made of source ``origin[i]``; ``scale`` is the factor.

    ``seeds[i]`` gives the noise that decided what target i left to chance.
    """

    sources: Latents
    targets: Latents
    labels: Labels
    seeds: NDArray[np.int64]
    origin: NDArray[np.int64]
    scale: float


def _encode(autoencoder: AutoencoderTiny, pictures: Pixels, device: torch.device) -> Latents:
    parts = []
    with torch.inference_mode(), half_precision(device):
        for start in range(0, len(pictures), 16):
            batch = to_tensor(np.array(pictures[start : start + 16]), device)
            parts.append(autoencoder.encoder(fold(batch)).float().cpu().numpy().astype(np.float16))
    encoded: Latents = np.concatenate(parts)
    return encoded


def encode_pool(pool: Path, run: Path, device: torch.device, *, shards: int | None = None) -> LatentPool:
    """Encode what is not yet encoded of the pool's first ``shards`` shards, and give all of them."""
    folder = run / f"latents-{encoder_key(run)}"
    folder.mkdir(parents=True, exist_ok=True)
    autoencoder = load_autoencoder(run).to(device, memory_format=torch.channels_last)
    chosen = open_pool(pool)[:shards]
    for shard in track(chosen, "encoding pictures"):
        coded = Shard(shard.number, folder)
        for what in ("sources", "targets"):
            if not coded.path(what).is_file():
                latents = _encode(autoencoder, shard.read(what), device)
                written = coded.path(f"{what}.partial")
                np.save(written, latents)
                written.replace(coded.path(what))
    sources = [np.load(Shard(s.number, folder).path("sources")) for s in chosen]
    targets = [np.load(Shard(s.number, folder).path("targets")) for s in chosen]
    scale_file = folder / "scale.json"
    if not scale_file.is_file():
        # Each channel's own: what lies constantly off zero tells nothing, and must not count as signal.
        channels = np.concatenate([sources[0], targets[0]]).astype(np.float32).var(axis=(0, 2, 3))
        deviation = float(np.sqrt(channels.mean()))
        scale_file.write_text(json.dumps(1 / deviation), encoding="utf-8")
    scale = float(json.loads(scale_file.read_text(encoding="utf-8")))
    counts = np.cumsum([0, *(len(part) for part in sources)])
    origin = [
        first + np.arange(len(made)) // (len(made) // len(given))
        for first, given, made in zip(counts, sources, targets, strict=False)
    ]
    factor = np.float16(scale)
    return LatentPool(
        sources=np.concatenate(sources) * factor,
        targets=np.concatenate(targets) * factor,
        labels=np.concatenate([shard.labels() for shard in chosen]),
        seeds=np.concatenate([shard.seeds() for shard in chosen]),
        origin=np.concatenate(origin),
        scale=scale,
    )


@dataclass(frozen=True)
class LatentBatch:
    """Sources, what was made of them and the noise that decided it, float32 [n, 16, h, w]; labels int16 [n, 3]."""

    source: Tensor
    target: Tensor
    noise: Tensor
    labels: Labels


def draw_batch(
    rng: np.random.Generator,
    pool: LatentPool,
    count: int,
    side: int,
    device: torch.device,
    often: Mapping[str, float],
) -> LatentBatch:
    """``count`` random pairs, the same square of ``side`` latents cut out of both.

    Squares begin at multiples of four: the UNet halves twice, so styles that follow a grid keep their phase. Styles
    that are hard to learn are drawn more often, and ``often`` says of some by how much more than that.
    """
    weights = (_WEIGHTS * [often.get(name, 1.0) for name in STYLE_NAMES])[pool.labels[:, 0]]
    chosen = rng.choice(len(pool.targets), count, p=weights / weights.sum())
    full = pool.targets.shape[-1]
    starts = rng.integers(0, (full - side) // 4 + 1, (count, 2)) * 4

    def cut(pictures: Iterable[NDArray[Any]]) -> Tensor:
        squares = [p[:, y : y + side, x : x + side] for p, (y, x) in zip(pictures, starts.tolist(), strict=True)]
        return torch.from_numpy(np.stack(squares).astype(np.float32)).to(device)

    return LatentBatch(
        source=cut(pool.sources[n] for n in pool.origin[chosen]),
        target=cut(pool.targets[n] for n in chosen),
        noise=cut(target_noise(int(seed)) for seed in pool.seeds[chosen]),
        labels=pool.labels[chosen],
    )
