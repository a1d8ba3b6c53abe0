"""Pictures to latents and back, through a TAESD-like autoencoder or a full VAE."""

from __future__ import annotations

import math
from typing import Protocol, TypeAlias

import numpy as np
import torch
from diffusers import AutoencoderKL, AutoencoderTiny
from torch import Tensor
from torch.nn.functional import pixel_shuffle, pixel_unshuffle

from streamv2v_obs.frames import Pixels

AnyAutoencoder: TypeAlias = AutoencoderKL | AutoencoderTiny


def fold_of(module: AnyAutoencoder) -> int:
    """Pixels a side that become the channels of one: 1 for three colours, 2 for twelve channels; 0: neither."""
    config = module.config
    fold = math.isqrt(int(config.in_channels) // 3)
    return fold if config.in_channels == config.out_channels == 3 * fold**2 else 0


class PixelCoder(Protocol):
    """uint8 [H, W, 3] RGB <-> scaled latents [1, C, H/factor, W/factor] on the model's device.

    The two ways may be gone at the same time.
    """

    latent_channels: int
    factor: int

    def encode(self, pixels: Pixels) -> Tensor: ...
    def decode(self, latents: Tensor) -> Pixels: ...


class Autoencoder:
    """uint8 [H, W, 3] RGB <-> scaled latents [1, C, H/factor, W/factor] on the model's device.

    Scaled: (z - shift) * scale, as the UNet was trained on. Deterministic: of a VAE's posterior the mode is taken,
    so that a still picture has still latents.
    """

    def __init__(self, module: AnyAutoencoder) -> None:
        self.module = module
        config = module.config
        self.latent_channels = int(config.latent_channels)
        levels = (
            config.encoder_block_out_channels if isinstance(module, AutoencoderTiny) else config.block_out_channels
        )
        self._fold = fold_of(module)
        self.factor = self._fold * 2 ** (len(levels) - 1)
        # getattr's default cannot do: the key is there and may be null.
        self._scale = float(config.scaling_factor or 1.0)
        self._shift = float(getattr(config, "shift_factor", None) or 0.0)

    @property
    def kind(self) -> str:
        """``tiny`` or ``full``."""
        return "tiny" if isinstance(self.module, AutoencoderTiny) else "full"

    @torch.no_grad()
    def encode(self, pixels: Pixels | Tensor) -> Tensor:
        """[H, W, 3] uint8, an array or a tensor on any device -> [1, C, h, w]. H and W are multiples of ``factor``."""
        height, width, channels = pixels.shape
        if channels != 3 or height % self.factor or width % self.factor or pixels.dtype not in (np.uint8, torch.uint8):
            raise ValueError(
                f"pixels are uint8 [H, W, 3] with sides that are multiples of {self.factor}, "
                f"not {pixels.dtype} {list(pixels.shape)}"
            )
        if isinstance(pixels, np.ndarray):
            # Flipped channels and read-only arrays (PIL's, shared memory) are nothing that torch takes as they are.
            pixels = torch.from_numpy(np.require(pixels, requirements=("C", "W")))
        tensor = pixels
        tensor = tensor.to(self.module.device, non_blocking=True)
        # A permuted view of HWC is channels_last already; the cast keeps that, so no copy is made for it.
        picture = tensor.permute(2, 0, 1)[None].to(self.module.dtype).div(127.5).sub(1.0)
        if self._fold > 1:
            picture = pixel_unshuffle(picture, self._fold).contiguous(memory_format=torch.channels_last)
        encoded = self.module.encode(picture)
        latents = encoded.latents if isinstance(self.module, AutoencoderTiny) else encoded.latent_dist.mode()
        scaled: Tensor = (latents - self._shift) * self._scale
        return scaled

    @torch.no_grad()
    def decode_on_device(self, latents: Tensor) -> Tensor:
        """[1, C, h, w] -> uint8 [H, W, 3] on the model's device, for who copies it asynchronously."""
        unscaled = latents.to(self.module.dtype) / self._scale
        picture: Tensor = self.module.decode(unscaled + self._shift).sample
        if self._fold > 1:
            picture = pixel_shuffle(picture, self._fold)
        return (
            picture[0]
            .float()
            .mul(127.5)
            .add(127.5)
            .round()
            .clamp(0, 255)
            .to(torch.uint8)
            .permute(1, 2, 0)
            .contiguous()
        )

    def decode(self, latents: Tensor) -> Pixels:
        """[1, C, h, w] -> uint8 [H, W, 3], on the host."""
        pixels: Pixels = self.decode_on_device(latents).cpu().numpy()
        return pixels
