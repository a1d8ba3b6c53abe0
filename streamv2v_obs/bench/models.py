"""The model that is measured: any that the loader knows, or Stable Diffusion 1.5's architecture, random weights."""

from __future__ import annotations

from typing import Any, Literal

import torch
from diffusers import AutoencoderTiny, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel

from streamv2v_obs.demo.tokenizer import new_tokenizer
from streamv2v_obs.settings import ModelSettings
from streamv2v_obs.translator.conformance import stable_diffusion_acp
from streamv2v_obs.translator.devices import choose_device, choose_dtype
from streamv2v_obs.translator.loading import Model, load_model
from streamv2v_obs.translator.lora import StyleSwitch
from streamv2v_obs.translator.pixels import Autoencoder
from streamv2v_obs.translator.text import TextEncoder

RANDOM = "sd15-random"
"""A name for ``model.name`` in measurements: speed does not depend on what the weights are, and none is downloaded."""


def open_model(settings: ModelSettings) -> tuple[Model, Literal["checkpoint", "random"]]:
    """The model, and where its weights come from."""
    if settings.name == RANDOM:
        return random_sd15(settings), "random"
    return load_model(settings), "checkpoint"


def sd15_unet() -> UNet2DConditionModel:
    """860 M parameters; 16 self-attention layers."""
    return UNet2DConditionModel(
        sample_size=64,
        in_channels=4,
        out_channels=4,
        layers_per_block=2,
        block_out_channels=(320, 640, 1280, 1280),
        down_block_types=(*("CrossAttnDownBlock2D",) * 3, "DownBlock2D"),
        up_block_types=("UpBlock2D", *("CrossAttnUpBlock2D",) * 3),
        cross_attention_dim=768,
        attention_head_dim=8,
    )


def taesd() -> AutoencoderTiny:
    """2.4 M parameters; diffusers' defaults are TAESD's."""
    return AutoencoderTiny()


def sd15_text_encoder() -> CLIPTextModel:
    """CLIP ViT-L/14's text tower, 123 M parameters."""
    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=49408,
            hidden_size=768,
            intermediate_size=3072,
            projection_dim=768,
            num_hidden_layers=12,
            num_attention_heads=12,
            max_position_embeddings=77,
        )
    )


def random_sd15(settings: ModelSettings, unet: Any = None, text: Any = None) -> Model:
    """A model with seeded random weights, placed as the loader places one; ``unet`` and ``text`` stand in for its own.

    Its answers are noise, and its tokenizer is the demo model's: only what it costs is worth a measurement.
    """
    device = choose_device(settings.device)
    dtype = choose_dtype(settings.dtype, device)
    torch.manual_seed(0)
    # On the device from the start: a CPU takes half a minute to draw what a GPU draws in a moment.
    built: Any
    with torch.device(device):
        built = unet or sd15_unet()
        coder: Any = taesd()
        encoder: Any = text or sd15_text_encoder()
    for module in (built, coder, encoder):
        module.requires_grad_(False).eval().to(device, dtype)
    built.to(memory_format=torch.channels_last)
    coder.to(memory_format=torch.channels_last)
    tokenizer = new_tokenizer()
    tokenizer.model_max_length = int(encoder.config.max_position_embeddings)
    return Model(
        name=RANDOM,
        unet=built,
        autoencoder=Autoencoder(coder),
        text=TextEncoder(tokenizer, encoder),
        acp=stable_diffusion_acp(),
        prediction_type="epsilon",
        width=settings.width or 8 * int(built.config.sample_size),
        height=settings.height or 8 * int(built.config.sample_size),
        device=device,
        dtype=dtype,
        styles=StyleSwitch(built, encoder, {}),
    )
