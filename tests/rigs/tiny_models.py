"""Real checkpoints with random weights in every format that the loader reads, small enough for a test."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

import torch
from diffusers import (
    AutoencoderKL,
    AutoencoderTiny,
    LCMScheduler,
    StableDiffusionPipeline,
    UNet2DConditionModel,
)
from safetensors.torch import save_file
from torch import Tensor
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

WIDTH = 32
"""Of the text encoder; the UNet's cross-attention matches."""


def tiny_unet(channels: int = 4, **changes: Any) -> UNet2DConditionModel:
    """Two levels, attention in the first and the middle, like Stable Diffusion 1.x in all but size."""
    options: dict[str, Any] = {
        "sample_size": 16,
        "in_channels": channels,
        "out_channels": channels,
        "layers_per_block": 2,
        "block_out_channels": (32, 64),
        "norm_num_groups": 16,
        "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
        "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
        "cross_attention_dim": WIDTH,
        "attention_head_dim": 4,
    }
    return UNet2DConditionModel(**(options | changes)).eval()


def tiny_vae(channels: int = 4, **changes: Any) -> AutoencoderKL:
    """Two levels, hence a factor of 2."""
    options: dict[str, Any] = {
        "in_channels": 3,
        "out_channels": 3,
        "down_block_types": ("DownEncoderBlock2D",) * 2,
        "up_block_types": ("UpDecoderBlock2D",) * 2,
        "block_out_channels": (16, 32),
        "norm_num_groups": 8,
        "latent_channels": channels,
        "scaling_factor": 0.18215,
    }
    return AutoencoderKL(**(options | changes)).eval()


def tiny_taesd(channels: int = 4, colours: int = 3) -> AutoencoderTiny:
    """TAESD's layers, 16 wide: a factor of 8, or of 16 where 12 ``colours`` are 2x2 pixels folded into one."""
    return AutoencoderTiny(
        in_channels=colours,
        out_channels=colours,
        encoder_block_out_channels=(16,) * 4,
        decoder_block_out_channels=(16,) * 4,
        latent_channels=channels,
    ).eval()


def tiny_text_encoder(width: int = WIDTH, vocabulary: int = 520) -> CLIPTextModel:
    """Two layers, 24 positions."""
    config = CLIPTextConfig(
        vocab_size=vocabulary,
        hidden_size=width,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=24,
        bos_token_id=512,
        eos_token_id=513,
        pad_token_id=513,
    )
    return CLIPTextModel(config).eval()


def save_clip_tokenizer(folder: Path) -> CLIPTokenizer:
    """A CLIP tokenizer that knows single characters only, in CLIP's own files (vocab.json, merges.txt)."""
    folder.mkdir(parents=True, exist_ok=True)
    # Byte-level BPE shows the printable bytes as themselves and the others above 255.
    shown = [*range(33, 127), *range(161, 173), *range(174, 256)]
    characters = [chr(c) for c in shown] + [chr(256 + n) for n in range(256 - len(shown))]
    words = characters + [f"{c}</w>" for c in characters] + ["<|startoftext|>", "<|endoftext|>"]
    (folder / "vocab.json").write_text(json.dumps({word: n for n, word in enumerate(words)}), encoding="utf-8")
    (folder / "merges.txt").write_text("#version: 0.2\n", encoding="utf-8")
    (folder / "tokenizer_config.json").write_text(
        json.dumps({"tokenizer_class": "CLIPTokenizer", "model_max_length": 24}), encoding="utf-8"
    )
    return CLIPTokenizer.from_pretrained(folder)


