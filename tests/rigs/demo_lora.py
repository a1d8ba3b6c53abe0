"""A LoRA for the demo model: one layer of one attention, changed a little."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file

from streamv2v_obs.translator.presets import demo_folder


def save_demo_lora(path: Path) -> Path:
    """Write it."""
    with safe_open(demo_folder() / "unet" / "diffusion_pytorch_model.safetensors", "pt") as file:
        layer = next(key for key in file.keys() if key.endswith("attn1.to_q.weight"))  # noqa: SIM118
        height, width = file.get_slice(layer).get_shape()
    name = "lora_unet_" + layer.removesuffix(".weight").replace(".", "_")
    drawn = torch.Generator().manual_seed(0)
    down, up = torch.randn(2, width, generator=drawn) * 0.1, torch.randn(height, 2, generator=drawn) * 0.1
    named = {"lora_down.weight": down, "lora_up.weight": up, "alpha": torch.tensor(2.0)}
    save_file({f"{name}.{part}": value for part, value in named.items()}, path)
    return path
