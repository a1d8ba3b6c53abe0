"""Where a model runs and how precisely."""

from __future__ import annotations

import logging
from typing import Literal

import torch

from streamv2v_obs.errors import ConfigError

log = logging.getLogger(__name__)

_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def choose_device(wanted: Literal["auto", "cpu", "cuda"]) -> torch.device:
    """``auto``: CUDA where there is a usable device, else the CPU. Raises ConfigError for a CUDA that is not there."""
    if wanted == "cpu":
        return torch.device("cpu")
    if torch.cuda.is_available():
        return torch.device("cuda", torch.cuda.current_device())
    if wanted == "cuda":
        build = (
            "this build of torch has no CUDA" if torch.version.cuda is None else "no CUDA device or driver is found"
        )
        raise ConfigError(f"model.device: cuda is asked for, but {build}; set model.device to auto or cpu")
    return torch.device("cpu")


def cpu_has_bfloat16() -> bool:
    """Whether the CPU multiplies bfloat16 in hardware (AVX512-BF16 or AMX).

    Elsewhere oneDNN emulates it, which is slower than float32. torch.cpu offers this only under a leading
    underscore, hence the careful look.
    """
    checks = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return any(check() for name in checks if (check := getattr(torch.cpu, name, None)) is not None)


def choose_dtype(wanted: Literal["auto", "float32", "bfloat16", "float16"], device: torch.device) -> torch.dtype:
    """``auto``: float16 on CUDA; on a CPU bfloat16 where it has the instructions, else float32."""
    if wanted == "auto":
        if device.type == "cuda":
            return torch.float16
        return torch.bfloat16 if cpu_has_bfloat16() else torch.float32
    dtype = _DTYPES[wanted]
    if device.type == "cpu" and (dtype is torch.float16 or (dtype is torch.bfloat16 and not cpu_has_bfloat16())):
        log.warning("model.dtype %s is slow on this CPU; auto would take %s", wanted, choose_dtype("auto", device))
    return dtype
