"""The last picture in the next one, moved as the input has moved: what is the same thing stays as it was drawn."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import grid_sample

from streamv2v_obs.frames import Pixels

_FLOW_SIDE = 256
"""Pixels of the shorter side at which motion is estimated: under a millisecond, and a latent is eight of them."""
_UNLIKE = 12.0
"""Grey levels, on average around a pixel, by which what was found is not the same thing any more."""


@dataclass(frozen=True)
class Motion:
    """Where each latent of a frame was in the frame before.

    ``grid`` float32 [h, w, 2]: (x, y) from -1 to 1, as ``grid_sample`` counts; ``seen`` float32 [h, w]: 0 where it
    could not be seen there, 1 where it surely could.
    """

    grid: NDArray[np.float32]
    seen: NDArray[np.float32]


class MotionEstimator:
    """From one captured picture to the next, by dense inverse search (Kroeger et al. 2016, OpenCV's DIS)."""

    def __init__(self, height: int, width: int) -> None:
        """``height`` and ``width`` of the latents."""
        self._latents = (width, height)
        # For the whole process: OpenCV's threads and torch's wait for each other, a tenth of a frame's time and more.
        cv2.setNumThreads(1)
        self._flow = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_FAST)
        self._before: Pixels | None = None
        x, y = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
        self._here = np.stack([(2 * x + 1) / width - 1, (2 * y + 1) / height - 1], 2)

    def to(self, pixels: Pixels) -> Motion | None:
        """What led to this picture, uint8 [H, W, 3]; None for the first one, and for one of another size."""
        grey = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)
        factor = _FLOW_SIDE / min(grey.shape)
        if factor < 1:
            grey = cv2.resize(grey, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)
        before, self._before = self._before, np.asarray(grey, np.uint8)
        if before is None or before.shape != grey.shape:
            return None
        height, width = grey.shape
        flow = np.asarray(self._flow.calc(grey, before, np.zeros((height, width, 2), np.float32)), np.float32)
        x, y = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
        there_x, there_y = x + flow[..., 0], y + flow[..., 1]
        found = cv2.remap(before, there_x, there_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        unlike = cv2.blur(cv2.absdiff(grey, found).astype(np.float32), (8, 8))
        inside = (there_x >= 0) & (there_x <= width - 1) & (there_y >= 0) & (there_y <= height - 1)
        seen = np.where(inside, np.clip(1 - unlike / _UNLIKE, 0, 1), 0).astype(np.float32)
        shift = cv2.resize(flow, self._latents, interpolation=cv2.INTER_AREA) * np.array(
            [2 / width, 2 / height], np.float32
        )
        return Motion(
            np.asarray(self._here + shift, np.float32),
            np.asarray(cv2.resize(seen, self._latents, interpolation=cv2.INTER_AREA), np.float32),
        )


class Carry:
    """Draws the picture that leaves towards the one that left before it, moved: ``share`` of it where it was seen.

    Motions wait here beside the frames in flight, since the frame that leaves entered S - 1 calls ago. What the
    device needs of them lies in memory that stays.
    """

    def __init__(self, share: float, rows: int, latent_shape: tuple[int, int, int], device: torch.device) -> None:
        channels, height, width = latent_shape
        self._wanted = share
        self._motions: deque[Motion | None] = deque([None] * rows, maxlen=rows)
        self._before = torch.zeros((1, channels, height, width), device=device)
        self._grid = torch.zeros((1, height, width, 2), device=device)
        self._share = torch.zeros((1, 1, height, width), device=device)
        self._anew = False

    def admit(self, motion: Motion | None, *, alone: bool) -> None:
        """A frame enters by this motion; ``alone``: no other one is in flight, and it is the one that leaves."""
        if self._anew:
            motion, self._anew = None, False
        self._motions[-1 if alone else 0] = motion
        self.lay_ready()

    @torch.inference_mode()
    def lay_ready(self) -> None:
        """For the frame that leaves next."""
        motion = self._motions[-1]
        if motion is None:
            self._share.zero_()
            return
        self._share[0, 0].copy_(torch.from_numpy(self._wanted * motion.seen))
        self._grid[0].copy_(torch.from_numpy(motion.grid))

    def depart(self) -> None:
        """Every frame has moved down one row."""
        self._motions.appendleft(None)

    def forget(self) -> None:
        """Frames in flight, and the next one, are drawn by themselves: they may look unlike the last picture."""
        self._motions.extend([None] * len(self._motions))
        self._anew = True

    def compute(self, clean: Tensor) -> Tensor:
        """The latents (1, C, h, w) that leave, drawn towards those that left before: the device's work alone."""
        moved = grid_sample(self._before, self._grid, mode="bicubic", padding_mode="border", align_corners=False)
        carried = clean + self._share * (moved - clean)
        self._before.copy_(carried)
        return carried
