"""A trained UNet corrected: what the later stages share, in which its own answers from before are held on to."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from diffusers import UNet2DConditionModel
from torch import Tensor, nn

from streamv2v_obs.demo.muon import Muon
from streamv2v_obs.demo.train_unet import CHECKPOINT, Students, new_students
from streamv2v_obs.demo.training import (
    Average,
    checkpoint_step,
    learning_rate,
    load_checkpoint,
    resume,
    save_checkpoint,
)
from streamv2v_obs.errors import ConfigError


@dataclass
class Correction:
    """``students`` in training, and their UNet as it was ``before``, frozen; the text encoder stays as it is."""

    stage: str
    path: Path
    students: Students
    before: UNet2DConditionModel
    average: Average
    optimizer: Muon
    done: int
    """Steps."""

    @classmethod
    def begin(
        cls, stage: str, run: Path, device: torch.device, rate: float, faster: Mapping[str, float] | None = None
    ) -> Correction:
        """Begin with ``run``/unet.safetensors, or go on. Raises ConfigError where there is no UNet to correct.

        ``faster``: parts of weights' names, and how many times the rate these learn at.
        """
        path, start = run / CHECKPOINT, run / f"before-{stage}-{CHECKPOINT}"
        if not path.is_file():
            raise ConfigError(f"{path} is missing; run: python -m streamv2v_obs.demo unet, or adopt")
        if not start.is_file():
            averaged = load_checkpoint(path, "average")
            save_checkpoint(start, 0, average=averaged)
            save_checkpoint(path, 0, weights=averaged, average=averaged)
        students = new_students()
        modules = students.modules.to(device)
        students.unet.to(memory_format=torch.channels_last)
        modules.load_state_dict(load_checkpoint(start, "average"))
        before = copy.deepcopy(students.unet).eval().requires_grad_(False)
        students.text_encoder.eval().requires_grad_(False)
        groups: dict[float, list[nn.Parameter]] = {}
        for name, weight in students.unet.named_parameters():
            share = next((times for part, times in (faster or {}).items() if part in name), 1.0)
            groups.setdefault(share, []).append(weight)
        optimizer = Muon([{"params": weights, "share": share} for share, weights in groups.items()], rate)
        modules.load_state_dict(load_checkpoint(path, "weights"))
        average = Average(modules, 0.998)
        average.weights = {k: v.to(device) for k, v in load_checkpoint(path, "average").items()}
        resume(path, optimizer, "optimizer")
        return cls(stage, path, students, before, average, optimizer, checkpoint_step(path))

    def learn(self, loss: Tensor, step: int, steps: int, rate: float) -> None:
        """One step of ``steps``."""
        for group in self.optimizer.param_groups:
            group["lr"] = group["share"] * learning_rate(step, steps, rate)
        self.optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        nn.utils.clip_grad_norm_(self.students.unet.parameters(), 1.0)
        self.optimizer.step()
        self.average.update(self.students.modules, step + 1000)  # it begins with weights that are worth something

    def save(self, step: int) -> None:
        """After ``step`` steps."""
        save_checkpoint(
            self.path,
            step,
            weights=self.students.modules.state_dict(),
            average=self.average.weights,
            optimizer=self.optimizer.state_dict(),
        )

    def end(self) -> Students:
        """The averaged weights, in eval mode."""
        self.students.modules.load_state_dict(self.average.weights)
        self.students.modules.float().eval()
        return self.students


def size(difference: Tensor, where: Tensor | None = None) -> Tensor:
    """Of a difference [n, C, h, w] its mean, as L1 and half of L2; ``where`` [n, 1, h, w] says what counts."""
    values = difference.abs() + 0.5 * difference.square()
    if where is None:
        return values.mean()
    counted: Tensor = (where * values).mean(1).sum() / where.sum().clamp(min=1.0)
    return counted
