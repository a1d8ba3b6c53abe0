"""Stable Diffusion 1.5 as shapes without contents: what is counted on it costs seconds, and no GPU."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from streamv2v_obs.bench import results
from streamv2v_obs.settings import Settings, TranslatorSettings

CPU = torch.device("cpu")
META = torch.device("meta")
"""Tensors that have shapes and no contents: the whole model fits anywhere, and a frame takes a second."""


_ATEN = torch.ops.aten
_NOTHING = frozenset(
    {
        *(_ATEN.empty, _ATEN.empty_like, _ATEN.empty_strided, _ATEN.new_empty, _ATEN.new_empty_strided),
        *(_ATEN._unsafe_view, _ATEN.dropout),
    }
)
"""No views by their schema, and yet nothing is launched for them: every model here is one that is not trained."""
_ONE_KERNEL = frozenset({_ATEN.scaled_dot_product_attention})
"""What torch may write out as several operations, though a device has one for it."""


class Launches(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts operations that compute or copy; views, and memory laid out, are free."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = kwargs or {}
        nothing = func.namespace == "prim" or func.overloadpacket in _NOTHING  # prim asks, as on which device
        if not nothing and func.overloadpacket not in _ONE_KERNEL:
            # Under inference_mode composite operations come whole, and a cast or a copy would look like a view.
            with self:
                answer = func.decompose(*args, **given)
            if answer is not NotImplemented:
                return answer
        self.count += not nothing and not func.is_view
        return func(*args, **given)


def place(module: torch.nn.Module) -> None:
    """From the meta device to fake tensors of the CPU, which a compiler takes for real; to be called in a mode."""
    for owner in module.modules():
        for name, parameter in owner._parameters.items():
            if parameter is not None:
                like = torch.empty_strided(parameter.shape, parameter.stride(), dtype=parameter.dtype, device=CPU)
                owner._parameters[name] = torch.nn.Parameter(like, requires_grad=False)
        for name, buffer in owner._buffers.items():
            if buffer is not None:
                owner._buffers[name] = torch.empty(buffer.shape, dtype=buffer.dtype, device=CPU)


def write(
    path: Path,
    *,
    steps: int,
    size: int,
    tensors: str,
    found: results.Section,
    notes: str,
    load_before: float,
    includes: Sequence[str],
) -> Path:
    """Write a result of kind "roofline" about SD 1.5 in half precision, of which nothing was run."""
    results.write(
        path,
        "roofline",
        command=results.command_line(),
        env=results.environment("cpu", load_before),
        config=results.configuration(
            Settings(translator=TranslatorSettings(steps=steps)),
            model="sd15",
            dtype="float16",
            schedule="stream" if steps > 1 else "sequential",
            width=size,
            height=size,
            weights="random",
        ),
        protocol={
            "warmup_frames": 1,
            "timed_frames": 0,
            "repeats": 1,
            "timer": "perf_counter+sync",
            "input": f"shapes alone, {tensors}",
            "includes": list(includes),
        },
        results=found,
        checks=[],
        notes=notes,
    )
    return path
