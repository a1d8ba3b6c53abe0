"""LoRAs fused into the weights: for good at load, or as a style that is switched while running."""

from __future__ import annotations

import json
import logging
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers.loaders import StableDiffusionLoraLoaderMixin
from diffusers.utils.state_dict_utils import (
    convert_state_dict_to_diffusers,
    convert_state_dict_to_peft,
    convert_unet_state_dict_to_peft,
)
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor, nn

from streamv2v_obs.errors import ConfigError, ModelLoadError
from streamv2v_obs.translator.safe_weights import check_safetensors

log = logging.getLogger(__name__)

_UNET, _TEXT = "unet", "text_encoder"


@dataclass(frozen=True)
class LowRank:
    """One layer's change: ``factor * up @ down``, up [out, r, ..], down [r, in, ..]; ``factor`` is alpha / r."""

    down: Tensor
    up: Tensor
    factor: float

    def delta(self, shape: torch.Size) -> Tensor | None:
        """The change in float32 in the weight's shape, linear or convolution; None where it does not fit."""
        rank = self.down.shape[0]
        out, inner = shape[0], math.prod(shape[1:])
        if self.up.numel() != out * rank or self.down.numel() != rank * inner:
            return None
        if self.down.dim() == 4 and len(shape) == 4 and self.down.shape[1:] != shape[1:]:
            return None  # a kernel of another shape with as many numbers
        return (self.up.reshape(out, rank).float() @ self.down.reshape(rank, inner).float() * self.factor).reshape(
            shape
        )


@dataclass(frozen=True)
class LoraWeights:
    """A LoRA file: layer name -> change, for the UNet and for the text encoder."""

    path: Path
    unet: dict[str, LowRank]
    text: dict[str, LowRank]


def read_lora(path: Path, unet_config: Any = None) -> LoraWeights:
    """A .safetensors LoRA in diffusers', PEFT's or kohya's spelling, convolutions included.

    Raises ModelLoadError for a file that is none, or of a kind whose arithmetic is another one (LoHa, LoKr, DoRA).
    """
    check_safetensors(path)
    state = load_file(path)
    with safe_open(path, framework="numpy") as file:
        metadata = file.metadata() or {}
    for mark, kind in (("hada_", "LoHa"), ("lokr_", "LoKr"), ("dora_scale", "DoRA"), ("magnitude", "DoRA")):
        if any(mark in key for key in state):
            raise ModelLoadError(f"{path}: is a {kind}, which cannot be fused here; use a plain LoRA")
    if other := next((key for key in state if "lora_mid" in key or key.endswith(".bias")), None):
        raise ModelLoadError(f"{path}: {other} is no part of a plain LoRA; export it as one")
    if not any("lora" in key for key in state):
        raise ModelLoadError(f"{path}: holds no LoRA weights ({next(iter(state))}, ..)")
    try:
        spelled, alphas = StableDiffusionLoraLoaderMixin.lora_state_dict(state, unet_config=unet_config)
        merged = {**spelled, **(alphas or {})}
        if not any(key.startswith((f"{_UNET}.", f"{_TEXT}.")) for key in merged):
            merged = {f"{_UNET}.{key}": value for key, value in merged.items()}  # written by save_attn_procs
        unet = convert_unet_state_dict_to_peft(_part(merged, _UNET))
        text = _part(merged, _TEXT)
        if text and not any(".lora_A." in key for key in text):
            text = convert_state_dict_to_peft(convert_state_dict_to_diffusers(text))
    except (ValueError, KeyError, IndexError, AttributeError) as error:
        raise ModelLoadError(
            f"{path}: is no LoRA in a known spelling ({' '.join(str(error).split())[:200]})"
        ) from error
    settings = _adapter_settings(path, metadata)
    return LoraWeights(path, _pair(path, unet, _part(settings, _UNET)), _pair(path, text, _part(settings, _TEXT)))


def _part(state: Mapping[str, Any], name: str) -> dict[str, Any]:
    return {key.removeprefix(f"{name}."): value for key, value in state.items() if key.startswith(f"{name}.")}


def _adapter_settings(path: Path, metadata: Mapping[str, str]) -> dict[str, Any]:
    """What diffusers notes beside the weights (rank, alpha) in the file's header."""
    try:
        found = json.loads(metadata.get("lora_adapter_metadata", "{}"))
    except json.JSONDecodeError as error:
        raise ModelLoadError(f"{path}: lora_adapter_metadata in its header is no JSON; export it again") from error
    return found if isinstance(found, dict) else {}


