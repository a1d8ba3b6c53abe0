"""Pictures before in the next one, moved as the input has moved: what is the same thing stays as it was drawn."""

from __future__ import annotations

from collections import deque
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import grid_sample

from streamv2v_obs.translator.motion import ANCHORS, Motion, View

_BACK, _AT_MOST = 3.0, 0.6
"""So many times the anchor's share, up to this, of what was out of sight and is back: nothing else says how it was."""


class Carry:
    """Draws the picture that leaves towards the last one and towards an anchor, moved, as far as it was seen there.

    ``share`` is the last one's, ``anchor_share`` the anchor's. Motions wait here beside the frames in flight, since
    the frame that leaves entered S - 1 calls ago. What the device needs of them lies in memory that stays.
    """

    def __init__(
        self,
        share: float,
        rows: int,
        latent_shape: tuple[int, int, int],
        device: torch.device,
        *,
        anchor_share: float = 0.0,
    ) -> None:
        self._motions: deque[Motion | None] = deque([None] * rows, maxlen=rows)
        self._last = _Source(share, latent_shape, device)
        self._anchor = _Source(anchor_share, latent_shape, device) if anchor_share > 0 else None
        self._album = torch.zeros((ANCHORS if anchor_share > 0 else 0, *latent_shape), device=device)
        self._kept: set[int] = set()
        self._anew = False

    def admit(self, motion: Motion | None, *, alone: bool) -> None:
        """A frame enters by this motion; ``alone``: no other one is in flight, and it is the one that leaves."""
        if self._anew and motion is not None:
            nowhere = View(motion.before.grid, np.zeros_like(motion.before.seen))
            motion = replace(motion, before=nowhere, anchor=None)
        self._anew = False
        self._motions[-1 if alone else 0] = motion
        if alone or len(self._motions) == 1:
            self.lay_ready()  # else that of the frame that leaves is laid ready since the last one left

    @torch.inference_mode()
    def lay_ready(self) -> None:
        """For the frame that leaves next."""
        motion = self._motions[-1]
        self._last.look(None if motion is None else motion.before)
        if self._anchor is None:
            return
        # An anchor that was to be kept may have been forgotten on its way out.
        there = motion is not None and motion.slot in self._kept
        self._anchor.look(motion.anchor if motion is not None and there else None, motion.back if motion else None)
        if motion is not None and there:
            self._anchor.latents.copy_(self._album[motion.slot])

    @torch.inference_mode()
    def depart(self) -> None:
        """Every frame has moved down one row."""
        motion = self._motions[-1]
        if self._anchor is not None and motion is not None and motion.keep is not None:
            self._album[motion.keep].copy_(self._last.latents[0])
            self._kept.add(motion.keep)
        self._motions.appendleft(None)
        self.lay_ready()

    def forget(self) -> None:
        """Frames in flight, and the next one, are drawn by themselves: they may look unlike the last picture."""
        self._motions.extend([None] * len(self._motions))
        self._kept.clear()
        self._anew = True
        self.lay_ready()

    def compute(self, clean: Tensor) -> Tensor:
        """The latents (1, C, h, w) that leave, drawn towards those that left before: the device's work alone."""
        carried = clean + self._last.pull(clean)
        if self._anchor is not None:
            carried = carried + self._anchor.pull(clean)
        self._last.latents.copy_(carried)
        return carried


class _Source:
    """A picture (1, C, h, w) that others are drawn towards, and how the one that leaves sees it."""

    def __init__(self, share: float, latent_shape: tuple[int, int, int], device: torch.device) -> None:
        channels, height, width = latent_shape
        self._wanted, self._wanted_back = share, min(_BACK * share, max(share, _AT_MOST))
        self.latents = torch.zeros((1, channels, height, width), device=device)
        self._grid = torch.zeros((1, height, width, 2), device=device)
        self._share = torch.zeros((1, 1, height, width), device=device)

    def look(self, view: View | None, back: NDArray[np.float32] | None = None) -> None:
        if view is None:
            self._share.zero_()
            return
        share = self._wanted if back is None else self._wanted + (self._wanted_back - self._wanted) * back
        self._share[0, 0].copy_(torch.from_numpy(np.asarray(share * view.seen, np.float32)))
        self._grid[0].copy_(torch.from_numpy(view.grid))

    def pull(self, clean: Tensor) -> Tensor:
        """What has to be added to ``clean``."""
        moved = grid_sample(self.latents, self._grid, mode="bicubic", padding_mode="border", align_corners=False)
        # What is not finite must not come back by a share of nothing.
        return torch.where(self._share > 0, self._share * (moved - clean), 0.0)
