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
    return normalize(output.float(), dim=-1) @ normalize(remembered.float(), dim=-1).transpose(1, 2)


def fuse(output: Tensor, remembered: Tensor, strength: Tensor | float, threshold: Tensor | float) -> Fused:
    """Equation 2: ``(1 - strength) O(p) + strength O_fb(q)`` with q the most similar token of the bank.

    ``output`` O: (S, N, C), ``remembered`` O_fb: (S, M, C), M > 0. Tokens whose best similarity is below
    ``threshold`` stay as they are.
    """
    similarity, index = cosine(output, remembered).max(-1)
    # Whole tokens, row by row of the batch: many times faster on a CPU than a gather, which goes by element.
    nearest = torch.stack([tokens.index_select(0, chosen) for tokens, chosen in zip(remembered, index, strict=True)])
    blended = (1 - strength) * output.float() + strength * nearest.float()
    near = (similarity >= threshold).unsqueeze(-1)
    return Fused(torch.where(near, blended.to(output.dtype), output), similarity, index)
