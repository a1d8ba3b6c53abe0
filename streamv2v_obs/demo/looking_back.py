"""What a UNet that learns to look back is shown, and what it is to answer: as it did before, along the motion."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from diffusers import AutoencoderTiny, UNet2DConditionModel
from torch import Tensor
from torch.nn import functional

from streamv2v_obs.demo.architecture import FOLD, new_scheduler
from streamv2v_obs.demo.moving import MOMENTS, SIDE, MovingShard
from streamv2v_obs.demo.train_autoencoder import fold, to_tensor


@dataclass(frozen=True)
class Scenes:
    """A step's scenes: ``pictures`` [n, 4, 3, h, w] in -1..1; of the later three moments ``places`` [n, 3, h, w, 2],
    where in the first picture a pixel lay, as ``grid_sample`` counts, and ``seen`` [n, 3, 1, h, w], 0 to 1.
    """

    pictures: Tensor
    places: Tensor
    seen: Tensor


def draw_scenes(rng: np.random.Generator, shards: Sequence[MovingShard], count: int, device: torch.device) -> Scenes:
    """``count`` random scenes of one shard."""
    shard = shards[int(rng.integers(len(shards)))]
    pictures, flow, seen = (shard.read(what) for what in ("pictures", "flow", "seen"))
    chosen = np.sort(rng.choice(len(pictures), count, replace=False))
    tensor = to_tensor(np.array(pictures[chosen], np.uint8).reshape(-1, SIDE, SIDE, 3), device)
    y, x = torch.meshgrid(*[torch.arange(SIDE, dtype=torch.float32, device=device)] * 2, indexing="ij")
    gone = torch.from_numpy(np.array(flow[chosen], np.float32)).to(device)
    visible = torch.from_numpy(np.array(seen[chosen], np.float32)).to(device).flatten(0, 1).unsqueeze(1)
    # Softly from one to the other, or the picture gets edges that are in neither.
    visible = functional.avg_pool2d(visible, 9, 1, 4, count_include_pad=False).mul(2).sub(1).clamp(min=0)
    return Scenes(
        _parted(tensor, count), (torch.stack([x, y], -1) + gone + 0.5) * (2 / SIDE) - 1, _parted(visible, count)
    )


def _parted(pictures: Tensor, scenes: int) -> Tensor:
    """[scenes * moments, ..] -> [scenes, moments, ..]."""
    return pictures.reshape(scenes, -1, *pictures.shape[1:])


class LookingBack:
    """Noised latents, and the answers wanted, by a UNet ``before`` and the autoencoder of its latents."""

    def __init__(self, before: UNet2DConditionModel, autoencoder: AutoencoderTiny, scale: float) -> None:
        self._before, self._coder, self._scale = before, autoencoder, scale
        self._acp = new_scheduler().alphas_cumprod.float().to(before.device)

    def encode(self, pictures: Tensor) -> Tensor:
        """[n, m, 3, h, w] in -1..1 -> scaled latents [n, m, C, h/8, w/8]."""
        latents: Tensor = self._coder.encoder(fold(pictures.flatten(0, 1))).float() * self._scale
        return _parted(latents, len(pictures))

    def _decode(self, latents: Tensor) -> Tensor:
        made = functional.pixel_shuffle(self._coder.decoder(latents.flatten(0, 1) / self._scale), FOLD)
        return _parted(made.float().clamp(-1, 1), len(latents))

    def carried(self, answers: Tensor, scenes: Scenes) -> Tensor:
        """``answers`` [n, 4, C, h, w] with what was seen at the first moment as it looked there.

        Moved as pictures, for a latent is eight pixels wide; what the autoencoder changes on the way is taken out.
        """
        made = self._decode(answers)
        first = made[:, :1].expand(-1, MOMENTS - 1, -1, -1, -1).flatten(0, 1)
        moved = functional.grid_sample(
            first, scenes.places.flatten(0, 1), mode="bicubic", padding_mode="border", align_corners=False
        )
        later = made[:, 1:]
        wanted = later + scenes.seen * (_parted(moved, len(answers)) - later)
        change = self.encode(wanted) - self.encode(later)
        return torch.cat([answers[:, :1], answers[:, 1:] + change], 1)

    def answers(self, noised: Tensor, timesteps: Tensor, prompts: Tensor) -> Tensor:
        """Of the UNet from before, each moment by itself, without a bank: all [n, 4, ..]."""
        made: Tensor = self._before(
            noised.flatten(0, 1).contiguous(memory_format=torch.channels_last),
            timesteps.repeat_interleave(MOMENTS),
            prompts.repeat_interleave(MOMENTS, 0),
            return_dict=False,
        )[0]
        return _parted(made.float(), len(noised))

    def noised(self, clean: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """``clean`` [n, 4, C, h, w] with the same noise [n, 1, C, h, w] at all moments."""
        share: Tensor = self._acp[timesteps].reshape(-1, 1, 1, 1, 1)
        return share.sqrt() * clean + (1 - share).sqrt() * noise
