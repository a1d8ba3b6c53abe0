"""Attention kernels: those there are, and which one a level of the UNet is computed by, chosen by measurement."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol, TypeAlias

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import scaled_dot_product_attention

from streamv2v_obs.errors import ConfigError

log = logging.getLogger(__name__)

KernelName: TypeAlias = Literal["sdpa", "blocks", "flash", "cudnn", "efficient", "xformers"]
Wish: TypeAlias = Literal["auto", "sdpa", "blocks", "flash", "cudnn", "efficient", "xformers"]

PADDED_WIDTH = 64
"""Heads narrower than this may be widened to it with zeros: kernels are made for powers of two."""

_BACKENDS: Mapping[str, SDPBackend] = {
    "flash": SDPBackend.FLASH_ATTENTION,
    "cudnn": SDPBackend.CUDNN_ATTENTION,
    "efficient": SDPBackend.EFFICIENT_ATTENTION,
}


class Attend(Protocol):
    """Softmax attention of q (B, N, heads, d) over k, v (B, T, heads, d), which may be strided: (B, N, heads, d).

    ``scale`` of the logits; none: 1 / sqrt(d).
    """

    def __call__(self, q: Tensor, k: Tensor, v: Tensor, scale: float | None = None) -> Tensor: ...


def attend_sdpa(q: Tensor, k: Tensor, v: Tensor, scale: float | None = None) -> Tensor:
    """torch's own choice among its kernels; on every device."""
    q, k, v = q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2)
    return scaled_dot_product_attention(q, k, v, scale=scale).transpose(1, 2)


_SCORES_AT_ONCE = 2**20
"""Of one head: 2 MiB in bfloat16. With fewer, all keys are packed anew for so few queries that this takes longer."""
_CORES = os.cpu_count() or 1


