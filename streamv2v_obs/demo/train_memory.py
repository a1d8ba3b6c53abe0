"""Fourth stage: the UNet is taught to look back, so that what it finds in a feature bank goes on looking as it did."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, get_args

import numpy as np
import torch
from diffusers import UNet2DConditionModel
from rich.progress import Progress
from torch import Tensor

from streamv2v_obs.demo.architecture import FACTOR, INITIAL_NOISE, LATENT_CHANNELS
from streamv2v_obs.demo.correcting import Correction, size
from streamv2v_obs.demo.export import read_scale
from streamv2v_obs.demo.looking_back import LookingBack, Scenes, draw_scenes
from streamv2v_obs.demo.moving import MOMENTS, SIDE, open_moving
from streamv2v_obs.demo.past_features import JudgedAttention, Kind, PastFeatures
from streamv2v_obs.demo.pool import STYLE_NAMES, Labels, draw_label
from streamv2v_obs.demo.train_autoencoder import load_autoencoder
from streamv2v_obs.demo.train_unet import Students, write_prompts
from streamv2v_obs.demo.training import choose_device, half_precision
from streamv2v_obs.settings import FusionSettings
from streamv2v_obs.translator.attention import ExtendedAttention, find_layers
from streamv2v_obs.translator.noise import blue

log = logging.getLogger(__name__)

_FOREIGN = 0.35
"""Share of the steps with a bank of another scene, which is to change nothing."""
_LATER_ROW = 0.4
"""Share of the steps in the stream batch's later rows, which begin with what an earlier row made."""
_USUAL = 30
"""The default strength's first timestep, in LCM's count of fifty."""
_MATCH, _STRAY = 0.02, 0.05
"""What attention to the right places, and to no foreign ones, counts for."""
_FASTER = {"attn1.": 6.0}
"""Self-attention has to learn whom to ask; all else is to stay as it was."""
_OFTEN = {"oil": 3.0, "watercolor": 3.0, "clay": 3.0}
"""Styles that leave most to what self-attention decides, drawn so many times as often as the others."""


@dataclass(frozen=True)
class MemoryPlan:
    """How to train: ``batch`` scenes a step, four moments of each."""

    steps: int = 2800
    batch: int = 4
    rate: float = 1.2e-4
    seed: int = 0
    device: str = "auto"
    save_every: int = 250


class MemoryTask(NamedTuple):
    """One step's work: noised latents and the answers wanted, both [n, 4, C, h, w], and what the bank is to hold."""

    noised: Tensor
    timesteps: Tensor
    prompts: Tensor
    wanted: Tensor
    scenes: Scenes
    kind: Kind
    foreign: bool


