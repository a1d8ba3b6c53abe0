"""How well self-attention tells a bank of its own scene from another scene's, and how far it is from what it was."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn import functional

from streamv2v_obs.translator.attention import attend_sdpa

Asked = tuple[Tensor, Tensor]
"""Queries and keys of a layer, (n, N, heads, d) each."""


@dataclass
class NotingAttention:
    """Plain attention that notes what each layer asks."""

    asked: list[Asked] = field(default_factory=list)

    def __call__(self, q: Tensor, k: Tensor, v: Tensor, scale: float | None = None) -> Tensor:
        """(n, N, heads, d) each, as ``attend_sdpa``."""
        self.asked.append((q, k))
        return attend_sdpa(q, k, v, scale)


@dataclass(frozen=True)
class Verdict:
    """Of one layer; all but the shares are losses, with gradients."""

    moved: Tensor
    """Divergence from the attention of before (Kullback-Leibler, nats): to the picture itself, and beside its bank."""
    strayed: Tensor
    """-log of the share that another scene's bank leaves to the picture itself."""
    own: float
    foreign: float
    """Shares, 0 to 1, of the attention that a bank gets: of the same scene, and of another one."""


def judge(before: Asked, now: Asked, queries: Tensor) -> Verdict:
    """Pictures 2n and 2n+1 show a scene at two moments, and each is the other's bank; all others are foreign ones.

    ``queries``: numbers of those tokens that are asked about. A bank of one frame, in a batch of one prompt and noise.
    """
    (asked, keys), (asked_before, keys_before) = now, before
    scale = float(asked.shape[-1] ** -0.5)
    scores = torch.einsum("pqhd,fkhd->phqfk", asked[:, queries], keys).float() * scale
    number = torch.arange(len(keys), device=keys.device)
    partner = number ^ 1
    picture, bank = scores[number, :, :, number], scores[number, :, :, partner]

    def of_before(others: Tensor) -> Tensor:
        found: Tensor = torch.einsum("pqhd,pkhd->phqk", asked_before[:, queries], others).float() * scale
        return found

    picture_before, bank_before = of_before(keys_before), of_before(keys_before[partner])
    moved = _divergence([picture_before], [picture])
    moved = moved + _divergence([picture_before, bank_before], [picture, bank])
    mass = scores.logsumexp(-1)
    itself = mass[number, :, :, number]
    foreign = torch.ones(len(keys), len(keys), dtype=torch.bool, device=keys.device)
    foreign[number, number] = foreign[number, partner] = False
    ahead = (mass - itself.unsqueeze(-1)).permute(0, 3, 1, 2)
    return Verdict(
        moved,
        functional.softplus(ahead[foreign]).mean(),
        float(ahead.detach()[number, partner].sigmoid().mean()),
        float(ahead.detach()[foreign].sigmoid().mean()),
    )


def _divergence(before: Sequence[Tensor], now: Sequence[Tensor]) -> Tensor:
    wanted, found = (torch.cat(list(parts), -1).log_softmax(-1) for parts in (before, now))
    divergence: Tensor = (wanted.exp() * (wanted - found)).sum(-1).mean()
    return divergence
