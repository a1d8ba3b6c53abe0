"""One loader for presets, folders, repositories and single files: settings in, a model ready to run out."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import torch
from diffusers import UNet2DConditionModel
from torch import Tensor

from streamv2v_obs.errors import ModelLoadError
from streamv2v_obs.settings import Lora, ModelSettings
from streamv2v_obs.translator.components import Components, quieten, read_folder, reading
from streamv2v_obs.translator.cpu import quicken
from streamv2v_obs.translator.devices import choose_device, choose_dtype
from streamv2v_obs.translator.lcm import PredictionType
from streamv2v_obs.translator.lora import StyleSwitch, fuse, read_lora
from streamv2v_obs.translator.noise import NoiseKind
from streamv2v_obs.translator.origins import Origin, choose_autoencoder, find, lora_file
from streamv2v_obs.translator.pixels import Autoencoder
from streamv2v_obs.translator.single_file import read_single_file
from streamv2v_obs.translator.text import TextEncoder

log = logging.getLogger(__name__)


@dataclass
class Model:
    """Everything a translator needs, on one device in one dtype, in eval mode, without gradients.

    ``acp`` is alphas_cumprod, float32 [1000], on the CPU. ``width`` and ``height`` are those of the settings, else
    the model's native ones. ``weights_version`` grows with every switch of style: who keeps copies of weights (a
    joined QKV matrix) or embeddings of a prompt makes them anew when it has changed. ``backend`` is a wish: what
    computes is decided by each translator, since it depends on the size of the picture.
    """

    name: str
    unet: UNet2DConditionModel
    autoencoder: Autoencoder
    text: TextEncoder
    acp: Tensor
    prediction_type: PredictionType
    width: int
    height: int
    device: torch.device
    dtype: torch.dtype
    styles: StyleSwitch = field(repr=False)
    backend: Literal["auto", "torch", "openvino"] = "auto"
    initial_noise: NoiseKind = "white"

    def set_style(self, name: str | None) -> None:
        """Rewrite the weights in place for this style; None restores the loaded ones, bit-identical.

        Raises ConfigError on a name that is not among ``model.styles``.
        """
        self.styles.switch(name)

    @property
    def multiple(self) -> int:
        """Pixels that a side is best a multiple of: every level of the UNet then halves without a remainder."""
        levels = len(self.unet.config.block_out_channels)
        return int(self.autoencoder.factor * 2 ** (levels - 1))

    @property
    def style(self) -> str | None:
        """The style in force."""
        return self.styles.current

    @property
    def weights_version(self) -> int:
        """Grows with every switch that changed weights."""
        return self.styles.version


def _say(text: str) -> None:
    log.info("%s", text)


def load_model(settings: ModelSettings, *, progress: Callable[[str], None] = _say) -> Model:
    """Read, fuse, place and check what ``settings`` name; ``progress`` is told each step in a few words.

    Raises ModelLoadError (files missing, damaged, unsafe, of the wrong kind), OutOfDeviceMemory, ConfigError (a
    device that is not there).
    """
    device = choose_device(settings.device)
    dtype = choose_dtype(settings.dtype, device)
    quieten()
    origin = find(settings.name, device, progress)
    progress(f"reading {origin.name}")
    parts = _read(origin, settings.autoencoder, dtype)
    progress(f"moving to {device} as {str(dtype).removeprefix('torch.')}")
    with reading("model", origin.path):
        for module in (parts.unet, parts.autoencoder, parts.text_encoder):
            module.requires_grad_(False).eval().to(device)
        # Measured on a CPU with the demo model: the autoencoder takes 30 % less time in this layout, the UNet as much.
        parts.unet.to(memory_format=torch.channels_last)
        parts.autoencoder.to(memory_format=torch.channels_last)
        quicken(parts.unet, device, dtype)
        quicken(parts.autoencoder, device, dtype)
        # After the move: the sums of a few hundred layers take a GPU a moment and a CPU seconds.
        for lora in (*(Lora(path=str(path)) for path in origin.loras), *settings.loras):
            weights = read_lora(lora_file(lora), parts.unet.config)
            progress(f"fusing {weights.path.name}")
            fuse(parts.unet, parts.text_encoder, weights, lora.scale)
        read = {
            name: (read_lora(lora_file(lora), parts.unet.config), lora.scale) for name, lora in settings.styles.items()
        }
        styles = StyleSwitch(parts.unet, parts.text_encoder, read)
        autoencoder = Autoencoder(parts.autoencoder)
    width, height = _native_size(parts.unet, autoencoder, settings, origin.path)
    model = Model(
        name=origin.name,
        unet=parts.unet,
        autoencoder=autoencoder,
        text=TextEncoder(parts.tokenizer, parts.text_encoder),
        acp=parts.acp,
        prediction_type=parts.prediction_type,
        initial_noise=parts.initial_noise,
        width=width,
        height=height,
        device=device,
        dtype=dtype,
        styles=styles,
        backend=settings.backend,
    )
    if settings.style is not None:
        model.set_style(settings.style)
    progress(f"{model.name} is ready")
    return model


def _native_size(
    unet: UNet2DConditionModel, autoencoder: Autoencoder, settings: ModelSettings, path: Path
) -> tuple[int, int]:
    """Width and height of the settings, else what the UNet was made for: one number of latent cells, or two (h, w)."""
    if settings.width and settings.height:
        return settings.width, settings.height
    match unet.config.sample_size:
        case int(side):
            height, width = side, side
        case [int(height), int(width)]:
            pass
        case other:
            raise ModelLoadError(
                f"{path}: its UNet does not say for which size it was made (sample_size: {other}); "
                "set model.width and model.height"
            )
    return settings.width or width * autoencoder.factor, settings.height or height * autoencoder.factor


def _read(origin: Origin, autoencoder: str, dtype: torch.dtype) -> Components:
    chosen = choose_autoencoder(origin, autoencoder)
    if origin.config is not None:
        return read_single_file(origin.path, origin.config, dtype, chosen)
    return read_folder(origin.path, dtype, chosen)
