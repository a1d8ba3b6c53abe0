"""LoRA files with random weights for the tiny models, in the spellings that are in use."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path

import torch
from diffusers import StableDiffusionPipeline
from peft import LoraConfig, get_peft_model_state_dict
from safetensors.torch import save_file
from torch import Tensor, nn

ATTENTION = ("to_q", "to_k", "to_v", "to_out.0")
CONVOLUTIONS = ("conv1", "conv2", "conv_in", "conv", "conv_shortcut", "proj_in")
OTHERS = ("ff.net.0.proj", "ff.net.2", "linear_1", "linear_2", "time_emb_proj", "proj_out")
TEXT = ("q_proj", "k_proj", "v_proj", "out_proj", "fc1", "fc2")


def save_diffusers(
    folder: Path, pipeline: StableDiffusionPipeline, *, rank: int = 3, alpha: int = 2, text: bool = True
) -> Path:
    """As diffusers' training scripts do: PEFT adapters on the modules, written by ``save_lora_weights``."""
    layers, metadata = {}, {}
    for name, module, targets in (
        ("unet", pipeline.unet, ATTENTION + CONVOLUTIONS + OTHERS),
        ("text_encoder", pipeline.text_encoder, TEXT),
    ):
        if name == "text_encoder" and not text:
            continue
        adapted = copy.deepcopy(module)
        adapted.add_adapter(LoraConfig(r=rank, lora_alpha=alpha, target_modules=list(targets)))
        for key, parameter in adapted.named_parameters():
            if "lora_" in key:
                nn.init.normal_(parameter, std=0.1)
        layers[name] = {k: v.detach().clone() for k, v in get_peft_model_state_dict(adapted).items()}
        metadata[name] = adapted.peft_config["default"].to_dict()
    StableDiffusionPipeline.save_lora_weights(
        folder,
        unet_lora_layers=layers["unet"],
        text_encoder_lora_layers=layers.get("text_encoder"),
        unet_lora_adapter_metadata=metadata["unet"],
        text_encoder_lora_adapter_metadata=metadata.get("text_encoder"),
    )
    return folder / "pytorch_lora_weights.safetensors"


def kohya_state(
    pipeline: StableDiffusionPipeline, *, seed: int = 0, ranks: Sequence[int] = (2, 4), alpha: float = 1.0
) -> dict[str, Tensor]:
    """Kohya's spelling (LCM-LoRA's, too): every linear and convolution layer, underscores for dots, an alpha each."""
    generator = torch.Generator().manual_seed(seed)
    state: dict[str, Tensor] = {}
    for prefix, module in (("lora_unet", pipeline.unet), ("lora_te_text_model", pipeline.text_encoder)):
        named = [(n, m) for n, m in module.named_modules() if isinstance(m, nn.Linear | nn.Conv2d)]
        for index, (name, layer) in enumerate(named):
            rank = ranks[index % len(ranks)] if prefix == "lora_unet" else ranks[0]
            down, up = (
                (rank, *layer.weight.shape[1:]),
                (layer.weight.shape[0], rank, *([1, 1] * isinstance(layer, nn.Conv2d))),
            )
            key = f"{prefix}_{name.removeprefix('text_model.').replace('.', '_')}"
            state[f"{key}.lora_down.weight"] = torch.randn(down, generator=generator) * 0.1
            state[f"{key}.lora_up.weight"] = torch.randn(up, generator=generator) * 0.1
            state[f"{key}.alpha"] = torch.tensor(alpha)
    return state


def save_kohya(path: Path, pipeline: StableDiffusionPipeline, *, seed: int = 0, alpha: float = 1.0) -> Path:
    """Write ``kohya_state``."""
    save_file(kohya_state(pipeline, seed=seed, alpha=alpha), path)
    return path
