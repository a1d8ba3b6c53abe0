"""What computes the networks: torch, or on a CPU OpenVINO's graphs of them where these agree with torch."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch.nn.functional import interpolate

from streamv2v_obs.errors import ConfigError
from streamv2v_obs.frames import Pixels
from streamv2v_obs.translator import openvino_graph
from streamv2v_obs.translator.latent import LatentTranslator
from streamv2v_obs.translator.model import TranslationModel
from streamv2v_obs.translator.openvino_path import CoderGraph, UNetGraph
from streamv2v_obs.translator.presets import DEMO

log = logging.getLogger(__name__)

Backend = Literal["torch", "openvino"]

LEAST_AGREEMENT_DB = 30.0
"""Below it a difference between the two is seen; two roundings of one network to bfloat16 are 35 to 45 dB apart."""

EXTRA = "pip install 'streamv2v-obs[openvino]'"


def wants_openvino(model: TranslationModel) -> bool:
    """Whether OpenVINO is to be tried. ``auto``: for the demo model, with which it was measured, on a CPU.

    Raises ConfigError where it was asked for and cannot be.
    """
    if model.backend == "torch":
        return False
    here = openvino_graph.installed()
    if model.backend == "openvino":
        if model.device.type != "cpu":
            raise ConfigError(
                f"model.backend = 'openvino' needs model.device: cpu, and this is {model.device.type}; use auto"
            )
        if not here:
            raise ConfigError(f"model.backend = 'openvino' needs a package that is not here: {EXTRA}; or use auto")
        return True
    suits = model.device.type == "cpu" and model.name == DEMO.name
    if suits and not here:
        log.info("torch computes; on a CPU OpenVINO is faster: %s", EXTRA)
    return suits and here


@dataclass(frozen=True)
class Graphs:
    """The networks of one translator as graphs, with the weights of one style."""

    coder: CoderGraph
    unet: UNetGraph
    style: str | None

    @property
    def key(self) -> str:
        """Of both together."""
        return f"{self.unet.key}-{self.coder.key}"

    @property
    def fresh(self) -> bool:
        """Whether any was converted just now."""
        return self.coder.fresh or self.unet.graph.fresh


def make_graphs(
    model: TranslationModel,
    latents: LatentTranslator,
    prompt_shape: tuple[int, int],
    size: tuple[int, int],
    row_threads: int,
) -> Graphs:
    """``prompt_shape`` is (L, D), ``size`` width and height; ``row_threads``: how many call at the same time, 0 or 1:
    one. Raises ModelLoadError where OpenVINO cannot take one.
    """
    threads, calls = torch.get_num_threads(), max(1, row_threads)
    # Encoder and decoder run beside the UNet's rows then, each in the place of one row.
    coder = CoderGraph(model.autoencoder, *size, model.dtype, openvino_graph.Sharing(max(1, threads // calls)))
    unet = UNetGraph(latents, prompt_shape, model.dtype, openvino_graph.Sharing(threads, calls))
    return Graphs(coder, unet, model.style)


# With two rows and a merge every 4th frame the last of them has seen a merged bank.
_FRAMES = 8


def trial_pictures(width: int, height: int) -> list[Pixels]:
    """Soft patches of colour under a grid, moving two pixels a frame: uint8 [height, width, 3] each."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand((1, 3, 8, 8), generator=generator)
    room = 2 * _FRAMES
    picture = interpolate(coarse, size=(height + room, width + room), mode="bicubic").clamp(0, 1)[0]
    picture[:, ::16] *= 0.5
    picture[:, :, ::16] *= 0.5
    whole = (255 * picture).to(torch.uint8).permute(1, 2, 0).numpy()
    return [np.ascontiguousarray(whole[n : n + height, 2 * n : 2 * n + width]) for n in range(_FRAMES)]


def psnr(one: list[Pixels], other: list[Pixels]) -> float:
    """Peak signal-to-noise ratio in dB over all pictures together; 100 at most."""
    squares = [np.square(a.astype(np.float32) - b).mean() for a, b in zip(one, other, strict=True)]
    return float(10 * np.log10(255**2 / max(float(np.mean(squares)), 255**2 * 1e-10)))
