"""Second stage: UNet and text encoder together, in latent space; with a critic towards the end."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import UNet2DConditionModel
from rich.progress import Progress
from torch import Tensor, nn
from transformers import CLIPTextModel, PreTrainedTokenizerFast

from streamv2v_obs.demo.architecture import LATENT_CHANNELS, WIDTHS, new_scheduler, new_text_encoder, new_unet
from streamv2v_obs.demo.discriminator import Critic, balance, critic_loss
from streamv2v_obs.demo.latents import LatentBatch, LatentPool, draw_batch, encode_pool
from streamv2v_obs.demo.muon import Muon
from streamv2v_obs.demo.pool import MOOD_NAMES, NONE, STYLE_NAMES, Labels
from streamv2v_obs.demo.prompts import write_prompt
from streamv2v_obs.demo.tokenizer import new_tokenizer
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
from streamv2v_obs.translator.noise import NoiseKind, blue

log = logging.getLogger(__name__)

CHECKPOINT = "unet.safetensors"


@dataclass(frozen=True)
class UNetPlan:
    """How to train. ``crop`` in latents, a multiple of 4; the last ``whole_share`` of the steps see whole pictures.

    The critic joins after ``critic_from`` of the steps (1: never), with ``critic_share`` of the gradient. A style in
    ``often`` is drawn so many times as often as it usually is.
    """

    steps: int = 40_000
    batch: int = 16
    crop: int = 16
    rate: float = 1.5e-3
    whole_share: float = 0.15
    critic_from: float = 0.6
    critic_share: float = 0.25
    widths: tuple[int, int, int] = WIDTHS
    seed: int = 0
    device: str = "auto"
    save_every: int = 250
    shards: int | None = None
    often: Mapping[str, float] = field(default_factory=dict)


@dataclass
class Students:
    """What is trained together; ``modules`` is all of it as one."""

    unet: UNet2DConditionModel
    text_encoder: CLIPTextModel
    tokenizer: PreTrainedTokenizerFast
    modules: nn.ModuleDict = field(init=False)

    def __post_init__(self) -> None:
        self.modules = nn.ModuleDict({"unet": self.unet, "text_encoder": self.text_encoder})

    def embed(self, prompts: list[str]) -> Tensor:
        """[n, 24, 128]."""
        device = next(self.unet.parameters()).device
        tokens = self.tokenizer(prompts, padding="max_length", truncation=True, return_tensors="pt")
        embeddings: Tensor = self.text_encoder(tokens.input_ids.to(device))[0]
        return embeddings


def new_students(widths: tuple[int, int, int] = WIDTHS) -> Students:
    """Untrained."""
    tokenizer = new_tokenizer()
    return Students(new_unet(widths), new_text_encoder(tokenizer), tokenizer)


def write_prompts(rng: np.random.Generator, labels: Labels) -> list[str]:
    """A prompt for each label."""
    return [
        write_prompt(
            rng,
            STYLE_NAMES[style],
            None if second == NONE else STYLE_NAMES[second],
            None if mood == NONE else MOOD_NAMES[mood],
        )
        for style, second, mood in labels.tolist()
    ]


def draw_timesteps(rng: np.random.Generator, count: int) -> np.ndarray[Any, np.dtype[np.int64]]:
    """LCM's timesteps 19, 39, .., 999; most of them where strengths 0.3 to 0.8 begin and go on."""
    usual = rng.integers(0, 40, count)
    chosen = np.where(rng.random(count) < 0.9, usual, rng.integers(0, 50, count))
    timesteps: np.ndarray[Any, np.dtype[np.int64]] = chosen * 20 + 19
    return timesteps


@dataclass(frozen=True)
class Task:
    """One step's work: noised latents in, the styled ones wanted."""

    noised: Tensor
    timesteps: Tensor
    prompts: list[str]
    batch: LatentBatch


