"""Which of ``translator.speed`` is in force on this machine; what was asked for and cannot be had is said aloud."""

from __future__ import annotations

import importlib.util
import logging
import shutil
from dataclasses import dataclass

import torch

from streamv2v_obs.settings import SpeedSettings, TranslatorSettings

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Rungs:
    """What is decided for a whole frame; what concerns single layers is decided by these."""

    graphs: bool
    compile: bool
    pinned: bool
    late_update: bool
    fused_activations: bool = False
    fused_norms: bool = False

    @property
    def static(self) -> bool:
        """Whether a frame runs over memory of its own, from pixels to pixels."""
        return self.graphs or self.compile or self.pinned


def _no_compiler(device: torch.device) -> str | None:
    """Why torch.compile cannot work here; None where it can."""
    if device.type == "cuda":
        missing = importlib.util.find_spec("triton") is None
        return "it needs triton, which is not installed (pip install triton-windows on Windows)" if missing else None
    found = any(shutil.which(name) for name in ("c++", "g++", "clang++", "cl"))
    return None if found else "it needs a C++ compiler, and none is found"


def choose_row_threads(settings: TranslatorSettings, device: torch.device) -> int:
    """How many rows of the stream batch are computed at once, by a thread each; 0: a call holds all rows."""
    wish = settings.speed.row_threads
    threads = min(settings.steps, torch.get_num_threads())
    obstacle = None
    if device.type != "cpu":
        obstacle = f"it is for a CPU, and this is {device.type}"
    elif settings.schedule == "sequential" or settings.steps == 1:
        obstacle = "there is one row at a time only"
    elif threads == 1:
        obstacle = "there is one thread only"
    elif settings.speed.compile is True:
        obstacle = "a compiled frame holds all rows in one call"
    if wish is True and obstacle is not None:
        log.warning("A SLOWER PATH IS TAKEN: translator.speed.row_threads cannot be had: %s", obstacle)
    return threads if wish and obstacle is None else 0


def choose_direct_keys(settings: TranslatorSettings) -> bool:
    """Whether queries, keys and values are computed into the bank; ``auto`` spares the memory that this takes."""
    obstacle = None
    if settings.bank.kind == "off":
        obstacle = "there is no bank"
    elif not settings.speed.joined_qkv:
        obstacle = "it is for joined queries, keys and values (translator.speed.joined_qkv)"
    return _granted("direct_keys", settings.speed.direct_keys, obstacle, auto=False)


def choose_folded_output(settings: TranslatorSettings, device: torch.device) -> bool:
    """Whether transformers run by folded weights; ``auto``: where a compiler spares the copy that joins inputs."""
    obstacle = None
    if settings.fusion.site == "block" and settings.fusion.strength > 0 and settings.bank.kind != "off":
        obstacle = "what a block answers is fused (translator.fusion.site), and then there has to be one"
    compiled = settings.speed.compile is True and device.type == "cuda" and _no_compiler(device) is None
    return _granted("folded_output", settings.speed.folded_output, obstacle, auto=compiled)


def _granted(name: str, wish: bool | str, obstacle: str | None, *, auto: bool) -> bool:
    """Whether a rung is on, which by itself is where ``auto``; a warning where it is wished and cannot be had."""
    if wish is True and obstacle is not None:
        log.warning("A SLOWER PATH IS TAKEN: translator.speed.%s cannot be had: %s", name, obstacle)
    return obstacle is None and (auto if wish == "auto" else bool(wish))


def choose_rungs(speed: SpeedSettings, device: torch.device) -> Rungs:
    """What is in force; a warning for each rung that was asked for (``true``) and cannot be had."""
    without_cuda = None if device.type == "cuda" else f"it needs a CUDA device, and this is {device.type}"
    obstacles = {"graphs": without_cuda, "pinned": without_cuda, "compile": _no_compiler(device)}
    chosen: dict[str, bool] = {}
    for name, obstacle in obstacles.items():
        wish = getattr(speed, name)
        if wish is True and obstacle is not None:
            log.warning("A SLOWER PATH IS TAKEN: translator.speed.%s cannot be had: %s", name, obstacle)
        # Compiling takes minutes at the start, which nobody should meet who did not ask for it.
        wanted = wish is True or (wish == "auto" and name != "compile")
        chosen[name] = wanted and obstacle is None
    uncompiled = without_cuda or (None if chosen["compile"] else "it is for a compiled frame, and this is none")
    # Fewer launches, but no GPU has yet said whether cuDNN has an engine for each, or our kernel keeps up with two of
    # the compiler's.
    chosen["fused_activations"] = _granted("fused_activations", speed.fused_activations, uncompiled, auto=False)
    chosen["fused_norms"] = _granted("fused_norms", speed.fused_norms, uncompiled, auto=False)
    return Rungs(**chosen, late_update=bool(speed.late_update))
