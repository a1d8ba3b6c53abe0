"""A small UNet with attention at every level, and runs of the translator core over moving random latents."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from diffusers import UNet2DConditionModel
from torch import Tensor

from streamv2v_obs.settings import BankSettings, FusionSettings, TranslatorSettings
from streamv2v_obs.translator.conformance import stable_diffusion_acp
from streamv2v_obs.translator.latent import LatentTranslator
from streamv2v_obs.translator.stream_batch import Origin
from tests.rigs.tiny_models import WIDTH, tiny_unet

CPU = torch.device("cpu")
SHAPE = (4, 8, 8)


def attentive_unet(seed: int = 0) -> UNet2DConditionModel:
    """Seven self-attention layers: two that only extend, five that fuse."""
    torch.manual_seed(seed)
    return tiny_unet(
        layers_per_block=1,
        down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
    ).requires_grad_(False)


def settings(**changes: Any) -> TranslatorSettings:
    """``bank`` and ``fusion`` take dicts. Threshold 0.9, since random weights are less alike than trained ones."""
    bank = BankSettings(**changes.pop("bank", {}))
    fusion = FusionSettings(**({"threshold": 0.9} | changes.pop("fusion", {})))
    return TranslatorSettings(**({"bank": bank, "fusion": fusion} | changes))


def translator(unet: UNet2DConditionModel, options: dict[str, Any] | None = None, **changes: Any) -> LatentTranslator:
    """A translator core in float32 on the CPU; ``changes`` of the settings, ``options`` of the constructor."""
    return LatentTranslator(
        unet, stable_diffusion_acp(), "epsilon", settings(**changes), SHAPE, CPU, torch.float32, **(options or {})
    )


def clip(frames: int, seed: int = 1) -> Tensor:
    """(frames, 4, 8, 8): one picture, changing slowly."""
    generator = torch.Generator().manual_seed(seed)
    still = torch.randn((1, *SHAPE), generator=generator)
    return still + 0.3 * torch.randn((frames, *SHAPE), generator=generator).cumsum(0) / 2


def prompt(seed: int = 2) -> Tensor:
    """(1, 5, WIDTH)."""
    return torch.randn((1, 5, WIDTH), generator=torch.Generator().manual_seed(seed))


def run(core: LatentTranslator, latents: Tensor, *, first: int = 0, words: Tensor | None = None) -> list[Tensor]:
    """What leaves at each step, warm-start copies included."""
    words = prompt() if words is None else words
    return [
        core.step(latent[None], words, Origin(captured_at=float(first + n), index=first + n)).latent
        for n, latent in enumerate(latents)
    ]


def equal(one: Sequence[Tensor], other: Sequence[Tensor]) -> bool:
    """Bit for bit."""
    return len(one) == len(other) and all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def furthest(one: Sequence[Tensor], other: Sequence[Tensor]) -> float:
    """The largest absolute difference."""
    return max((a - b).abs().max().item() for a, b in zip(one, other, strict=True))