def _timesteps(rng: np.random.Generator, count: int) -> tuple[Tensor, Tensor]:
    """Of an earlier row and a later one, both int64 [n]: strengths 0.3 to 0.8, half of them 0.4; 2 to 4 steps."""
    first = np.where(rng.random(count) < 0.5, _USUAL, rng.integers(10, 36, count))
    later = first + np.maximum(1, (50 - first) // rng.integers(2, 5, count))
    return torch.from_numpy(999 - 20 * first), torch.from_numpy(999 - 20 * later)


def _noise(rng: np.random.Generator, count: int, device: torch.device) -> Tensor:
    shape = (count, 1, LATENT_CHANNELS, SIDE // FACTOR, SIDE // FACTOR)
    noise = torch.from_numpy(rng.standard_normal(shape, np.float32))
    return (blue(noise) if INITIAL_NOISE == "blue" else noise).to(device)


def _labels(rng: np.random.Generator, count: int) -> Labels:
    weights = np.array([_OFTEN.get(name, 1.0) for name in STYLE_NAMES])
    styles = rng.choice(len(STYLE_NAMES), count, p=weights / weights.sum())
    return np.stack([draw_label(rng, int(style)) for style in styles])


@torch.no_grad()
def draw_memory_task(rng: np.random.Generator, teacher: LookingBack, students: Students, scenes: Scenes) -> MemoryTask:
    """What the student is to do with ``scenes``: as it did at the first moment or, by a foreign bank, as alone."""
    count, device = len(scenes.pictures), scenes.pictures.device
    foreign = bool(rng.random() < _FOREIGN)
    labels, noise = _labels(rng, count), _noise(rng, count, device)
    if foreign:  # of the same style by the same noise, as after a change of scene
        labels, noise = labels[:1].repeat(count, 0), noise[:1].expand_as(noise)
    timesteps, later = (drawn.to(device) for drawn in _timesteps(rng, count))
    prompts = students.embed(write_prompts(rng, labels))
    noised = teacher.noised(teacher.encode(scenes.pictures), noise, timesteps)
    alone = teacher.answers(noised, timesteps, prompts)
    carried = teacher.carried(alone, scenes)
    if rng.random() < _LATER_ROW:
        timesteps = later
        noised = teacher.noised(alone if foreign else carried, _noise(rng, count, device), timesteps)
        alone = teacher.answers(noised, timesteps, prompts)
        carried = teacher.carried(alone, scenes)
    kind: Kind = get_args(Kind)[int(rng.integers(3))]
    return MemoryTask(noised, timesteps, prompts, alone if foreign else carried, scenes, kind, foreign)


def memory_loss(
    unet: UNet2DConditionModel, bank: PastFeatures, attention: JudgedAttention, task: MemoryTask, seed: int
) -> tuple[Tensor, Tensor]:
    """How far the student is from what is wanted: at the first moment, without a bank, and later, with one.

    ``unet`` runs through ``bank`` and ``attention``; ``foreign``: each scene sees its neighbour's bank.
    """
    bank.past, off = [], []
    attention.foreign = task.foreign
    for moment in range(MOMENTS):
        if task.foreign:
            bank.exchange()
        # Whose tokens are whose is known of the first frame, as long as it lies in the bank as it was.
        known = not task.foreign and (moment == 1 or (moment > 1 and task.kind == "all"))
        attention.places = task.scenes.places[:, moment - 1] if known else None
        attention.seen = task.scenes.seen[:, moment - 1] if known else None
        seen = task.noised[:, moment].contiguous(memory_format=torch.channels_last)
        made = unet(seen, task.timesteps, task.prompts, return_dict=False)[0]
        off.append(size(made.float() - task.wanted[:, moment]))
        bank.update(task.kind, seed, moment)
    return off[0], torch.stack(off[1:]).mean()


def train_memory(pool: Path, run: Path, plan: MemoryPlan) -> Students:
    """Correct ``run``/unet.safetensors, which another stage or ``adopt`` wrote; ``pool`` is ``moving``'s.

    Gives the averaged weights, in eval mode. Without a bank the answers are held to what they were before.
    Raises ConfigError where there is no UNet to correct.
    """
    device = choose_device(plan.device)
    torch.manual_seed(plan.seed)
    shards = open_moving(pool)
    correction = Correction.begin("memory", run, device, plan.rate, _FASTER)
    students = correction.students
    coder = load_autoencoder(run).to(device, memory_format=torch.channels_last)
    teacher = LookingBack(correction.before, coder, read_scale(run))
    fusion, edge = FusionSettings(), SIDE // FACTOR
    layers = find_layers(students.unet, (LATENT_CHANNELS, edge, edge), fusion)
    bank, judged = PastFeatures(layers), JudgedAttention()
    attention = ExtendedAttention(students.unet, layers, bank, fusion, judged)
    attention.install()
    shown: dict[str, float] = {}
    with Progress() as bars:
        bar = bars.add_task("memory", total=plan.steps, completed=correction.done)
        for step in range(correction.done, plan.steps):
            rng = np.random.default_rng((plan.seed, step))
            scenes = draw_scenes(rng, shards, plan.batch, device)
            with half_precision(device):
                task = draw_memory_task(rng, teacher, students, scenes)
                alone, with_bank = memory_loss(students.unet, bank, judged, task, step)
            missed, strayed = (found.to(device) for found in judged.verdict())
            correction.learn(alone + with_bank + _MATCH * missed + _STRAY * strayed, step, plan.steps, plan.rate)
            told = {"alone": alone, "foreign" if task.foreign else "own": with_bank}
            told |= {"strayed": strayed} if task.foreign else {"missed": missed}
            for name, loss in told.items():
                shown[name] = shown.get(name, loss.item()) + 0.02 * (loss.item() - shown.get(name, loss.item()))
            if step % 50 == 0:
                said = ", ".join(f"{name} {value:.4f}" for name, value in sorted(shown.items()))
                bars.update(bar, description=f"memory {shown.get('own', 0):.4f}", completed=step)
                log.info("memory step %d: %s", step, said)
            if (step + 1) % plan.save_every == 0 or step + 1 == plan.steps:
                correction.save(step + 1)
    attention.remove()
    return correction.end()
