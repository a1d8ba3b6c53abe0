"""Dynamic merging (DyMe, paper section 3.3): twice as many tokens as there is room for become their means."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import normalize

from streamv2v_obs.translator.fusion import most_similar

# 2^64 / golden ratio: spreads (seed, update) over the generator's seeds without two neighbours meeting.
_SPREAD = 0x9E3779B97F4A7C15


def partitions(
    how: Literal["by_age", "random"], seed: int, update: int, rows: int, tokens: Sequence[int]
) -> list[Tensor]:
    """What one update merges into what: for each layer of ``tokens[i]`` tokens an int64 (rows, 2 tokens[i])."""
    return partitions_by_age(rows, tokens) if how == "by_age" else draw_partitions(seed, update, rows, tokens)


def partitions_by_age(rows: int, tokens: Sequence[int]) -> list[Tensor]:
    """The bank's tokens merge into the frame's, which is not the paper's way.

    What is old fades by a half or more at every merge, on average; but where nothing moves each token meets its own
    former self, so that the bank stands still, too. Random halves move it at every update, which is seen.
    """
    return [torch.arange(2 * n).expand(rows, -1) for n in tokens]


def draw_partitions(seed: int, update: int, rows: int, tokens: Sequence[int]) -> list[Tensor]:
    """Random halves, as published.

    A function of its arguments alone, so that no generator has a state which a snapshot would have to carry. A row
    is a permutation of indices into [bank, current frame]; its first half is merged into its second half.
    """
    generator = torch.Generator("cpu").manual_seed((seed + _SPREAD * (update + 1)) % 2**64)
    return [torch.stack([torch.randperm(2 * n, generator=generator) for _ in range(rows)]) for n in tokens]


def merge(keys: Tensor, others: Sequence[Tensor], partition: Tensor) -> list[Tensor]:
    """Merge 2M tokens into M, each row of the batch by itself.

    ``keys`` and each of ``others``: (S, 2M, C); ``partition``: int64 (S, 2M), indices along dimension 1, the first
    half sources, the second half destinations. Each source goes to the destination whose *key* has the greatest
    cosine similarity with its own, over all C; each destination becomes the plain mean of itself and what it
    received. One assignment serves keys and others. Gives [keys, *others], each (S, M, C), in their own type.
    """
    rows, doubled = partition.shape
    half = doubled // 2
    # Whole tokens are copied, by their number in all rows together: a gather goes by element, many times slower.
    first = torch.arange(rows, device=partition.device).unsqueeze(1)
    numbered = partition + first * doubled
    sources, destinations = numbered[:, :half].flatten(), numbered[:, half:].flatten()
    unit = normalize(keys.to(torch.float32), dim=-1).to(keys.dtype).flatten(0, 1)
    _, nearest = most_similar(_pick(unit, sources, rows), _pick(unit, destinations, rows))
    slots = (nearest + first * half).flatten()
    counts = torch.ones(rows * half, device=keys.device).index_add_(
        0, slots, torch.ones_like(slots, dtype=torch.float32)
    )
    merged = []
    for feature in (keys, *others):
        tokens = feature.flatten(0, 1)
        source = tokens.index_select(0, sources).to(torch.float32)
        destination = tokens.index_select(0, destinations).to(torch.float32)
        # Means as "destination + mean difference": equal tokens stay exactly what they are, whatever their number.
        differences = source - destination.index_select(0, slots)
        sums = torch.zeros_like(differences).index_add_(0, slots, differences)
        means = destination + sums / counts.unsqueeze(1)
        merged.append(means.to(feature.dtype).view(rows, half, -1))
    return merged


def _pick(tokens: Tensor, numbers: Tensor, rows: int) -> Tensor:
    """tokens (S T, C) with these numbers (S M): (S, M, C)."""
    return tokens.index_select(0, numbers).view(rows, -1, tokens.shape[-1])
