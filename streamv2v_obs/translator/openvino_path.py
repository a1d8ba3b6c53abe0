"""The translator's networks as OpenVINO graphs; the bank stays a ``FeatureBank``, and goes in and out of them."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from diffusers import UNet2DConditionModel
from torch import Tensor, nn

from streamv2v_obs.frames import Pixels
from streamv2v_obs.settings import FusionSettings
from streamv2v_obs.translator.attention import ExtendedAttention, attend_sdpa
from streamv2v_obs.translator.bank import BankLayer
from streamv2v_obs.translator.latent import LatentTranslator
from streamv2v_obs.translator.openvino_graph import Array, Graph, Sharing, fingerprint, graph
from streamv2v_obs.translator.pixels import AnyAutoencoder, Autoencoder


class _GivenBank:
    """The bank of one traced call: what it remembers are the graph's inputs, what it is given are its outputs."""

    def __init__(self, layers: Sequence[BankLayer], given: Sequence[Tensor]) -> None:
        self._layers = layers
        remembered = iter(given)
        self._given = [[next(remembered) for _ in range(3 if layer.fuses else 2)] for layer in layers] if given else []
        self.current: list[Tensor] = []
        """K and V of each layer and O where it fuses, in the order in which the layers run."""

    def extend(self, number: int, rows: slice, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        self.current += [keys, values]
        remembered_keys, remembered_values, *_ = self._given[number]
        return torch.cat([keys, remembered_keys], dim=1), torch.cat([values, remembered_values], dim=1)

    def put_output(self, number: int, rows: slice, output: Tensor) -> None:
        if self._layers[number].fuses:
            self.current.append(output)

    def remembered_output(self, number: int, rows: slice) -> Tensor | None:
        return self._given[number][2] if self._layers[number].fuses else None


class _UNetModule(nn.Module):
    """UNet and extended attention as a function of its arguments alone."""

    def __init__(
        self,
        unet: UNet2DConditionModel,
        layers: tuple[BankLayer, ...],
        fusion: FusionSettings,
        condition: Tensor | None,
    ) -> None:
        super().__init__()
        self.unet = unet
        self._layers = layers
        self._condition = condition
        self._extension = ExtendedAttention(unet, layers, None, fusion, attend_sdpa)
        self._extension.install()

    def forward(self, noised: Tensor, timesteps: Tensor, prompts: Tensor, *given: Tensor) -> tuple[Tensor, ...]:
        if given and any(layer.fuses for layer in self._layers):
            self._extension.strength, given = given[0], given[1:]
        bank = _GivenBank(self._layers, given)
        self._extension.bank = bank if given else None
        condition = None if self._condition is None else self._condition.expand(len(noised), -1)
        (prediction,) = self.unet(
            noised, timesteps, timestep_cond=condition, encoder_hidden_states=prompts, return_dict=False
        )
        return (prediction, *bank.current)


class UNetGraph:
    """Stands in for the UNet with its extended attention while the bank is full, or where there is none.

    While a bank fills (with dynamic merging: for one frame) the network has another shape; torch computes that.
    """

    def __init__(
        self, latents: LatentTranslator, prompt_shape: tuple[int, int], dtype: torch.dtype, sharing: Sharing
    ) -> None:
        unet, layers, fusion = latents.unet, latents.layers, latents.settings.fusion
        self._bank = bank = latents.bank
        self._extension = latents.extension
        self._layers = layers
        rows = latents.rows_in_a_call
        latent_shape = latents.rows.noise.shape[1:]
        example = [torch.zeros((rows, *latent_shape)), torch.full((rows,), 499), torch.zeros((rows, *prompt_shape))]
        if bank is not None:
            if any(layer.fuses for layer in layers):
                example.append(torch.zeros(1))
            for layer in layers:
                shape = (rows, layer.tokens * bank.capacity, layer.channels)
                example += [torch.zeros(shape) for _ in range(3 if layer.fuses else 2)]
        shapes = [tuple(tensor.shape) for tensor in example]
        condition = None if latents.condition is None else latents.condition.float()
        facts = (dict(unet.config), layers, fusion, shapes, sharing, None if condition is None else condition.tolist())
        self.key = fingerprint(unet, facts, dtype)

        def make() -> nn.Module:
            # A copy: the live UNet keeps its type, and the extension is installed in it again by the next call.
            latents.extension.remove()
            own = copy.deepcopy(unet).float()
            return _UNetModule(own, layers, fusion, condition).eval()

        self.graph: Graph = graph("unet", self.key, make, tuple(example), dtype, sharing)

    @property
    def ready(self) -> bool:
        """Whether the next call can be made: not while the bank fills."""
        return self._bank is None or self._bank.stored == self._bank.capacity

    def __call__(self, rows: slice, noised: Tensor, timesteps: Tensor, prompts: Tensor) -> Tensor:
        """What the UNet predicts for ``rows``, float32; the frame's K, V and O go into the bank."""
        inputs = [_array(noised), timesteps.numpy(), _array(prompts)]
        bank = self._bank
        if bank is not None:
            if any(layer.fuses for layer in self._layers):
                inputs.append(_array(self._extension.strength.reshape(1)))
            for number, layer in enumerate(self._layers):
                remembered = bank.remembered(number)[: 3 if layer.fuses else 2]
                inputs += [_array(part[rows]) for part in remembered]
        prediction, *current = self.graph(*inputs)
        if bank is not None:
            given = iter(current)
            for number, layer in enumerate(self._layers):
                bank.extend(number, rows, torch.from_numpy(next(given)), torch.from_numpy(next(given)))
                if layer.fuses:
                    bank.put_output(number, rows, torch.from_numpy(next(given)))
        return torch.from_numpy(prediction).clone()


def _array(tensor: Tensor) -> Array:
    array: Array = tensor.float().contiguous().numpy()
    return array


class _Encoder(nn.Module):
    def __init__(self, module: AnyAutoencoder) -> None:
        super().__init__()
        self.module = module
        self._coder = Autoencoder(module)

    def forward(self, pixels: Tensor) -> Tensor:
        return self._coder.encode(pixels)


class _Decoder(_Encoder):
    def forward(self, latents: Tensor) -> Tensor:
        return self._coder.decode_on_device(latents)


class CoderGraph:
    """The autoencoder at one size of picture: uint8 [H, W, 3] <-> scaled latents [1, C, h, w]."""

    def __init__(self, coder: Autoencoder, width: int, height: int, dtype: torch.dtype, sharing: Sharing) -> None:
        self.latent_channels = coder.latent_channels
        self.factor = coder.factor
        module = coder.module
        latents = torch.zeros((1, coder.latent_channels, height // coder.factor, width // coder.factor))
        pixels = torch.zeros((height, width, 3), dtype=torch.uint8)
        self.key = key = fingerprint(module, (dict(module.config), width, height, sharing), dtype)

        def own() -> Any:
            return copy.deepcopy(module).float()

        self._encode = graph("encoder", key, lambda: _Encoder(own()).eval(), (pixels,), dtype, sharing)
        self._decode = graph("decoder", key, lambda: _Decoder(own()).eval(), (latents,), dtype, sharing)

    @property
    def fresh(self) -> bool:
        """Whether one of the two was converted just now."""
        return self._encode.fresh or self._decode.fresh

    def encode(self, pixels: Pixels) -> Tensor:
        """float32 [1, C, h, w]."""
        (latents,) = self._encode(np.ascontiguousarray(pixels))
        return torch.from_numpy(latents).clone()

    def decode(self, latents: Tensor) -> Pixels:
        """uint8 [H, W, 3]."""
        (decoded,) = self._decode(_array(latents))
        pixels: Pixels = decoded.copy()
        return pixels
