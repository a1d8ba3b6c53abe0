"""Pictures from the host to the device and back."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from streamv2v_obs.frames import Pixels


class HostLink(Protocol):
    """``send`` fills a device tensor; ``begin`` starts to bring one back, ``finish`` waits for it and gives it."""

    def send(self, pixels: Pixels, target: Tensor) -> None: ...
    def begin(self, source: Tensor) -> None: ...
    def finish(self) -> Pixels: ...


class PlainLink:
    """Ordinary memory, one copy after the other."""

    def __init__(self) -> None:
        self._source: Tensor | None = None

    def send(self, pixels: Pixels, target: Tensor) -> None:
        """``pixels`` uint8 [H, W, 3] into ``target``."""
        # Flipped channels and read-only arrays are nothing that torch takes as they are.
        target.copy_(torch.from_numpy(np.require(pixels, requirements=("C", "W"))))

    def begin(self, source: Tensor) -> None:
        """Remember what to bring."""
        self._source = source

    def finish(self) -> Pixels:
        """A copy that nobody overwrites."""
        assert self._source is not None  # noqa: S101 - begin() comes before
        pixels: Pixels = self._source.cpu().numpy().copy()
        return pixels


class PinnedLink:
    """Page-locked memory, twice each way; uploads go by a stream of their own, beside the bank's update.

    The one wait of a frame is ``finish``, but where pictures are carried on: their motion is copied as it is.
    """

    def __init__(self, shape: tuple[int, int, int], device: torch.device) -> None:
        self._up = [torch.empty(shape, dtype=torch.uint8, pin_memory=True) for _ in range(2)]
        self._down = [torch.empty(shape, dtype=torch.uint8, pin_memory=True) for _ in range(2)]
        self._device = device
        self._copies: Any = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        self._arrived: Any = torch.cuda.Event()  # type: ignore[no-untyped-call]
        self._turn = 0

    def send(self, pixels: Pixels, target: Tensor) -> None:
        """``pixels`` uint8 [H, W, 3] into ``target``, which nothing on the device reads any more."""
        self._turn = 1 - self._turn
        host = self._up[self._turn]
        np.copyto(host.numpy(), pixels)
        with torch.cuda.stream(self._copies):
            target.copy_(host, non_blocking=True)
        torch.cuda.current_stream(self._device).wait_stream(self._copies)

    def begin(self, source: Tensor) -> None:
        """Start the copy once ``source`` is computed; returns at once."""
        self._down[self._turn].copy_(source, non_blocking=True)
        self._arrived.record()

    def finish(self) -> Pixels:
        """Wait for the copy; gives one of its own, which the next frame does not overwrite."""
        self._arrived.synchronize()
        pixels: Pixels = self._down[self._turn].numpy().copy()
        return pixels
