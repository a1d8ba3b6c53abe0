"""The stream batch (StreamDiffusion): S frames at S different denoising steps, advanced by one UNet call."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from streamv2v_obs.translator.lcm import RowConstants
from streamv2v_obs.translator.noise import NoiseKind, draw_noise
from streamv2v_obs.translator.row_prompts import RowPrompts


@dataclass(frozen=True)
class Origin:
    """The captured frame that a row belongs to."""

    captured_at: float
    index: int
    copy: bool = False
    """A row that the warm start filled from the first frame: it comes out before that frame itself does."""


@dataclass(frozen=True)
class Departed:
    """What leaves the last row: a clean latent (1, C, h, w) in float32, and the frame it shows.

    ``origin`` is None for a row that no frame ever entered.
    """

    latent: Tensor
    origin: Origin | None


@dataclass(frozen=True)
class RowsSnapshot:
    """The frames in flight, as they stood between two calls, and what they had been noised with."""

    noised: Tensor
    noise: Tensor
    alpha: Tensor
    beta: Tensor
    prompts: Tensor | None
    origins: tuple[Origin | None, ...]
    started: bool


class StreamBatch:
    """S rows; row k always stands at timestep k, and frames move down one row a call.

    Each row also holds the prompt that its frame came in with, so that no picture mixes two prompts.

    What is done with tensors (``noise_first``, ``noise_others``) stands apart from what is known of the frames
    (``enter``, ``depart``): the former is the same for every frame, and may be captured in a graph.
    """

    def __init__(
        self,
        constants: RowConstants,
        latent_shape: tuple[int, int, int],
        device: torch.device,
        prompts: RowPrompts | None = None,
    ) -> None:
        self.size = len(constants.timesteps)
        self.constants = constants
        self.noise = torch.zeros((self.size, *latent_shape), device=device)
        self.noised = torch.zeros_like(self.noise)
        """What enters the UNet next, float32 (S, C, h, w)."""
        self._prompts = prompts or RowPrompts(self.size, device)
        self._origins: list[Origin | None] = [None] * self.size
        self._started = False

    # --- frames ----------------------------------------------------------------------------------------------

    @property
    def prompts(self) -> Tensor | None:
        """(S, L, D), each row's own; None before the first frame."""
        return self._prompts.embeddings

    @property
    def starts(self) -> bool:
        """Whether the next frame fills all rows."""
        return not self._started

    def enter(self, latent: Tensor, prompt: Tensor, origin: Origin | None) -> None:
        """A new frame's clean latent (1, C, h, w) takes row 0, or all rows if none has entered since the last start.

        ``prompt`` (1, L, D) belongs to this frame; (S, L, D) overwrites the prompts of all rows.
        """
        if self.starts:
            self.fill(latent)
        else:
            self.noise_first(latent)
        self.admit(prompt, origin)

    def admit(self, prompt: Tensor, origin: Origin | None) -> None:
        """Note whose the latent is that takes row 0, or all rows, and by which prompt it goes."""
        if self._started and prompt.shape[0] == 1:
            self._prompts.set(0, prompt)
        else:
            self._prompts.set_all(prompt)
        if not self._started:
            self._origins = [None if origin is None else replace(origin, copy=True)] * self.size
            self._started = True
        self._origins[0] = origin

    def fill(self, latent: Tensor) -> None:
        """Noise one frame's latent for every row: where the warm start begins."""
        self._noise_rows(slice(0, self.size), latent)

    def noise_first(self, latent: Tensor) -> None:
        """Noise a frame's latent for row 0."""
        self._noise_rows(slice(0, 1), latent)

    def noise_others(self, x0: Tensor) -> None:
        """Noise the clean latents (S, C, h, w) of all rows but the last anew, each for the row below its own."""
        if self.size > 1:
            self._noise_rows(slice(1, self.size), x0[:-1])

    def start_from_zeros(self, prompts: Tensor) -> None:
        """No warm start: rows 1..S-1 enter the first call as zeros, and show no frame when they leave.

        ``prompts``: (S, L, D), each row's own.
        """
        self.noised.zero_()
        self._prompts.set_all(prompts)
        self._origins = [None] * self.size
        self._started = True

    def advance(self, x0: Tensor) -> Departed:
        """Move every frame down one row, noised anew for it; the last row's leaves. ``x0``: (S, C, h, w), clean."""
        self.noise_others(x0)
        return Departed(x0[-1:], self.depart())

    def depart(self) -> Origin | None:
        """Note that every frame has moved down one row; whose it was that left."""
        departed = self._origins[-1]
        self._prompts.shift()
        # Row 0 keeps its latent: a flush sends it in again, as a frame that nobody asked for.
        self._origins = [None, *self._origins[:-1]]
        return departed

    def _noise_rows(self, rows: slice, clean: Tensor) -> None:
        constants = self.constants.of(rows)
        self.noised[rows] = constants.alpha * clean + constants.beta * self.noise[rows]

    def restart(self) -> None:
        """Forget the frames in flight; the next frame fills all rows (warm start)."""
        self._origins = [None] * self.size
        self._started = False

    @property
    def waiting(self) -> int:
        """How many frames are in flight that have not left yet, warm-start copies not counted."""
        return sum(origin is not None and not origin.copy for origin in self._origins)

    # --- what the rows are made with; frames in flight follow it, so that a change shows at once --------------

    def draw_noise(self, seed: int, kind: NoiseKind = "white") -> None:
        """One fixed tensor for every frame to come."""
        noise = draw_noise(tuple(self.noise.shape), seed, kind).to(self.noise.device)
        self.noised += self.constants.beta * (noise - self.noise)
        self.noise.copy_(noise)

    def set_constants(self, constants: RowConstants) -> None:
        """Other timesteps for the rows, written in place."""
        clean = _clean(self.noised, self.noise, self.constants.alpha, self.constants.beta)
        self.constants.copy_(constants)
        self._noise_rows(slice(0, self.size), clean)

    # --- there and back --------------------------------------------------------------------------------------

    def snapshot(self) -> RowsSnapshot:
        """A copy of the frames in flight."""
        prompts = None if self.prompts is None else self.prompts.clone()
        return RowsSnapshot(
            self.noised.clone(),
            self.noise.clone(),
            self.constants.alpha.clone(),
            self.constants.beta.clone(),
            prompts,
            tuple(self._origins),
            self._started,
        )

    def restore(self, snapshot: RowsSnapshot) -> None:
        """Bring back the frames that were in flight; where seed or strength are others now, they follow those."""
        same = ((snapshot.noise, self.noise), (snapshot.alpha, self.constants.alpha))
        if all(torch.equal(then, now) for then, now in same):
            self.noised.copy_(snapshot.noised)
        else:
            clean = _clean(snapshot.noised, snapshot.noise, snapshot.alpha, snapshot.beta)
            self._noise_rows(slice(0, self.size), clean)
        if snapshot.prompts is not None:
            self._prompts.set_all(snapshot.prompts)
        self._origins = list(snapshot.origins)
        self._started = snapshot.started


def _clean(noised: Tensor, noise: Tensor, alpha: Tensor, beta: Tensor) -> Tensor:
    """What was noised. A row at a timestep of nothing but noise (zero terminal SNR) holds no picture: zeros."""
    return torch.where(alpha > 0, (noised - beta * noise) / alpha, 0.0)
