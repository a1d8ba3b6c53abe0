"""A self-attention's three input projections as one matrix, its heads widened with zeros where kernels want that."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import linear, pad

from streamv2v_obs.translator.fused_ops import product_into


class JoinedProjections:
    """Copies of one attention's weights: ``project`` gives [Q K V], ``give_back`` takes what was attended.

    ``width`` of a head, at least the attention's own: more is filled with zeros, which change neither products nor
    similarities. ``refresh`` after the attention's weights have changed.
    """

    def __init__(self, attention: Any, width: int) -> None:
        self._attention = attention
        self.heads: int = attention.heads
        self.width = width
        self.own_width: int = attention.inner_dim // attention.heads
        self.channels = self.heads * width
        """Of queries, keys and values, each."""
        parts = (attention.to_q, attention.to_k, attention.to_v)
        self._weight = parts[0].weight.new_zeros((3 * self.channels, parts[0].weight.shape[1]))
        self._bias: Tensor | None = None
        if any(part.bias is not None for part in parts):
            self._bias = self._weight.new_zeros((3 * self.channels,))
        self._out: Tensor | None = None
        if width != self.own_width:
            self._out = self._weight.new_zeros((attention.to_out[0].weight.shape[0], self.channels))
        self.refresh()

    @property
    def scale(self) -> float:
        """Of the logits: that of the attention's own width."""
        return float(self.own_width**-0.5)

    @torch.no_grad()
    def refresh(self) -> None:
        """Copy the weights anew, into the same memory."""
        parts = (self._attention.to_q, self._attention.to_k, self._attention.to_v)
        for weight, part in zip(self._weight.chunk(3), parts, strict=True):
            weight.copy_(self._widened(part.weight))
        if self._bias is not None:
            for bias, part in zip(self._bias.chunk(3), parts, strict=True):
                if part.bias is not None:
                    bias.copy_(self._widened(part.bias.unsqueeze(1)).squeeze(1))
        if self._out is not None:
            self._out.copy_(self._widened(self._attention.to_out[0].weight.t()).t())

    def _widened(self, rows: Tensor) -> Tensor:
        """(heads own_width, C) -> (heads width, C)."""
        split = torch.unflatten(rows, 0, (self.heads, self.own_width))
        return pad(split, (0, 0, 0, self.width - self.own_width)).flatten(0, 1)

    def project(self, hidden: Tensor) -> tuple[Tensor, Tensor]:
        """(B, N, C) -> queries (B, N, channels), keys and values together (B, N, 2 channels): views of one product."""
        joined = linear(hidden, self._weight, self._bias)
        return joined[..., : self.channels], joined[..., self.channels :]

    @property
    def biased(self) -> bool:
        """Whether there is a bias, which ``project_into`` does not know."""
        return self._bias is not None

    def project_into(self, hidden: Tensor, three: Tensor) -> Tensor:
        """As ``project``, into ``three`` (B, N, 3 channels), which may be strided: queries, a view of that."""
        product_into(hidden, self._weight, three)
        return three[..., : self.channels]

    def give_back(self, attended: Tensor) -> Tensor:
        """(B, N, channels) -> (B, N, C), through the output projection."""
        if self._out is None:
            answer: Tensor = self._attention.to_out[0](attended)
            return answer
        return linear(attended, self._out, self._attention.to_out[0].bias)
