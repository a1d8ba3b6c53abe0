"""First stage: the autoencoder. It bounds what everything after it can show."""

from __future__ import annotations

import hashlib
import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderTiny
from rich.progress import Progress
from torch import Tensor
from torch.nn import functional

from streamv2v_obs.demo.architecture import FOLD, new_autoencoder
from streamv2v_obs.demo.muon import Muon
from streamv2v_obs.demo.pool import open_pool, random_crops
from streamv2v_obs.demo.training import (
    Average,
    checkpoint_step,
    choose_device,
    half_precision,
    learning_rate,
    load_checkpoint,
    resume,
    save_checkpoint,
)
from streamv2v_obs.frames import Pixels

log = logging.getLogger(__name__)

CHECKPOINT = "autoencoder.safetensors"
LATENT_NOISE = 0.04
"""Deviation of the noise on the latents while training, so that small errors of the UNet do no harm."""


@dataclass(frozen=True)
class AutoencoderPlan:
    """How to train. ``crop`` in pixels, a multiple of 8.

    ``decoder_only`` keeps the averaged encoder as it is, so that a UNet trained on its latents stays right.
    """

    steps: int = 20_000
    batch: int = 16
    crop: int = 96
    rate: float = 1.5e-3
    width: int = 64
    seed: int = 0
    device: str = "auto"
    save_every: int = 250
    decoder_only: bool = False


def to_tensor(pixels: Pixels, device: torch.device) -> Tensor:
    """uint8 [n, h, w, 3] -> float32 [n, 3, h, w] in -1..1, channels_last."""
    return torch.from_numpy(pixels).to(device).permute(0, 3, 1, 2).float().div(127.5).sub(1)


def fold(pictures: Tensor) -> Tensor:
    """[n, 3, h, w] -> [n, 12, h/2, w/2], as the autoencoder takes it; channels_last."""
    return functional.pixel_unshuffle(pictures, FOLD).contiguous(memory_format=torch.channels_last)


def picture_loss(made: Tensor, wanted: Tensor) -> Tensor:
    """L1 + 2 MSE + L1 of the differences between neighbours, which is what an eye takes for crispness."""
    difference = made - wanted
    across, down = difference.diff(dim=3).abs().mean(), difference.diff(dim=2).abs().mean()
    return difference.abs().mean() + 2 * difference.square().mean() + 0.5 * (across + down)


def train_autoencoder(pool: Path, run: Path, plan: AutoencoderPlan) -> AutoencoderTiny:
    """Train, or go on with, ``run``/autoencoder.safetensors; gives the averaged weights, float32, in eval mode.

    Step n draws its crops from (seed, n) alone, so that an interrupted run sees what an uninterrupted one sees.
    """
    device, path = choose_device(plan.device), run / CHECKPOINT
    torch.manual_seed(plan.seed)
    autoencoder = new_autoencoder(plan.width).to(device, memory_format=torch.channels_last)
    optimizer = Muon(autoencoder.parameters(), plan.rate)
    done = checkpoint_step(path)
    average = Average(autoencoder, 0.998)
    if path.is_file():
        autoencoder.load_state_dict(load_checkpoint(path, "weights"))
        average.weights = {k: v.to(device) for k, v in load_checkpoint(path, "average").items()}
        resume(path, optimizer, "optimizer")
    if plan.decoder_only:
        autoencoder.load_state_dict(
            autoencoder.state_dict() | {k: v for k, v in average.weights.items() if k.startswith("encoder.")}
        )
        autoencoder.encoder.requires_grad_(False)
    with Progress() as bars:
        bar = bars.add_task("autoencoder", total=plan.steps, completed=done)
        for step in range(done, plan.steps):
            # Opened anew at times: the pool may still be growing.
            if step == done or step % 100 == 0:
                shards = open_pool(pool)
            rng = np.random.default_rng((plan.seed, step))
            wanted = to_tensor(random_crops(rng, shards, plan.batch, plan.crop), device)
            noise = torch.Generator(device).manual_seed(plan.seed * 1_000_003 + step)
            with half_precision(device):
                latents = autoencoder.encoder(fold(wanted))
                shaken = latents + LATENT_NOISE * torch.randn(
                    latents.shape, generator=noise, device=device, dtype=latents.dtype
                )
                made = functional.pixel_shuffle(autoencoder.decoder(shaken), FOLD)
            # The last term keeps the latents near a deviation of 1, far from the decoder's clamp at 3.
            loss = picture_loss(made.float(), wanted) + 0.001 * latents.float().square().mean()
            optimizer.param_groups[0]["lr"] = learning_rate(step, plan.steps, plan.rate)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(autoencoder.parameters(), 1.0)
            optimizer.step()
            average.update(autoencoder, step)
            if step % 50 == 0:
                decibels = -10 * torch.log10(functional.mse_loss(made.float().clamp(-1, 1), wanted) / 4)
                bars.update(bar, description=f"autoencoder {decibels:.1f} dB", completed=step)
                log.info("autoencoder step %d: loss %.4f, %.2f dB", step, loss.item(), decibels.item())
            if (step + 1) % plan.save_every == 0 or step + 1 == plan.steps:
                save_checkpoint(
                    path,
                    step + 1,
                    weights=autoencoder.state_dict(),
                    average=average.weights,
                    optimizer=optimizer.state_dict(),
                )
    autoencoder.load_state_dict(average.weights)
    return autoencoder.float().eval()


def encoder_key(run: Path) -> str:
    """Eight letters that change with the averaged encoder, and with nothing else."""
    weights = load_checkpoint(run / CHECKPOINT, "average")
    digest = hashlib.sha256()
    for name in sorted(weights):
        if name.startswith("encoder."):
            digest.update(weights[name].numpy().tobytes())
    return digest.hexdigest()[:8]


def load_autoencoder(run: Path, width: int = 64) -> AutoencoderTiny:
    """The averaged weights of a run, float32, in eval mode, without gradients."""
    autoencoder = new_autoencoder(width)
    autoencoder.load_state_dict(load_checkpoint(run / CHECKPOINT, "average"))
    return autoencoder.eval().requires_grad_(False)
