"""The feature bank (paper section 3.2): what self-attention remembers, in memory that is allocated once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from streamv2v_obs.errors import ConfigError
from streamv2v_obs.translator.merging import merge


@dataclass(frozen=True)
class BankLayer:
    """A self-attention layer: the name of its module, N tokens of C channels, and whether its output is fused."""

    name: str
    tokens: int
    channels: int
    fuses: bool


@dataclass(frozen=True)
class FeaturesSnapshot:
    """The filled part of a bank: for each layer [K, V] or [K, V, O], each (S, M, C)."""

    kind: str
    features: tuple[tuple[Tensor, ...], ...]
    stored: int
    updates: int


class FeatureBank:
    """Keys, values and (where fused) outputs of past frames, per layer and per row of the stream batch.

    A layer's buffer is (S, N + M, C): its first N tokens are the current frame's, written as the layer runs, the
    other M the bank's. Attention reads a prefix of it, so nothing is ever concatenated; while the bank is empty
    that prefix ends at N, so nobody attends to zeros. ``dyme``: M = N. ``queue``: M = length x N, oldest first.
    """

    def __init__(
        self,
        layers: Sequence[BankLayer],
        rows: int,
        *,
        kind: Literal["dyme", "queue"],
        length: int = 1,
        attended: bool = True,
        device: torch.device,
        dtype: torch.dtype,
        keep_all_outputs: bool = False,
    ) -> None:
        self.layers = tuple(layers)
        self.rows = rows
        self.kind = kind
        self.attended = attended
        """False: attention sees the current frame alone, and the bank is there for fusion only."""
        self.capacity = length if kind == "queue" else 1
        self.stored = 0
        """Frames' worth of tokens that the bank holds: 0 .. capacity."""
        self.updates = 0
        """Updates since the bank was empty, the first store included."""

        def buffer(layer: BankLayer) -> Tensor:
            return torch.zeros((rows, layer.tokens * (1 + self.capacity), layer.channels), device=device, dtype=dtype)

        self._buffers = tuple(
            tuple(buffer(layer) for _ in range(3 if layer.fuses or keep_all_outputs else 2)) for layer in self.layers
        )

    # --- while the UNet runs ---------------------------------------------------------------------------------

    def extend(self, number: int, rows: slice, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Take the current frame's K and V (rows, N, C) of layer ``number``; give [K; K_fb] and [V; V_fb] (eq. 1).

        What comes back are views of (rows, N + M, C), or (rows, N, C) while the bank is empty or not attended.
        """
        tokens = self.layers[number].tokens
        keys_buffer, values_buffer, *_ = self._buffers[number]
        keys_buffer[rows, :tokens].copy_(keys)
        values_buffer[rows, :tokens].copy_(values)
        end = tokens * (1 + self.stored) if self.attended else tokens
        return keys_buffer[rows, :end], values_buffer[rows, :end]

    def put_output(self, number: int, rows: slice, output: Tensor) -> None:
        """Take the current frame's un-fused O (rows, N, C), if this layer keeps outputs."""
        if len(self._buffers[number]) > 2:
            self._buffers[number][2][rows, : self.layers[number].tokens].copy_(output)

    def remembered_output(self, number: int, rows: slice) -> Tensor | None:
        """O_fb (rows, M, C) of layer ``number``; None while the bank is empty or if this layer does not fuse."""
        layer = self.layers[number]
        if not layer.fuses or self.stored == 0:
            return None
        return self._buffers[number][2][rows, layer.tokens : layer.tokens * (1 + self.stored)]

    # --- between two frames ----------------------------------------------------------------------------------

    def remembered(self, number: int) -> tuple[Tensor, ...]:
        """What the bank holds of layer ``number``: views [K, V] or [K, V, O], each (S, M, C), M = 0 while empty."""
        tokens = self.layers[number].tokens
        return tuple(buffer[:, tokens : tokens * (1 + self.stored)] for buffer in self._buffers[number])

    @property
    def next_update_merges(self) -> bool:
        """Whether the next ``update`` needs partitions."""
        return self.kind == "dyme" and self.stored > 0

    def update(self, partitions: Sequence[Tensor] | None = None) -> None:
        """Store the current frame, which still lies in the buffers. The first store is a copy of it.

        A queue then drops its oldest frame if it is full; dynamic merging merges bank and current frame by one
        partition for each layer: int64 (S, 2M), indices into [bank, current frame].
        """
        merging = self.next_update_merges
        if merging and partitions is None:
            raise ValueError("a merging update needs partitions")
        for number, (layer, buffers) in enumerate(zip(self.layers, self._buffers, strict=True)):
            n = layer.tokens
            if merging and partitions is not None:
                # A buffer holds [current frame, bank], a partition counts [bank, current frame].
                where = (partitions[number].to(buffers[0].device, torch.int64) + n) % (2 * n)
                for buffer, merged in zip(buffers, merge(buffers[0], buffers[1:], where), strict=True):
                    buffer[:, n:].copy_(merged)
                continue
            for buffer in buffers:
                if self.stored == self.capacity:
                    for slot in range(1, self.capacity):
                        buffer[:, slot * n : (slot + 1) * n].copy_(buffer[:, (slot + 1) * n : (slot + 2) * n])
                slot = min(self.stored + 1, self.capacity)
                buffer[:, slot * n : (slot + 1) * n].copy_(buffer[:, :n])
        self.stored = min(self.stored + 1, self.capacity)
        self.updates += 1

    def clear(self) -> None:
        """Empty the bank; its memory stays."""
        self.stored = 0
        self.updates = 0

    def snapshot(self) -> FeaturesSnapshot:
        """A copy of what the bank holds, on the bank's device."""
        features = tuple(tuple(part.clone() for part in self.remembered(i)) for i in range(len(self.layers)))
        return FeaturesSnapshot(self.kind, features, self.stored, self.updates)

    def restore(self, snapshot: FeaturesSnapshot) -> None:
        """Bring back what the bank held. Raises ConfigError if it was a bank of another shape."""
        shapes = [[part.shape for part in layer] for layer in snapshot.features]
        fitting = [
            [(self.rows, layer.tokens * snapshot.stored, layer.channels)] * len(buffers)
            for layer, buffers in zip(self.layers, self._buffers, strict=True)
        ]
        if snapshot.kind != self.kind or snapshot.stored > self.capacity or shapes != fitting:
            raise ConfigError(
                f"this {snapshot.kind} bank was saved with another bank.kind, bank.length, steps or picture size "
                "than now; reset the bank instead"
            )
        self.stored = snapshot.stored
        for number, features in enumerate(snapshot.features):
            for part, saved in zip(self.remembered(number), features, strict=True):
                part.copy_(saved)
        self.updates = snapshot.updates

    @property
    def bytes(self) -> int:
        """Device memory of all buffers, the current frame's part included; it never changes."""
        return sum(buffer.numel() * buffer.element_size() for buffers in self._buffers for buffer in buffers)