def _pair(path: Path, state: dict[str, Any], settings: dict[str, Any]) -> dict[str, LowRank]:
    down: dict[str, Tensor] = {}
    up: dict[str, Tensor] = {}
    alphas: dict[str, float] = {}
    for key, value in state.items():
        if key.endswith(".alpha"):
            alphas[key.removesuffix(".alpha").split(".lora_A.")[0]] = float(value)
        elif key.endswith(".lora_A.weight"):
            down[key.removesuffix(".lora_A.weight")] = value
        elif key.endswith(".lora_B.weight"):
            up[key.removesuffix(".lora_B.weight")] = value
        else:
            raise ModelLoadError(f"{path}: {key} is no part of a LoRA in a known spelling")
    if odd := sorted(down.keys() ^ up.keys()):
        raise ModelLoadError(f"{path}: layer {odd[0]} has only one of its two matrices; download it again")
    pairs = {}
    for name, matrix in down.items():
        rank = matrix.shape[0]
        alpha = alphas.get(name, _noted_alpha(name, settings, rank))
        root = math.sqrt(rank) if settings.get("use_rslora") else rank
        pairs[name] = LowRank(matrix, up[name], alpha / root)
    return pairs


def _noted_alpha(layer: str, settings: dict[str, Any], rank: int) -> float:
    """The alpha of a layer by PEFT's rules: a pattern that matches the name's end, else the general one, else rank."""
    for pattern, alpha in (settings.get("alpha_pattern") or {}).items():
        if re.match(rf"(.*\.)?({pattern})$", layer):
            return float(alpha)
    return float(settings.get("lora_alpha", rank))


@dataclass(frozen=True)
class Change:
    """A weight and what is added to it."""

    weight: Tensor
    low_rank: LowRank
    scale: float

    def apply(self, base: Tensor) -> None:
        """Overwrite the weight in place with base + scale * delta, summed in float32."""
        delta = self.low_rank.delta(self.weight.shape)
        assert delta is not None  # noqa: S101 - plan() has tried it
        self.weight.copy_((base.float() + self.scale * delta).to(self.weight.dtype))


def plan(unet: nn.Module, text: nn.Module, weights: LoraWeights, scale: float) -> list[Change]:
    """All changes of a LoRA, checked against the model before any is made; low-rank parts on the model's device."""
    changes: list[Change] = []
    for part, module, pairs in ((_UNET, unet, weights.unet), (_TEXT, text, weights.text)):
        layers = dict(module.named_modules())
        for name, pair in pairs.items():
            # transformers 5 dropped the level "text_model" that files made before it name.
            layer = (
                layers.get(name) or layers.get(name.removeprefix("text_model.")) or layers.get(f"text_model.{name}")
            )
            if not isinstance(layer, (nn.Linear, nn.Conv2d)):
                raise ModelLoadError(
                    f"{weights.path}: does not fit this model: it changes {part}.{name}, which is not there; "
                    "use a LoRA made for the same family (SD 1.x or SD 2.x)"
                )
            device = layer.weight.device
            moved = LowRank(pair.down.to(device), pair.up.to(device), pair.factor)
            if moved.delta(layer.weight.shape) is None:
                raise ModelLoadError(
                    f"{weights.path}: does not fit this model: at {part}.{name} it is {list(pair.up.shape)} x "
                    f"{list(pair.down.shape)}, the weight is {list(layer.weight.shape)}; "
                    "use a LoRA made for the same family (SD 1.x or SD 2.x)"
                )
            changes.append(Change(layer.weight, moved, scale))
    if not changes:
        raise ModelLoadError(f"{weights.path}: changes nothing in a UNet or a text encoder; is it of another model?")
    return changes


@torch.no_grad()
def fuse(unet: nn.Module, text: nn.Module, weights: LoraWeights, scale: float) -> None:
    """Add a LoRA to the weights for good. Raises ModelLoadError, nothing changed, where it does not fit."""
    for change in plan(unet, text, weights, scale):
        change.apply(change.weight)


class StyleSwitch:
    """At most one style at a time, in the weights themselves: no cost per frame, no graph to capture anew.

    Keeps a copy of every weight that some style changes, on the model's device, and builds each style from it, so
    that switching back and forth a thousand times ends on the same bits. Used by the thread that runs the model.
    """

    def __init__(self, unet: nn.Module, text: nn.Module, styles: Mapping[str, tuple[LoraWeights, float]]) -> None:
        self.version = 0
        self.current: str | None = None
        self._styles = {name: plan(unet, text, weights, scale) for name, (weights, scale) in styles.items()}
        self._base = {
            change.weight: change.weight.detach().clone() for changes in self._styles.values() for change in changes
        }

    @torch.no_grad()
    def switch(self, name: str | None) -> None:
        """Make ``name`` the style in force; None: none. Raises ConfigError on an unknown one."""
        if name is not None and name not in self._styles:
            known = ", ".join(self._styles) or "none"
            raise ConfigError(f"style {name!r} is not among model.styles: {known}")
        if name == self.current:
            return
        coming = self._styles[name] if name is not None else []
        changed = {change.weight for change in coming}
        for change in self._styles[self.current] if self.current is not None else []:
            if change.weight not in changed:
                change.weight.copy_(self._base[change.weight])
        for change in coming:
            change.apply(self._base[change.weight])
        self.current = name
        self.version += 1