def draw_task(
    rng: np.random.Generator, pool: LatentPool, acp: Tensor, plan: UNetPlan, step: int, noise_kind: NoiseKind = "white"
) -> Task:
    """What step ``step`` trains on; of (seed, step) alone."""
    whole = step >= (1 - plan.whole_share) * plan.steps
    full = pool.targets.shape[-1]
    count, side = (max(2, plan.batch * plan.crop**2 // full**2), full) if whole else (plan.batch, plan.crop)
    batch = draw_batch(rng, pool, count, side, acp.device, plan.often)
    timesteps = torch.from_numpy(draw_timesteps(rng, count)).to(acp.device)
    # Later steps start from what an earlier one made: a third of the inputs is styled already. What chance had to
    # decide is decided there, so their noise is any; the others' is the one that the teacher's strokes follow from.
    styled = torch.from_numpy(rng.random((count, 1, 1, 1)) < 1 / 3).to(acp.device)
    clean = torch.where(styled, batch.target, batch.source)
    other = torch.from_numpy(rng.standard_normal(clean.shape, np.float32)).to(acp.device)
    noise = torch.where(styled, other, batch.noise)
    if noise_kind == "blue":
        noise = blue(noise)
    share = acp[timesteps].reshape(-1, 1, 1, 1)
    noised = share.sqrt() * clean + (1 - share).sqrt() * noise
    return Task(noised, timesteps, write_prompts(rng, batch.labels), batch)


def train_unet(pool_folder: Path, run: Path, plan: UNetPlan) -> Students:
    """Train, or go on with, ``run``/unet.safetensors; gives the averaged weights, float32, in eval mode."""
    device, path = choose_device(plan.device), run / CHECKPOINT
    torch.manual_seed(plan.seed)
    pool = encode_pool(pool_folder, run, device, shards=plan.shards)
    students = new_students(plan.widths)
    modules = students.modules.to(device)
    students.unet.to(memory_format=torch.channels_last)
    critic = Critic(LATENT_CHANNELS, len(STYLE_NAMES)).to(device)
    optimizer = Muon(modules.parameters(), plan.rate, weight_decay=0.01)
    critic_optimizer = torch.optim.AdamW(critic.parameters(), plan.rate / 4, betas=(0.5, 0.99), weight_decay=0.01)
    average = Average(modules, 0.999)
    done = checkpoint_step(path)
    if path.is_file():
        modules.load_state_dict(load_checkpoint(path, "weights"))
        average.weights = {k: v.to(device) for k, v in load_checkpoint(path, "average").items()}
        resume(path, optimizer, "optimizer")
        if learned := load_checkpoint(path, "critic"):
            critic.load_state_dict(learned)
            resume(path, critic_optimizer, "critic_optimizer")
    acp = new_scheduler().alphas_cumprod.float().to(device)
    shown = 0.0
    with Progress() as bars:
        bar = bars.add_task("unet", total=plan.steps, completed=done)
        for step in range(done, plan.steps):
            task = draw_task(np.random.default_rng((plan.seed, step)), pool, acp, plan, step)
            rate = learning_rate(step, plan.steps, plan.rate)
            optimizer.param_groups[0]["lr"] = rate
            critic_optimizer.param_groups[0]["lr"] = rate / 4
            judged = step >= plan.critic_from * plan.steps
            with half_precision(device):
                made = students.unet(task.noised, task.timesteps, students.embed(task.prompts), return_dict=False)[0]
            difference = made.float() - task.batch.target
            loss = difference.abs().mean() + 0.5 * difference.square().mean()
            shown += 0.02 * (loss.item() - shown) if shown else loss.item()
            total = loss
            if judged:
                total = loss + _adversarial(critic, critic_optimizer, students.unet, task, made, loss, plan)
            optimizer.zero_grad(set_to_none=True)
            total.backward()
            nn.utils.clip_grad_norm_(modules.parameters(), 1.0)
            optimizer.step()
            average.update(modules, step)
            if step % 50 == 0:
                bars.update(bar, description=f"unet {shown:.4f}", completed=step)
                log.info("unet step %d: loss %.4f%s", step, shown, " with the critic" if judged else "")
            if (step + 1) % plan.save_every == 0 or step + 1 == plan.steps:
                save_checkpoint(
                    path,
                    step + 1,
                    weights=modules.state_dict(),
                    average=average.weights,
                    critic=critic.state_dict(),
                    optimizer=optimizer.state_dict(),
                    critic_optimizer=critic_optimizer.state_dict(),
                )
    modules.load_state_dict(average.weights)
    modules.float().eval()
    return students


def _adversarial(
    critic: Critic,
    optimizer: torch.optim.Optimizer,
    unet: UNet2DConditionModel,
    task: Task,
    made: Tensor,
    loss: Tensor,
    plan: UNetPlan,
) -> Tensor:
    """Teach the critic on this batch, then give what it says of ``made``, weighed against the other loss."""
    source, target = task.batch.source, task.batch.target
    styles = torch.from_numpy(task.batch.labels[:, 0].astype(np.int64)).to(source.device)
    with half_precision(source.device):
        verdicts = critic(source, target, styles), critic(source, made.detach().float(), styles)
    optimizer.zero_grad(set_to_none=True)
    torch.autograd.backward(critic_loss(verdicts[0].float(), verdicts[1].float()))
    optimizer.step()
    critic.requires_grad_(False)
    with half_precision(source.device):
        missed = -critic(source, made.float(), styles).float().mean()
    critic.requires_grad_(True)
    weighed: Tensor = missed * balance(loss, missed, unet.conv_out.weight, plan.critic_share)
    return weighed


def load_students(run: Path, widths: tuple[int, int, int] = WIDTHS) -> Students:
    """The averaged weights of a run, float32, in eval mode, without gradients."""
    students = new_students(widths)
    students.modules.load_state_dict(load_checkpoint(run / CHECKPOINT, "average"))
    students.modules.eval().requires_grad_(False)
    return students
