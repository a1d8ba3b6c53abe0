"""What changes over a time, frame by frame: from one prompt to the next, and out of the bank's hold."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor

PROMPTS_KEPT = 32
"""Embeddings that are kept; of Stable Diffusion 1.5 one is 118 KB in half precision."""


class PromptEncoder(Protocol):
    """A prompt -> [1, L, D] on the model's device; L is always the same."""

    def encode(self, prompt: str) -> Tensor: ...


class Ramp:
    """From ``start`` to 1 over ``seconds``, counted by capture times from the first frame that asks."""

    def __init__(self, seconds: float, start: float = 0.0) -> None:
        self._seconds = seconds
        self._start = start
        self._began_at: float | None = None

    def at(self, captured_at: float) -> float:
        """The share that is over for the frame captured then: ``start`` at the first one, 1 from the end on."""
        if self._began_at is None:
            self._began_at = captured_at
        # A source that was changed on the way may count its time from elsewhere.
        over = min(1.0, max(0.0, (captured_at - self._began_at) / self._seconds))
        return self._start + (1 - self._start) * over


class PromptInForce:
    """The prompt of the next frame: each one encoded once, and drawn from one to the next if time is given for it.

    ``version`` grows when the text encoder's weights change: what was encoded before is worth nothing then.
    """

    def __init__(self, text: PromptEncoder, version: Callable[[], int], prompt: str) -> None:
        self._text = text
        self._version = version
        self._encoded: OrderedDict[str, Tensor] = OrderedDict()
        self._encoded_by = version()
        self._shown: Tensor | None = None
        self.set(prompt)

    def encode(self, prompt: str) -> Tensor:
        """The embedding [1, L, D] of ``prompt``; kept for later."""
        if self._encoded_by != self._version():
            self._encoded.clear()
            self._encoded_by = self._version()
        if prompt not in self._encoded:
            self._encoded[prompt] = self._text.encode(prompt)
            if len(self._encoded) > PROMPTS_KEPT:
                self._encoded.popitem(last=False)
        self._encoded.move_to_end(prompt)
        return self._encoded[prompt]

    def set(self, prompt: str, blend_s: float = 0.0) -> None:
        """From the next frame on; with ``blend_s`` from what the last frame was given, over that time."""
        self._target = self.encode(prompt)
        self.prompt = prompt
        self._blend: tuple[Tensor, Ramp] | None = None
        if blend_s > 0 and self._shown is not None:
            self._blend = (self._shown, Ramp(blend_s))

    def at(self, captured_at: float) -> Tensor:
        """The embedding for the frame captured then."""
        if self._encoded_by != self._version():
            self.set(self.prompt)
        self._shown = self._target
        if self._blend is not None:
            before, ramp = self._blend
            share = ramp.at(captured_at)
            if share < 1:
                self._shown = torch.lerp(before, self._target, share)
            else:
                self._blend = None
        return self._shown