def save_model(
    folder: Path,
    *,
    prediction_type: Literal["epsilon", "v_prediction", "sample"] = "epsilon",
    seed: int = 0,
    unet: UNet2DConditionModel | None = None,
    vae: AutoencoderKL | AutoencoderTiny | None = None,
    text_encoder: CLIPTextModel | None = None,
    **options: Any,
) -> StableDiffusionPipeline:
    """Write a diffusers folder as diffusers itself writes it, and give the pipeline it came from."""
    torch.manual_seed(seed)
    pipeline = StableDiffusionPipeline(
        unet=unet or tiny_unet(),
        vae=vae or tiny_vae(),
        text_encoder=text_encoder or tiny_text_encoder(),
        tokenizer=save_clip_tokenizer(folder / "tokenizer"),
        scheduler=LCMScheduler(prediction_type=prediction_type, steps_offset=1),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.set_progress_bar_config(disable=True)
    pipeline.save_pretrained(folder, **options)
    # diffusers writes the tokenizer in one file; the hub's Stable Diffusion repositories have CLIP's two.
    save_clip_tokenizer(folder / "tokenizer")
    return pipeline


# --- the single-file layout of Stable Diffusion's authors, written from diffusers' names ----------------------


def _unet_name(name: str, layers: int) -> str:
    part, *rest = name.split(".")
    tail = ".".join(rest)
    flat = {
        "conv_in": "input_blocks.0.0",
        "conv_norm_out": "out.0",
        "conv_out": "out.2",
    }
    if part in flat:
        return f"{flat[part]}.{tail}"
    if part == "time_embedding":
        return f"time_embed.{ {'linear_1': 0, 'linear_2': 2}[rest[0]] }.{rest[1]}".replace(" ", "")
    if part == "mid_block":
        kind, index, *inner = rest
        return f"middle_block.{ {('resnets', '0'): 0, ('attentions', '0'): 1, ('resnets', '1'): 2}[kind, index] }." + (
            _inner(kind, ".".join(inner))
        )
    block, kind, index, *inner = rest
    place = int(block) * (layers + 1) + int(index)
    tail = _inner(kind, ".".join(inner))
    if part == "down_blocks":
        if kind == "downsamplers":
            return f"input_blocks.{(int(block) + 1) * (layers + 1)}.0.op.{inner[-1]}"
        return f"input_blocks.{place + 1}.{int(kind == 'attentions')}.{tail}"
    if kind == "upsamplers":
        # Number 2 where the level has attention; in this rig only the last one has, and that has no upsampler.
        return f"output_blocks.{int(block) * (layers + 1) + layers}.1.conv.{inner[-1]}"
    return f"output_blocks.{place}.{int(kind == 'attentions')}.{tail}"


def _inner(kind: str, tail: str) -> str:
    if kind != "resnets":
        return tail
    names = {
        "norm1": "in_layers.0",
        "conv1": "in_layers.2",
        "time_emb_proj": "emb_layers.1",
        "norm2": "out_layers.0",
        "conv2": "out_layers.3",
        "conv_shortcut": "skip_connection",
    }
    name, suffix = tail.rsplit(".", 1)
    return f"{names[name]}.{suffix}"


def _vae_name(name: str, levels: int) -> str:
    name = name.replace("conv_norm_out", "norm_out").replace("conv_shortcut", "nin_shortcut")
    for index in range(levels):
        for side, other, level in (("down_blocks", "down", index), ("up_blocks", "up", levels - 1 - index)):
            name = name.replace(f"{side}.{index}.resnets.", f"{other}.{level}.block.")
            name = name.replace(f"{side}.{index}.downsamplers.0", f"{other}.{level}.downsample")
            name = name.replace(f"{side}.{index}.upsamplers.0", f"{other}.{level}.upsample")
    name = name.replace("mid_block.resnets.0", "mid.block_1").replace("mid_block.resnets.1", "mid.block_2")
    name = name.replace("mid_block.attentions.0", "mid.attn_1").replace("group_norm", "norm")
    for ours, theirs in (("to_q", "q"), ("to_k", "k"), ("to_v", "v"), ("to_out.0", "proj_out")):
        name = name.replace(f"attn_1.{ours}.", f"attn_1.{theirs}.")
    return name


def save_single_file(path: Path, pipeline: StableDiffusionPipeline) -> dict[str, Tensor]:
    """Write ``pipeline`` as one .safetensors file in SD 1.x layout; gives what was written."""
    unet, vae = pipeline.unet, pipeline.vae
    state: dict[str, Tensor] = {}
    for name, tensor in unet.state_dict().items():
        state[f"model.diffusion_model.{_unet_name(name, unet.config.layers_per_block)}"] = tensor
    for name, tensor in vae.state_dict().items():
        renamed = _vae_name(name, len(vae.config.block_out_channels))
        # The authors' VAE has 1x1 convolutions where diffusers has linear layers.
        conv = ".attn_1." in renamed and ".norm." not in renamed and renamed.endswith("weight")
        state[f"first_stage_model.{renamed}"] = tensor[:, :, None, None] if conv else tensor
    for name, tensor in pipeline.text_encoder.state_dict().items():
        full = name if name.startswith("text_model.") else f"text_model.{name}"
        state[f"cond_stage_model.transformer.{full}"] = tensor
    state = {name: tensor.detach().clone().contiguous() for name, tensor in state.items()}
    save_file(state, path)
    return state
