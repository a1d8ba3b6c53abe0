"""Fourth stage: self-attention learns to leave another scene's bank alone, and else stays what it was."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from diffusers import AutoencoderTiny, UNet2DConditionModel
from numpy.typing import NDArray
from rich.progress import Progress
from torch import Tensor

from streamv2v_obs.demo.architecture import FACTOR, INITIAL_NOISE, LATENT_CHANNELS, new_scheduler
from streamv2v_obs.demo.correcting import Correction, size
from streamv2v_obs.demo.export import read_scale
from streamv2v_obs.demo.moving import MOMENTS, SIDE, open_moving
from streamv2v_obs.demo.pool import STYLE_NAMES, Labels, draw_label
from streamv2v_obs.demo.train_autoencoder import fold, load_autoencoder, to_tensor
from streamv2v_obs.demo.train_unet import Students, write_prompts
from streamv2v_obs.demo.training import choose_device, half_precision
from streamv2v_obs.demo.whose_bank import NotingAttention, judge
from streamv2v_obs.settings import FusionSettings
from streamv2v_obs.translator.attention import ExtendedAttention, find_layers
from streamv2v_obs.translator.noise import blue

log = logging.getLogger(__name__)

_LATER_ROW = 0.4
"""Share of the steps in the stream batch's later rows, which begin with what an earlier row made."""
_USUAL = 30
"""The default strength's first timestep, in LCM's count of fifty."""
_MOVED, _STRAYED = 0.01, 0.02
"""What attention's distance from what it was counts for, and its share that another scene's bank gets."""
_ENDS = 4.0
"""How much more the latter counts in the first layer and the last, which learn it slowest: the one sees little of its
scene, the other comes after all that tells scenes apart and is half made of what does not."""
_QUERIES = 36
"""Tokens of each picture that are asked about."""
_FASTER = {".attn1.": 4.0}
"""Self-attention is to learn; all else to stay as it was."""
_OFTEN = {"oil": 2.0, "watercolor": 2.0, "glass": 2.0, "pixel": 2.0, "anime": 1.5, "comic": 1.5, "photo": 1.5}
"""Styles drawn so many times as often as the others: those that self-attention decides, and those that suffer."""


@dataclass(frozen=True)
class MemoryPlan:
    """How to train: ``batch`` scenes a step, two moments of each."""

    steps: int = 1300
    batch: int = 6
    rate: float = 6e-4
    seed: int = 0
    device: str = "auto"
    save_every: int = 250


class Moments(NamedTuple):
    """A step's pictures, noised [2n, C, h, w], all by one prompt, noise and timestep: two moments of each scene."""

    noised: Tensor
    timesteps: Tensor
    prompts: Tensor


