"""Extended self-attention while training: the UNet learns to find again, in a past frame's features, what it shows."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

import torch
from diffusers import UNet2DConditionModel
from torch import Tensor
from torch.nn.functional import cross_entropy

from streamv2v_obs.translator.attention import attend_sdpa


class LookingBack:
    """The self-attention of a UNet in training (paper equation 1), with a past frame's features or without.

    The translator's bank is made to run and keeps no gradients; this one keeps what enters each layer, so that both
    frames' keys and values are learned. Where a picture has gone is known while training, and told: left to find out
    by itself that there is something to be found again, the UNet had hardly begun after 3,000 steps.
    """

    def __init__(self, unet: UNet2DConditionModel) -> None:
        self._does: Literal["nothing", "notes", "looks"] = "nothing"
        self._past: dict[str, Tensor] = {}
        self._places: Tensor | None = None
        self._missed: list[Tensor] = []
        processors = unet.attn_processors
        for name in processors:
            if ".attn1." in name:
                processors[name] = _Attention(self, name)
        unet.set_attn_processor(processors)

    @contextmanager
    def noting(self) -> Iterator[None]:
        """Within it, calls leave their features behind, and no gradient."""
        self._past.clear()
        with torch.no_grad():
            yield from self._doing("notes")

    @contextmanager
    def looking(self, places: Tensor) -> Iterator[None]:
        """Within it, calls look at what was noted.

        ``places`` int64 (B, N): the past frame's token that shows what each of the present one's shows; -1: none does.
        """
        self._places = places
        self._missed.clear()
        yield from self._doing("looks")

    @property
    def missed(self) -> Tensor:
        """How far the last call's attention was from these places: cross-entropy, over layers of as many tokens."""
        return torch.stack(self._missed).mean()

    def compare(self, queries: Tensor, seen: Tensor) -> None:
        """Note how far one head's attention, of queries (B, N, d) to keys (B, 2N, d), is from where it should look."""
        places = self._places
        if self._does == "looks" and places is not None and places.shape == queries.shape[:2]:
            scores = queries @ seen.transpose(1, 2) * queries.shape[-1] ** -0.5
            there = torch.where(places < 0, places, places + queries.shape[1])
            self._missed.append(cross_entropy(scores.flatten(0, 1).float(), there.flatten(), ignore_index=-1))

    def _doing(self, what: Literal["notes", "looks"]) -> Iterator[None]:
        self._does = what
        try:
            yield
        finally:
            self._does = "nothing"

    def seen(self, name: str, entering: Tensor) -> Tensor:
        """What layer ``name`` attends to, (B, N or 2N, C), when (B, N, C) enters it."""
        if self._does == "notes":
            self._past[name] = entering.detach()
        return torch.cat([entering, self._past[name]], 1) if self._does == "looks" else entering


class _Attention:
    """diffusers' attention processor of one layer."""

    def __init__(self, owner: LookingBack, name: str) -> None:
        self._owner = owner
        self._name = name

    def __call__(self, attn: Any, hidden_states: Tensor, *_: Any, **__: Any) -> Tensor:
        seen, heads = self._owner.seen(self._name, hidden_states), (attn.heads, -1)
        queries, keys, values = attn.to_q(hidden_states), attn.to_k(seen), attn.to_v(seen)
        if attn.heads == 1:
            self._owner.compare(queries, keys)
        attended = attend_sdpa(queries.unflatten(-1, heads), keys.unflatten(-1, heads), values.unflatten(-1, heads))
        output: Tensor = attn.to_out[0](attended.flatten(-2))
        return output
