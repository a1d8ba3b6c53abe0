"""Third stage: flat areas made clean, and three styles taught anew, in a UNet whose other answers are kept."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from rich.progress import Progress
from torch import Tensor
from torch.nn import functional

from streamv2v_obs.demo.architecture import INITIAL_NOISE, new_scheduler
from streamv2v_obs.demo.correcting import Correction, size
from streamv2v_obs.demo.latents import encode_pool
from streamv2v_obs.demo.pool import NONE, STYLE_NAMES, Labels
from streamv2v_obs.demo.train_unet import Students, UNetPlan, draw_task
from streamv2v_obs.demo.training import choose_device, half_precision

log = logging.getLogger(__name__)

FLAT = 0.02
"""Variance of a latent among its neighbours up to which it counts as flat; over whole pictures it is 1."""
CLEAN = frozenset({"photo", "anime", "comic", "pixel", "neon"})
"""Styles whose teachers leave a flat area flat. The others' fill it with strokes, grain or clay, which chance decides:
taught to be even there, the model forgets them (oil was recognised in half of the cases, not in nine tenths)."""
TAUGHT = frozenset({"oil", "pixel", "glass"})
"""Styles whose teachers are followed everywhere: the second stage leaves their strokes, squares and panes soft."""
_OFTEN = {"oil": 2.0, "pixel": 4.0, "glass": 2.0}
"""How often they are drawn, of what they usually are."""
_AROUND, _EVEN = 7, 3.0
"""Latents across which a flat area is to be even, and what that counts for: colours may be off, not in blotches."""


@dataclass(frozen=True)
class FlatsPlan:
    """How to train: whole pictures, ``batch`` of them a step."""

    steps: int = 7500
    batch: int = 6
    rate: float = 1e-3
    seed: int = 0
    device: str = "auto"
    save_every: int = 250
    shards: int | None = None


def flatness(target: Tensor) -> Tensor:
    """Where a picture is flat: [n, C, h, w] scaled latents -> [n, 1, h, w], 1 where all neighbours are alike.

    An edge makes the latents on both of its sides less than flat, so what is sharp is left alone.
    """
    mean = functional.avg_pool2d(target, 3, 1, 1, count_include_pad=False)
    square = functional.avg_pool2d(target.square(), 3, 1, 1, count_include_pad=False)
    variance = (square - mean.square()).clamp(min=0).mean(1, keepdim=True)
    return torch.exp(-variance / FLAT)


def only_of(styles: frozenset[str], labels: Labels) -> Tensor:
    """Which pictures of a pool, by their labels, are of these styles alone: 0 or 1, float32 [n]."""
    names = [[STYLE_NAMES[style] for style in pair if style != NONE] for pair in labels[:, :2].tolist()]
    return torch.tensor([float(styles.issuperset(pair)) for pair in names])


def flats_loss(made: Tensor, before: Tensor, target: Tensor, labels: Labels) -> tuple[Tensor, Tensor]:
    """Like the teacher where the teacher is flat or followed all over, like the UNet ``before`` elsewhere.

    Made, before and target [n, C, h, w]. The critic, which keeps strokes and edges crisp, leaves a grain in flat
    areas; without the critic all gets soft. So what it has taught is held by the UNet's own answers, and only what is
    wrong in them is taught anew. Gives the two apart.
    """
    clean, followed = (only_of(styles, labels).to(target.device).reshape(-1, 1, 1, 1) for styles in (CLEAN, TAUGHT))
    flat = flatness(target) * clean
    taught = torch.maximum(flat, followed)
    off = made - target
    around = _blurred(flat * off) / _blurred(flat).clamp(min=1e-3)
    return size(off, taught) + _EVEN * size(off - around, flat), size(made - before, 1 - taught)


def _blurred(values: Tensor) -> Tensor:
    return functional.avg_pool2d(values, _AROUND, 1, _AROUND // 2, count_include_pad=False)


def train_flats(pool_folder: Path, run: Path, plan: FlatsPlan) -> Students:
    """Correct ``run``/unet.safetensors, which ``unet`` or ``adopt`` wrote; gives the averaged weights, in eval mode.

    The text encoder stays as it is. Raises ConfigError where there is no UNet to correct.
    """
    device = choose_device(plan.device)
    torch.manual_seed(plan.seed)
    correction = Correction.begin("flats", run, device, plan.rate)
    students = correction.students
    pool = encode_pool(pool_folder, run, device, shards=plan.shards)
    acp = new_scheduler().alphas_cumprod.float().to(device)
    drawn = UNetPlan(
        steps=plan.steps,
        batch=plan.batch,
        crop=pool.targets.shape[-1],
        whole_share=0,
        seed=plan.seed,
        often=_OFTEN,
    )
    done, shown = correction.done, np.zeros(2)
    with Progress() as bars:
        bar = bars.add_task("flats", total=plan.steps, completed=done)
        for step in range(done, plan.steps):
            task = draw_task(np.random.default_rng((plan.seed, step)), pool, acp, drawn, step, INITIAL_NOISE)
            with half_precision(device), torch.no_grad():
                embeddings = students.embed(task.prompts)
                kept = correction.before(task.noised, task.timesteps, embeddings, return_dict=False)[0]
            with half_precision(device):
                made = students.unet(task.noised, task.timesteps, embeddings, return_dict=False)[0]
            taught, other = flats_loss(made.float(), kept.float(), task.batch.target, task.batch.labels)
            now = np.array([taught.item(), other.item()])
            shown = now if step == done else 0.98 * shown + 0.02 * now
            correction.learn(taught + other, step, plan.steps, plan.rate)
            if step % 50 == 0:
                bars.update(bar, description=f"flats {shown[0]:.4f}", completed=step)
                log.info("flats step %d: loss %.4f where taught, %.4f elsewhere", step, *shown)
            if (step + 1) % plan.save_every == 0 or step + 1 == plan.steps:
                correction.save(step + 1)
    return correction.end()
