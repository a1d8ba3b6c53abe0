"""The feature bank (paper section 3.2): what self-attention remembers, in memory that is allocated once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from streamv2v_obs.errors import ConfigError
from streamv2v_obs.translator.merging import merge


@dataclass(frozen=True)
class BankLayer:
    """A self-attention layer: the name of its module, N tokens of C channels, and whether its output is fused.

    ``widened``: channels of its keys and values where they are more than C.
    """

    name: str
    tokens: int
    channels: int
    fuses: bool
    widened: int | None = None

    @property
    def key_channels(self) -> int:
        """Of keys and values."""
        return self.widened or self.channels


@dataclass(frozen=True)
class _SizeClass:
    """The layers of one shape, ``numbers`` of them, in one piece of memory: they are updated together.

    ``keys_values`` (2, L, S, N + M, C), ``outputs`` (L, S, N + M, C) or None; ``where`` int64 (L S, 2N): the partition
    that the next merge follows.
    """

    tokens: int
    numbers: tuple[int, ...]
    keys_values: Tensor
    outputs: Tensor | None
    where: Tensor

    @property
    def parts(self) -> tuple[Tensor, ...]:
        """Keys, values, and outputs where they are kept, each (L S, N + M, C)."""
        keys, values = self.keys_values.flatten(1, 2)
        return (keys, values) if self.outputs is None else (keys, values, self.outputs.flatten(0, 1))


@dataclass(frozen=True)
class FeaturesSnapshot:
    """The filled part of a bank: for each layer [K, V] or [K, V, O], each (S, M, C)."""

    kind: str
    features: tuple[tuple[Tensor, ...], ...]
    stored: int
    updates: int


class FeatureBank:
    """Keys, values and (where fused) outputs of past frames, per layer and per row of the stream batch.

    A layer's part of a buffer is (S, N + M, C): its first N tokens are the current frame's, written as the layer runs,
    the other M the bank's. Attention reads a prefix of it, so nothing is ever concatenated; while the bank is empty
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
        with_queries: bool = False,
    ) -> None:
        """``with_queries``: beside each key and value lies room for a query, so that one product writes all three."""
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

        alike: dict[tuple[int, int, int, bool], list[int]] = {}
        for number, layer in enumerate(self.layers):
            keeps = layer.fuses or keep_all_outputs
            alike.setdefault((layer.tokens, layer.key_channels, layer.channels, keeps), []).append(number)
        buffers: dict[int, tuple[Tensor, ...]] = {}
        # Where the current frame's queries, keys and values of a layer are written: (S, N, 3C) each.
        self._three: dict[int, Tensor] = {}
        classes: list[_SizeClass] = []
        for (tokens, key_channels, channels, keeps), numbers in alike.items():
            # Rows of a layer lie together, layers of a class one after the other, so that all of them are one batch.
            shape = (len(numbers), rows, tokens * (1 + self.capacity))
            if with_queries:
                three = torch.zeros((*shape, 3, key_channels), device=device, dtype=dtype)
                both = three[..., 1:, :].movedim(-2, 0)
                for place, number in enumerate(numbers):
                    self._three[number] = three[place, :, :tokens].flatten(-2)
            else:
                both = torch.zeros((2, *shape, key_channels), device=device, dtype=dtype)
            outputs = torch.zeros((*shape, channels), device=device, dtype=dtype) if keeps else None
            where = torch.zeros((len(numbers) * rows, 2 * tokens), device=device, dtype=torch.int64)
            classes.append(_SizeClass(tokens, tuple(numbers), both, outputs, where))
            for place, number in enumerate(numbers):
                kept = (both[0, place], both[1, place])
                buffers[number] = kept if outputs is None else (*kept, outputs[place])
        self._classes = tuple(classes)
        self._buffers = tuple(buffers[number] for number in range(len(self.layers)))
        # Keys and values of a layer side by side, for who writes both at once: (2, S, N + M, C).
        self._joined = {
            number: one.keys_values[:, place] for one in classes for place, number in enumerate(one.numbers)
        }

    # --- while the UNet runs ---------------------------------------------------------------------------------

    def extend(self, number: int, rows: slice, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Take the current frame's K and V (rows, N, C) of layer ``number``; give [K; K_fb] and [V; V_fb] (eq. 1).

        What comes back are views of (rows, N + M, C), or (rows, N, C) while the bank is empty or not attended.
        """
        tokens = self.layers[number].tokens
        keys_buffer, values_buffer, *_ = self._buffers[number]
        keys_buffer[rows, :tokens].copy_(keys)
        values_buffer[rows, :tokens].copy_(values)
        return self.written(number, rows)

    def extend_joined(self, number: int, rows: slice, both: Tensor) -> tuple[Tensor, Tensor]:
        """As ``extend``, with K and V behind each other in the channels of one tensor (rows, N, 2C): one copy."""
        tokens = self.layers[number].tokens
        self._joined[number][:, rows, :tokens].copy_(torch.unflatten(both, -1, (2, -1)).movedim(-2, 0))
        return self.written(number, rows)

    def room(self, number: int, rows: slice) -> Tensor | None:
        """Where [Q K V] of the current frame, (rows, N, 3C), may be computed into; None where only keys have room."""
        three = self._three.get(number)
        return None if three is None else three[rows]

    def written(self, number: int, rows: slice) -> tuple[Tensor, Tensor]:
        """As ``extend``, with the current frame's K and V in their place already."""
        tokens = self.layers[number].tokens
        keys_buffer, values_buffer, *_ = self._buffers[number]
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
        self.prepare_update(partitions)
        self.compute_update()
        self.count_update()

    def prepare_update(self, partitions: Sequence[Tensor] | None) -> None:
        """Lay ready by which partitions the next update merges, if it merges."""
        if not self.next_update_merges:
            return
        if partitions is None:
            raise ValueError("a merging update needs partitions")
        for one in self._classes:
            # A buffer holds [current frame, bank], a partition counts [bank, current frame].
            doubled = 2 * one.tokens
            where = torch.cat([(partitions[number].to(torch.int64) + one.tokens) % doubled for number in one.numbers])
            if one.where.device.type == "cuda":
                where = where.pin_memory()  # else the copy would wait for all that the device has still to do
            one.where.copy_(where, non_blocking=True)

    def compute_update(self) -> None:
        """The update's work on the device alone, which is the same at every update once the bank is full."""
        for one in self._classes:
            n = one.tokens
            if self.next_update_merges:
                for rows in _chunks(one):
                    buffers = [part[rows] for part in one.parts]
                    merged = merge(buffers[0], buffers[1:], one.where[rows])
                    for buffer, means in zip(buffers, merged, strict=True):
                        buffer[:, n:].copy_(means)
                continue
            for buffer in one.parts:
                if self.stored == self.capacity:
                    for slot in range(1, self.capacity):
                        buffer[:, slot * n : (slot + 1) * n].copy_(buffer[:, (slot + 1) * n : (slot + 2) * n])
                slot = min(self.stored + 1, self.capacity)
                buffer[:, slot * n : (slot + 1) * n].copy_(buffer[:, :n])

    def count_update(self) -> None:
        """Note that an update was computed."""
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
            [(self.rows, layer.tokens * snapshot.stored, buffer.shape[-1]) for buffer in buffers]
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
        kept = sum(buffer.numel() * buffer.element_size() for buffers in self._buffers for buffer in buffers)
        # Of three parts beside each other two are keys and values.
        beside = sum(buffers[0].numel() * buffers[0].element_size() for buffers in self._buffers) if self._three else 0
        return kept + beside


# Of a merge's float32 copies of the tokens: 32 MiB, so that a card with little memory has room for them and a large
# one keeps them in its cache.
_MERGED_AT_ONCE = 2**23


def _chunks(one: _SizeClass) -> Iterator[slice]:
    """Rows of a class that are merged at once."""
    total, doubled = one.where.shape
    size = max(1, _MERGED_AT_ONCE // (doubled * one.keys_values.shape[-1]))
    for first in range(0, total, size):
        yield slice(first, min(first + size, total))