def _timesteps(rng: np.random.Generator) -> tuple[int, int]:
    """Of an earlier row and a later one: strengths 0.3 to 0.8, half of them 0.4; 2 to 4 steps."""
    first = _USUAL if rng.random() < 0.5 else int(rng.integers(10, 36))
    later = first + max(1, (50 - first) // int(rng.integers(2, 5)))
    return 999 - 20 * first, 999 - 20 * later


def _noise(rng: np.random.Generator, device: torch.device) -> Tensor:
    noise = torch.from_numpy(rng.standard_normal((1, LATENT_CHANNELS, SIDE // FACTOR, SIDE // FACTOR), np.float32))
    return (blue(noise) if INITIAL_NOISE == "blue" else noise).to(device)


def _label(rng: np.random.Generator) -> Labels:
    weights = np.array([_OFTEN.get(name, 1.0) for name in STYLE_NAMES])
    return draw_label(rng, int(rng.choice(len(STYLE_NAMES), p=weights / weights.sum())))[None]


class Teacher:
    """The UNet from before, and the autoencoder of its latents."""

    def __init__(self, unet: UNet2DConditionModel, autoencoder: AutoencoderTiny, scale: float) -> None:
        self._unet, self._coder, self._scale = unet, autoencoder, scale
        self._acp = new_scheduler().alphas_cumprod.float().to(unet.device)

    def answer(self, task: Moments) -> Tensor:
        """Without a bank, [2n, C, h, w]."""
        return run(self._unet, task)

    @torch.no_grad()
    def draw(
        self, rng: np.random.Generator, shards: Sequence[NDArray[np.uint8]], students: Students, count: int
    ) -> Moments:
        """``count`` scenes of one shard, as one row of the stream batch sees them."""
        device = students.unet.device
        shard = shards[int(rng.integers(len(shards)))]
        chosen = np.sort(rng.choice(len(shard), count, replace=False))
        pictures = np.array(shard[chosen][:, [0, int(rng.integers(1, MOMENTS))]]).reshape(-1, SIDE, SIDE, 3)
        latents = self._coder.encoder(fold(to_tensor(pictures, device))).float() * self._scale
        prompt = students.embed(write_prompts(rng, _label(rng))).expand(len(latents), -1, -1)
        first, later = _timesteps(rng)
        task = self._noised(rng, latents, first, prompt)
        return self._noised(rng, self.answer(task), later, prompt) if rng.random() < _LATER_ROW else task

    def _noised(self, rng: np.random.Generator, clean: Tensor, timestep: int, prompts: Tensor) -> Moments:
        share = self._acp[timestep]
        noised = share.sqrt() * clean + (1 - share).sqrt() * _noise(rng, clean.device)
        return Moments(noised, torch.full((len(clean),), timestep, device=clean.device), prompts)


def run(unet: UNet2DConditionModel, task: Moments) -> Tensor:
    """What ``unet`` answers, [2n, C, h, w]."""
    noised = task.noised.contiguous(memory_format=torch.channels_last)
    answer: Tensor = unet(noised, task.timesteps, task.prompts, return_dict=False)[0]
    return answer.float()


def train_memory(pool: Path, folder: Path, plan: MemoryPlan) -> Students:
    """Correct ``folder``/unet.safetensors, which another stage or ``adopt`` wrote; ``pool`` is ``moving``'s.

    Gives the averaged weights, in eval mode. Answers, and attention to what is of the scene, are held to what they
    were before. Raises ConfigError where there is no UNet to correct.
    """
    device = choose_device(plan.device)
    torch.manual_seed(plan.seed)
    shards = open_moving(pool)
    correction = Correction.begin("memory", folder, device, plan.rate, _FASTER)
    students = correction.students
    coder = load_autoencoder(folder).to(device, memory_format=torch.channels_last)
    teacher = Teacher(correction.before, coder, read_scale(folder))
    layers = find_layers(students.unet, (LATENT_CHANNELS, SIDE // FACTOR, SIDE // FACTOR), FusionSettings())
    before, now = NotingAttention(), NotingAttention()
    put_in = [
        ExtendedAttention(unet, layers, None, FusionSettings(), noting)
        for unet, noting in ((correction.before, before), (students.unet, now))
    ]
    for attention in put_in:
        attention.install()
    weights = [_ENDS, *[1.0] * (len(layers) - 2), _ENDS]
    shown: dict[str, float] = {}
    with Progress() as bars:
        bar = bars.add_task("memory", total=plan.steps, completed=correction.done)
        for step in range(correction.done, plan.steps):
            rng = np.random.default_rng((plan.seed, step))
            with half_precision(device):
                task = teacher.draw(rng, shards, students, plan.batch)
                before.asked.clear()
                now.asked.clear()
                with torch.no_grad():
                    wanted = teacher.answer(task)
                changed = size(run(students.unet, task) - wanted)
                verdicts = [
                    judge(then, asked, torch.from_numpy(rng.permutation(asked[0].shape[1])[:_QUERIES]).to(device))
                    for then, asked in zip(before.asked, now.asked, strict=True)
                ]
            moved = torch.stack([verdict.moved for verdict in verdicts]).mean()
            strayed = torch.stack(
                [verdict.strayed * weigh for verdict, weigh in zip(verdicts, weights, strict=True)]
            ).mean()
            correction.learn(changed + _MOVED * moved + _STRAYED * strayed, step, plan.steps, plan.rate)
            told = {"changed": changed.item(), "moved": moved.item()}
            told |= {f"foreign {number}": verdict.foreign for number, verdict in enumerate(verdicts)}
            told |= {f"own {number}": verdict.own for number, verdict in enumerate(verdicts)}
            for name, value in told.items():
                shown[name] = shown.get(name, value) + 0.05 * (value - shown.get(name, value))
            if step % 50 == 0:
                said = ", ".join(f"{name} {value:.4f}" for name, value in sorted(shown.items()))
                bars.update(bar, description=f"memory {shown['changed']:.4f}", completed=step)
                log.info("memory step %d: %s", step, said)
            if (step + 1) % plan.save_every == 0 or step + 1 == plan.steps:
                correction.save(step + 1)
    for attention in put_in:
        attention.remove()
    return correction.end()
