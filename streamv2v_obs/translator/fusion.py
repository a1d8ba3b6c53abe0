"""Feature fusion (paper equation 2): a token is drawn towards the token of the bank that is most like it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import normalize


@dataclass(frozen=True)
class Fused:
    """``output`` (S, N, C) in the input's type; ``similarity`` float32 and ``index`` int64, both (S, N)."""

    output: Tensor
    similarity: Tensor
    index: Tensor


def cosine(output: Tensor, remembered: Tensor) -> Tensor:
    """Cosine similarity over all C of each token (S, N, C) with each of the bank's (S, M, C): float32 (S, N, M).

    In float32 whatever the model's type: next to the threshold 0.98, bfloat16 knows no finer step than 0.004.
    """
    return _unit(output) @ _unit(remembered).transpose(1, 2)


def _unit(tokens: Tensor) -> Tensor:
    return normalize(tokens.float(), dim=-1)


_COMPARED_AT_ONCE = 2**24
"""Similarities that exist at one time: 32 MiB in half precision."""


def most_similar(tokens: Tensor, others: Tensor) -> tuple[Tensor, Tensor]:
    """For each of ``tokens`` (S, N, C) its greatest inner product with ``others`` (S, M, C), and that one's number.

    Both (S, N). Never holds the whole matrix of an N and M of thousands: it is made, and reduced, in pieces.
    """
    rows, count, _ = tokens.shape
    size = max(1, _COMPARED_AT_ONCE // (rows * others.shape[1]))
    turned = others.transpose(1, 2)
    if size >= count:
        best = (tokens @ turned).max(-1)
        return best.values, best.indices
    pieces = [(piece @ turned).max(-1) for piece in torch.split(tokens, size, dim=1)]
    return torch.cat([best.values for best in pieces], 1), torch.cat([best.indices for best in pieces], 1)


def fuse(output: Tensor, remembered: Tensor, strength: Tensor | float, threshold: Tensor | float) -> Fused:
    """Equation 2: ``(1 - strength) O(p) + strength O_fb(q)`` with q the most similar token of the bank.

    ``output`` O: (S, N, C), ``remembered`` O_fb: (S, M, C), M > 0. Tokens whose best similarity is below
    ``threshold`` stay as they are.
    """
    similarity, index = most_similar(_unit(output), _unit(remembered))
    # Whole tokens, by their number in all rows together: a gather goes by element, many times slower on a CPU, and an
    # index_select of each row is an operation of each row.
    rows, count, _ = remembered.shape
    first = count * torch.arange(rows, device=index.device).unsqueeze(1)
    nearest = remembered.flatten(0, 1).index_select(0, (index + first).flatten()).view_as(output)
    blended = (1 - strength) * output.float() + strength * nearest.float()
    near = (similarity >= threshold).unsqueeze(-1)
    return Fused(torch.where(near, blended.to(output.dtype), output), similarity, index)
