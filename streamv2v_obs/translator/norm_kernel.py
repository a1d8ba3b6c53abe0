"""Group normalisation as one Triton kernel, with the sum before it and the SiLU after it; needs triton.

A program takes one group of one picture: it reads the group twice, the second time out of the cache.
"""

# What a kernel takes has types of its own.
# ruff: noqa: ANN001
# mypy: disable-error-code="untyped-decorator,no-untyped-def"

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from streamv2v_obs.translator.fused_ops import answers

_AT_ONCE = 4096
"""Numbers of a group that a program holds at a time, in registers."""
_WARPS = 8


@triton.jit
def _read(
    first,
    second,
    beside,
    of_rows,
    bias,
    other_bias,
    row,
    pixel,
    channel,
    real,
    pixels,
    OWN: tl.constexpr,
    BESIDE: tl.constexpr,
    SECOND: tl.constexpr,
    OF_ROWS: tl.constexpr,
    BIASES: tl.constexpr,
) -> Any:
    """A tile of the sum, float32 but rounded to the model's type; ``real`` masks it, ``OWN`` channels are first's."""
    own = real & (channel < OWN)
    at = (row * pixels + pixel) * OWN + channel
    total = tl.load(first + at, mask=own, other=0.0).to(tl.float32)
    if SECOND:
        total += tl.load(second + at, mask=own, other=0.0).to(tl.float32)
    here = channel < OWN
    if OF_ROWS:
        total += tl.load(of_rows + row * OWN + channel, mask=here, other=0.0).to(tl.float32)
    if BIASES > 0:
        total += tl.load(bias + channel, mask=here, other=0.0).to(tl.float32)
    if BIASES > 1:
        total += tl.load(other_bias + channel, mask=here, other=0.0).to(tl.float32)
    if BESIDE > 0:
        at = (row * pixels + pixel) * BESIDE + channel - OWN
        total = tl.where(here, total, tl.load(beside + at, mask=real & (channel >= OWN), other=0.0).to(tl.float32))
    return total.to(first.dtype.element_ty).to(tl.float32)


@triton.jit
def _kernel(
    first,
    second,
    beside,
    of_rows,
    bias,
    other_bias,
    weight,
    shift,
    normed,
    summed,
    pixels,
    eps,
    OWN: tl.constexpr,
    BESIDE: tl.constexpr,
    GROUPS: tl.constexpr,
    SECOND: tl.constexpr,
    OF_ROWS: tl.constexpr,
    BIASES: tl.constexpr,
    ACTIVATED: tl.constexpr,
    KEEP: tl.constexpr,
    HIGH: tl.constexpr,
    WIDE: tl.constexpr,
) -> None:
    SIZE: tl.constexpr = (OWN + BESIDE) // GROUPS
    row, group = tl.program_id(0) // GROUPS, tl.program_id(0) % GROUPS
    column = tl.arange(0, WIDE)[None, :]
    channel = group * SIZE + column
    wanted = column < SIZE
    count, mean, squares = 0.0, 0.0, 0.0
    for begin in range(0, pixels, HIGH):
        pixel = begin + tl.arange(0, HIGH)[:, None]
        real = wanted & (pixel < pixels)
        total = _read(
            first,
            second,
            beside,
            of_rows,
            bias,
            other_bias,
            row,
            pixel,
            channel,
            real,
            pixels,
            OWN,
            BESIDE,
            SECOND,
            OF_ROWS,
            BIASES,
        )
        # Each tile's own mean and squares, joined (Chan et al.): a sum of squares alone would lose the digits.
        more = tl.minimum(pixels - begin, HIGH) * SIZE * 1.0
        there = tl.sum(tl.where(real, total, 0.0)) / more
        apart = tl.where(real, total - there, 0.0)
        step = there - mean
        squares += tl.sum(apart * apart) + step * step * count * more / (count + more)
        mean += step * more / (count + more)
        count += more
    scale = 1.0 / tl.sqrt(squares / count + eps)
    known = wanted & (channel < OWN + BESIDE)
    factor = tl.load(weight + channel, mask=known, other=0.0).to(tl.float32) * scale
    offset = tl.load(shift + channel, mask=known, other=0.0).to(tl.float32)
    for begin in range(0, pixels, HIGH):
        pixel = begin + tl.arange(0, HIGH)[:, None]
        real = wanted & (pixel < pixels)
        total = _read(
            first,
            second,
            beside,
            of_rows,
            bias,
            other_bias,
            row,
            pixel,
            channel,
            real,
            pixels,
            OWN,
            BESIDE,
            SECOND,
            OF_ROWS,
            BIASES,
        )
        at = (row * pixels + pixel) * (OWN + BESIDE) + channel
        if KEEP:
            tl.store(summed + at, total.to(summed.dtype.element_ty), mask=real)
        answer = (total - mean) * factor + offset
        if ACTIVATED:
            answer = answer / (1.0 + tl.exp(-answer))
        tl.store(normed + at, answer.to(normed.dtype.element_ty), mask=real)


def launch(
    first: Tensor,
    second: Tensor | None,
    beside: Tensor | None,
    of_rows: Tensor | None,
    biases: Sequence[Tensor],
    weight: Tensor,
    shift: Tensor,
    groups: int,
    eps: float,
    *,
    activated: bool,
    keep: bool,
) -> list[Tensor]:
    """As ``fused_ops.sum_group_norm``, in one launch where all pictures are channels_last, as a frame's are."""

    def laid_out(picture: Tensor | None) -> Tensor | None:
        return None if picture is None else picture.contiguous(memory_format=torch.channels_last)

    pictures = [laid_out(picture) for picture in (first, second, beside)]
    vectors = [None if vector is None else vector.contiguous() for vector in (of_rows, *biases)]
    vectors += [None] * (3 - len(vectors))
    given: list[Any] = [part if part is not None else first for part in (*pictures, *vectors)]
    made = answers(first, beside, keep=keep)
    rows, own, height, width = first.shape
    other = 0 if beside is None else beside.shape[1]
    wide = triton.next_power_of_2((own + other) // groups)
    with torch.cuda.device_of(first):  # type: ignore[no-untyped-call]
        _kernel[(rows * groups,)](
            *given,
            weight,
            shift,
            made[0],
            made[-1],
            height * width,
            eps,
            OWN=own,
            BESIDE=other,
            GROUPS=groups,
            SECOND=second is not None,
            OF_ROWS=of_rows is not None,
            BIASES=len(biases),
            ACTIVATED=activated,
            KEEP=keep,
            HIGH=max(1, min(_AT_ONCE // wide, triton.next_power_of_2(height * width))),
            WIDE=wide,
            num_warps=_WARPS,
        )
    return made
