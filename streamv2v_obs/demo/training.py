"""What every stage of the training shares: device, learning rate, averaged weights, checkpoints to resume from."""

from __future__ import annotations

import json
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from streamv2v_obs.errors import ConfigError


def choose_device(name: str) -> torch.device:
    """``auto`` is CUDA where there is one."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise ConfigError(f"--device {name}: there is no CUDA device here; allowed: auto, cpu")
    return torch.device(name)


def half_precision(device: torch.device) -> AbstractContextManager[Any]:
    """bfloat16 where it is exact enough. With channels_last it makes a CPU that has it about ten times as fast."""
    return torch.autocast(device.type, torch.bfloat16)


def learning_rate(step: int, steps: int, peak: float, warmup: int = 100) -> float:
    """Up over ``warmup`` steps, and straight down to a fiftieth over all the others.

    Not flat for long: at its peak for a thousand steps, the autoencoder lost units that it never won back.
    """
    return peak * min(1.0, (step + 1) / warmup, max(0.02, (steps - step) / steps))


class Average:
    """Exponential moving average of a module's weights: what is measured, shown and exported."""

    def __init__(self, module: nn.Module, decay: float) -> None:
        self.decay = decay
        self.weights = {name: tensor.detach().clone() for name, tensor in module.state_dict().items()}

    @torch.no_grad()
    def update(self, module: nn.Module, step: int) -> None:
        """Follow; quickly in the first steps, whose weights are worth nothing."""
        share = 1 - min(self.decay, (1 + step) / (10 + step))
        for name, tensor in module.state_dict().items():
            if tensor.is_floating_point():
                self.weights[name].lerp_(tensor, share)
            else:
                self.weights[name].copy_(tensor)


def save_checkpoint(path: Path, step: int, **parts: dict[str, Any]) -> None:
    """Write named state dicts (optimizers' included) as one safetensors file; never leaves half a file behind."""
    tensors: dict[str, Tensor] = {}
    for part, state in parts.items():
        for name, value in _flat(state):
            tensors[f"{part}:{name}"] = value.detach().cpu().clone().contiguous()
    path.parent.mkdir(parents=True, exist_ok=True)
    written = path.with_suffix(".partial")
    save_file(tensors, written, metadata={"step": json.dumps(step)})
    written.replace(path)


def _flat(state: dict[str, Any]) -> list[tuple[str, Tensor]]:
    if "param_groups" not in state:
        return list(state.items())
    return [
        (f"{number}.{key}", torch.as_tensor(value))
        for number, moments in state["state"].items()
        for key, value in moments.items()
    ]


def checkpoint_step(path: Path) -> int:
    """The number of steps done; 0 where there is no checkpoint."""
    if not path.is_file():
        return 0
    with safe_open(path, framework="pt") as file:
        return int(json.loads(file.metadata()["step"]))


def load_checkpoint(path: Path, part: str) -> dict[str, Tensor]:
    """One of the named state dicts."""
    if not path.is_file():
        raise ConfigError(f"{path} does not exist; run the stage that writes it first (python -m streamv2v_obs.demo)")
    whole = load_file(path)
    return {name.partition(":")[2]: tensor for name, tensor in whole.items() if name.partition(":")[0] == part}


def resume(path: Path, optimizer: torch.optim.Optimizer, name: str) -> None:
    """Put an optimizer's moments back; its groups are as it was built with."""
    state = optimizer.state_dict()
    moments: dict[int, dict[str, Tensor]] = {}
    for key, tensor in load_checkpoint(path, name).items():
        number, _, kind = key.partition(".")
        moments.setdefault(int(number), {})[kind] = tensor
    state["state"] = moments
    optimizer.load_state_dict(state)