def attend_in_blocks(q: Tensor, k: Tensor, v: Tensor, scale: float | None = None) -> Tensor:
    """Plain products over a part of the queries of a few heads at a time: a CPU's way in bfloat16.

    torch's kernel for CPUs multiplies in blocks too small for the processor's bfloat16 products. Here the scores are
    rounded to bfloat16: the answer is off by a hundredth of its spread (root mean square), torch's by a fifth of that.
    """
    rows, count, heads, width = q.shape
    # Of a query all scores may be less by the same: the mean key's, so that they are small and little is rounded off.
    k = k - k.mean(1, keepdim=True)
    # Each head's by themselves: strided, they are packed at half the speed, and anew for each part.
    queries, keys, values = (tokens.transpose(1, 2).flatten(0, 1).contiguous() for tokens in (q, k, v))
    keys, nothing = keys.transpose(1, 2), q.new_zeros(())
    attended = keys.shape[-1]
    size = min(count, max(1, _SCORES_AT_ONCE // attended))
    # A head for each core, or as many as make two blocks: scores of all heads would be in nobody's cache.
    together = max(_CORES, 2 * _SCORES_AT_ONCE // (size * attended))
    alpha = width**-0.5 if scale is None else scale
    made = [
        torch.cat(
            [
                torch.bmm(torch.baddbmm(nothing, part, some_keys, beta=0, alpha=alpha).softmax(-1), some_values)
                for part in torch.split(some_queries, size, dim=1)
            ],
            1,
        )
        for some_queries, some_keys, some_values in zip(
            torch.split(queries, together), torch.split(keys, together), torch.split(values, together), strict=True
        )
    ]
    return torch.cat(made).view(rows, heads, count, v.shape[-1]).transpose(1, 2)


def _attend_by(backend: SDPBackend) -> Attend:
    def attend(q: Tensor, k: Tensor, v: Tensor, scale: float | None = None) -> Tensor:
        with sdpa_kernel(backend):
            return attend_sdpa(q, k, v, scale)

    return attend


def _xformers() -> Attend:
    from xformers.ops import memory_efficient_attention

    def attend(q: Tensor, k: Tensor, v: Tensor, scale: float | None = None) -> Tensor:
        answer: Tensor = memory_efficient_attention(q, k, v, scale=scale)
        return answer

    return attend


def open_kernel(name: KernelName, device: torch.device, dtype: torch.dtype) -> Attend:
    """The kernel ``name``, tried once on a small sample. Raises ConfigError where it does not run."""
    said = f"translator.attention = {name!r}"
    # Chosen by device, never by whether the import succeeds: xformers imports everywhere and fails at the call.
    if name in ("xformers", "cudnn", "efficient") and device.type != "cuda":
        raise ConfigError(f"{said} needs a CUDA device, and this is {device.type}: use auto")
    try:
        attend: Attend = attend_sdpa
        if name == "xformers":
            attend = _xformers()
        elif name == "blocks":
            attend = attend_in_blocks
        elif name != "sdpa":
            attend = _attend_by(_BACKENDS[name])
        sample = torch.zeros((1, 8, 1, 64), device=device, dtype=dtype)
        attend(sample, sample, sample)
    except (ImportError, NotImplementedError, RuntimeError) as error:
        lines = str(error).strip().splitlines()
        raise ConfigError(f"{said} does not run here ({lines[0] if lines else type(error).__name__}): use auto") from (
            error
        )
    return attend


@dataclass(frozen=True)
class Level:
    """Shapes of one level's self-attention: ``tokens`` look at ``attended`` ones in ``rows`` pictures at once."""

    rows: int
    tokens: int
    attended: int
    heads: int
    width: int


@dataclass(frozen=True)
class Kernel:
    """What a level is computed by, and how wide its heads are then: the level's own width, or PADDED_WIDTH."""

    name: KernelName
    attend: Attend
    width: int


Timer: TypeAlias = Callable[[Attend, Level, torch.device, torch.dtype], float]
"""Milliseconds that one call over tensors of a level's shape takes."""


def time_kernel(attend: Attend, level: Level, device: torch.device, dtype: torch.dtype) -> float:
    """The median of seven; on CUDA by events. Raises what the kernel raises for shapes that it cannot take."""
    generator = torch.Generator("cpu").manual_seed(0)

    def tokens(count: int) -> Tensor:
        shape = (level.rows, count, level.heads, level.width)
        return torch.randn(shape, generator=generator).to(device, dtype)

    q, k, v = tokens(level.tokens), tokens(level.attended), tokens(level.attended)
    taken: list[float] = []
    for _ in range(3):
        attend(q, k, v)
    for _ in range(7):
        if device.type == "cuda":
            began: Any = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
            ended: Any = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
            began.record()
            attend(q, k, v)
            ended.record()
            ended.synchronize()
            taken.append(float(began.elapsed_time(ended)))
        else:
            began_at = time.perf_counter()
            attend(q, k, v)
            taken.append(1000 * (time.perf_counter() - began_at))
    return sorted(taken)[len(taken) // 2]


def _widths(level: Level, padding: bool | Literal["auto"]) -> list[int]:
    if level.width >= PADDED_WIDTH or padding is False:
        return [level.width]
    return [PADDED_WIDTH] if padding is True else [level.width, PADDED_WIDTH]


def fastest(
    level: Level,
    candidates: Mapping[KernelName, Attend],
    padding: bool | Literal["auto"],
    device: torch.device,
    dtype: torch.dtype,
    timer: Timer = time_kernel,
) -> Kernel:
    """The quickest of ``candidates`` for this level; those that cannot take its shapes are passed over."""
    found: list[tuple[float, Kernel]] = []
    for name, attend in candidates.items():
        for width in _widths(level, padding):
            shaped = Level(level.rows, level.tokens, level.attended, level.heads, width)
            try:
                found.append((timer(attend, shaped, device, dtype), Kernel(name, attend, width)))
            except (RuntimeError, ValueError, NotImplementedError) as error:
                log.debug("%s cannot take %s: %s", name, shaped, error)
    for taken, kernel in found:
        log.debug("%s of width %d takes %.3f ms for %s", kernel.name, kernel.width, taken, level)
    if not found:
        return Kernel("sdpa", attend_sdpa, level.width)
    return min(found, key=lambda pair: pair[0])[1]


def choose_kernels(
    wish: Wish,
    levels: Sequence[Level],
    padding: bool | Literal["auto"],
    device: torch.device,
    dtype: torch.dtype,
) -> list[Kernel]:
    """A kernel for each of ``levels``. ``auto`` measures on CUDA, is blocks on a CPU in bfloat16, and else sdpa.

    ``padding`` of narrow heads: ``auto`` measures that, too. Raises ConfigError for a kernel that was asked for by
    name and does not run.
    """
    measured = device.type == "cuda" and (wish == "auto" or padding == "auto")
    names: tuple[KernelName, ...] = ("sdpa",)
    if wish != "auto":
        names = (wish,)
    elif device.type == "cuda":
        names = ("flash", "cudnn", "efficient", "xformers")
    elif device.type == "cpu" and dtype is torch.bfloat16:
        names = ("blocks",)
    candidates: dict[KernelName, Attend] = {}
    for name in names:
        try:
            candidates[name] = open_kernel(name, device, dtype)
        except ConfigError as error:
            if wish != "auto":
                raise
            log.info("not among the attention kernels: %s", error)
    if not measured:
        ((name, attend),) = candidates.items()
        # Padding pays where kernels are made for certain widths; no CPU's is.
        wide = padding is True
        return [Kernel(name, attend, max(level.width, PADDED_WIDTH if wide else 0)) for level in levels]
    chosen = {level: fastest(level, candidates, padding, device, dtype) for level in dict.fromkeys(levels)}
    return [chosen[level] for level in levels]


def described(levels: Sequence[Level], kernels: Sequence[Kernel]) -> str:
    """Kernels in few words: ``sdpa``, or where levels differ ``cudnn 4096 (64 wide), flash 1024``."""
    names: dict[str, list[str]] = {}
    for level, kernel in dict(zip(levels, kernels, strict=True)).items():
        wide = f" ({kernel.width} wide)" if kernel.width != level.width else ""
        names.setdefault(kernel.name, []).append(f"{level.tokens}{wide}")
    if len(names) == 1 and not any("wide" in place for places in names.values() for place in places):
        return next(iter(names))
    return ", ".join(f"{name} {' '.join(dict.fromkeys(places))}" for name, places in names.items())
