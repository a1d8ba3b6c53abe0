"""Operations of a compiled frame that are one launch each on a GPU: convolution with activation, group normalisation.

Each is plain torch on a CPU. On CUDA the convolution is cuDNN's own fused call, which torch makes as one launch where
cuDNN has an engine for it, and the normalisation is our kernel (``norm_kernel.py``), which needs triton.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import conv2d, group_norm, silu

NAMESPACE = "streamv2v_obs"

# --- convolution and ReLU ----------------------------------------------------------------------------------------


@torch.library.custom_op(
    f"{NAMESPACE}::convolution_relu",
    mutates_args=(),
    device_types="cpu",
    schema="(Tensor pixels, Tensor weight, Tensor bias, Tensor? added, int[] stride, int[] padding, int[] dilation)"
    " -> Tensor",
)
def convolution_relu(
    pixels: Tensor,
    weight: Tensor,
    bias: Tensor,
    added: Tensor | None,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
) -> Tensor:
    """relu(convolution + added), (B, C, h, w) -> (B, C', h', w'); ``added`` has the answer's shape."""
    answer = conv2d(pixels, weight, bias, tuple(stride), tuple(padding), tuple(dilation))
    return (answer if added is None else answer.add_(added)).relu_()


@convolution_relu.register_kernel("cuda")
def _convolution_relu_cuda(
    pixels: Tensor,
    weight: Tensor,
    bias: Tensor,
    added: Tensor | None,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
) -> Tensor:
    shape = (list(stride), list(padding), list(dilation), 1)
    if added is None:
        return torch.cudnn_convolution_relu(pixels, weight, bias, *shape)
    return torch.cudnn_convolution_add_relu(pixels, weight, added, 1.0, bias, *shape)


@convolution_relu.register_fake
def _convolution_relu_shape(
    pixels: Tensor, weight: Tensor, bias: Tensor, _added: Tensor | None, *shape: Sequence[int]
) -> Tensor:
    stride, padding, dilation = map(tuple, shape)
    return conv2d(pixels, weight, bias, stride, padding, dilation)


# --- products ----------------------------------------------------------------------------------------------------


@torch.library.custom_op(
    f"{NAMESPACE}::product_into",
    mutates_args=("into",),
    schema="(Tensor tokens, Tensor weight, Tensor(a!) into) -> ()",
)
def product_into(tokens: Tensor, weight: Tensor, into: Tensor) -> None:
    """(B, N, C) by the transpose of (C', C), written into (B, N, C'), whose rows may lie apart: one call of cuBLAS.

    Left to the compiler, an answer that is written elsewhere is copied there by a launch of its own.
    """
    torch.bmm(tokens, weight.t().expand(len(tokens), -1, -1), out=into)


@product_into.register_fake
def _product_into_nothing(tokens: Tensor, weight: Tensor, into: Tensor) -> None:
    return None


# --- group normalisation -----------------------------------------------------------------------------------------


@torch.library.custom_op(
    f"{NAMESPACE}::sum_group_norm",
    mutates_args=(),
    device_types="cpu",
    schema="(Tensor first, Tensor? second, Tensor? beside, Tensor? of_rows, Tensor[] biases, Tensor weight, "
    "Tensor shift, int groups, float eps, bool activated, bool keep) -> Tensor[]",
)
def sum_group_norm(
    first: Tensor,
    second: Tensor | None,
    beside: Tensor | None,
    of_rows: Tensor | None,
    biases: Sequence[Tensor],
    weight: Tensor,
    shift: Tensor,
    groups: int,
    eps: float,
    activated: bool,
    keep: bool,
) -> list[Tensor]:
    """Group normalisation of cat([first + second + of_rows + biases, beside], 1), SiLU after it where ``activated``.

    ``first`` and ``second`` (B, C, h, w), ``of_rows`` (B, C), at most two ``biases`` (C,), ``beside`` (B, C', h, w).
    Gives what is normalised, (B, C + C', h, w), and where ``keep`` the sum that was normalised as well. The sum is
    made in float32 and rounded once.
    """
    total = first.float()
    if second is not None:
        total = total + second
    if of_rows is not None:
        total = total + of_rows[:, :, None, None]
    for bias in biases:
        total = total + bias[:, None, None]
    total = total.to(first.dtype)
    if beside is not None:
        total = torch.cat([total, beside], 1)
    answer = group_norm(total, groups, weight, shift, eps)
    answer = silu(answer) if activated else answer
    # An operation's answer is never its input.
    return [answer, total.clone() if total is first else total] if keep else [answer]


@sum_group_norm.register_kernel("cuda")
def _sum_group_norm_cuda(*given: Any) -> list[Tensor]:
    from streamv2v_obs.translator.norm_kernel import launch

    *summands_and_weights, activated, keep = given
    return launch(*summands_and_weights, activated=activated, keep=keep)


@sum_group_norm.register_fake
def _sum_group_norm_shape(first: Tensor, _second: Tensor | None, beside: Tensor | None, *others: Any) -> list[Tensor]:
    return answers(first, beside, keep=others[-1])


def answers(first: Tensor, beside: Tensor | None, *, keep: bool) -> list[Tensor]:
    """Memory for what ``sum_group_norm`` gives: channels_last."""
    rows, channels, height, width = first.shape
    shape = (rows, channels + (0 if beside is None else beside.shape[1]), height, width)
    return [
        torch.empty(shape, dtype=first.dtype, device=first.device, memory_format=torch.channels_last)
        for _ in range(1 + keep)
    ]
