"""The demo model's parts, untrained: sizes chosen for two CPU cores at 256x256 (15 fps with two steps)."""

from __future__ import annotations

import numpy as np
from diffusers import AutoencoderTiny, LCMScheduler, UNet2DConditionModel
from diffusers.models.autoencoders.vae import AutoencoderTinyBlock
from torch import nn
from transformers import CLIPTextConfig, CLIPTextModel, PreTrainedTokenizerFast

from streamv2v_obs.translator.noise import NoiseKind

LATENT_CHANNELS = 16
FACTOR = 8
FOLD = 2
"""Pixels a side that are folded into channels before the autoencoder, and unfolded after it."""
TEXT_WIDTH = 128
WIDTHS = 96, 128, 128
"""Of the UNet: wide where detail is made, at 32x32, and no wider below than 20 MB of weights allow."""
SNR_SHIFT = 10.0
"""How much more signal than Stable Diffusion's schedule leaves at the same timestep.

32x32 latents of 16 channels are few and dense: under the original schedule, made for 64x64 of 4, timestep 399 drowns
what is to be translated. The ratio has to grow as resolution falls (Hoogeboom et al. 2023, "simple diffusion", 2.3).
"""


def new_autoencoder(width: int = 64) -> AutoencoderTiny:
    """8x down to 16 channels; takes and gives 12 channels at half the size: 2x2 pixels folded into one.

    At full size a convolution costs four times as much for the same picture, and hardly sees more of it.
    """
    autoencoder = AutoencoderTiny(
        in_channels=3 * FOLD**2,
        out_channels=3 * FOLD**2,
        latent_channels=LATENT_CHANNELS,
        encoder_block_out_channels=(width,) * 3,
        decoder_block_out_channels=(width,) * 3,
        num_encoder_blocks=(0, 1, 3),
        num_decoder_blocks=(4, 1, 0),
    )
    for module in autoencoder.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, nonlinearity="linear")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    for module in autoencoder.modules():
        if isinstance(module, AutoencoderTinyBlock):
            # Every block begins as the identity, a little above zero: nothing here normalises, and a unit whose
            # last ReLU goes dead takes its skip path with it (measured: a third of them, and with them red and green).
            nn.init.zeros_(module.conv[-1].weight)
            nn.init.constant_(module.conv[-1].bias, 0.1)
    return autoencoder


def new_unet(widths: tuple[int, int, int] = WIDTHS) -> UNet2DConditionModel:
    """Three levels; attention (and so the bank) at 16x16 and 8x8, plain convolutions at 32x32.

    With attention at 32x32 the same time buys half the width, and pictures are worse for it.
    """
    return UNet2DConditionModel(
        sample_size=32,
        in_channels=LATENT_CHANNELS,
        out_channels=LATENT_CHANNELS,
        block_out_channels=widths,
        layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        # diffusers takes this for the number of heads; each is 32 wide or a little more.
        attention_head_dim=tuple(max(1, width // 32) for width in widths),
        cross_attention_dim=TEXT_WIDTH,
        norm_num_groups=16,
    )


def new_text_encoder(tokenizer: PreTrainedTokenizerFast, layers: int = 2) -> CLIPTextModel:
    """CLIP's text tower, small."""
    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=TEXT_WIDTH,
            intermediate_size=2 * TEXT_WIDTH,
            projection_dim=TEXT_WIDTH,
            num_hidden_layers=layers,
            num_attention_heads=4,
            max_position_embeddings=tokenizer.model_max_length,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )


INITIAL_NOISE: NoiseKind = "blue"
"""What ``flats`` and ``memory`` train with, and so what the translator begins with."""


def new_scheduler(shift: float = SNR_SHIFT) -> LCMScheduler:
    """LCM over Stable Diffusion's schedule with the signal-to-noise ratio times ``shift``; predicts the picture."""
    plain = LCMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear")
    acp = plain.alphas_cumprod.double().numpy()
    ratio = shift * acp / (1 - acp)
    shifted = ratio / (1 + ratio)
    betas = 1 - shifted / np.concatenate([[1.0], shifted[:-1]])
    return LCMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        trained_betas=betas.tolist(),
        prediction_type="sample",
        clip_sample=False,
        steps_offset=1,
    )
