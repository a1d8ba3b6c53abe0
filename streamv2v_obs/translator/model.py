"""What a translator needs of a loaded model."""

from __future__ import annotations

from typing import Literal, Protocol

import torch
from diffusers import UNet2DConditionModel
from torch import Tensor

from streamv2v_obs.translator.easing import PromptEncoder
from streamv2v_obs.translator.lcm import PredictionType
from streamv2v_obs.translator.noise import NoiseKind
from streamv2v_obs.translator.pixels import Autoencoder


class TranslationModel(Protocol):
    """``loading.Model`` is one."""

    @property
    def name(self) -> str: ...
    @property
    def backend(self) -> Literal["auto", "torch", "openvino"]: ...
    @property
    def style(self) -> str | None: ...
    @property
    def unet(self) -> UNet2DConditionModel: ...
    @property
    def autoencoder(self) -> Autoencoder: ...
    @property
    def text(self) -> PromptEncoder: ...
    @property
    def acp(self) -> Tensor: ...
    @property
    def prediction_type(self) -> PredictionType: ...
    @property
    def initial_noise(self) -> NoiseKind: ...
    @property
    def width(self) -> int: ...
    @property
    def height(self) -> int: ...
    @property
    def device(self) -> torch.device: ...
    @property
    def dtype(self) -> torch.dtype: ...
    @property
    def weights_version(self) -> int: ...
