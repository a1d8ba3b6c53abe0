"""Where what a captured picture shows was in pictures before it: in the last one, and in one that is kept for long."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from streamv2v_obs.frames import Pixels

ANCHORS = 4
"""Pictures that are kept: that of now, and some of what may come back, from behind a hand or in another scene."""

_PIXELS_A_LATENT = 4
"""How finely motion is estimated: by 8, a view of the demo model's pictures takes three times as long, for little."""
_DESCENTS = 8
"""Steps of each patch's search, where the preset makes 16: found as well."""
_UNLIKE = 12.0
"""Levels of a colour, on average around a pixel, by which what was found is not the same thing any more."""
_LITTLE, _TOO_LITTLE = 0.9, 0.5
"""Shares of a picture found in the anchor: below the first another is tried, below the second all, or it is new."""
_BETTER = 0.05
"""The share by which another anchor has to show more, so that two do not take turns."""
_HARDLY = 0.25
"""How far the anchor may have shown something a frame ago that now counts as back."""
_EASED = 0.98
"""What is left, a frame later, of how far something has just come back: at 30 a second, a third after two seconds."""
_PATIENCE = 8
"""Frames between two new anchors at least: what moves fast would fill all of them with what nobody sees again."""


def keep_to_one_thread() -> None:
    """For the whole process: OpenCV's threads and torch's wait for each other, a tenth of a frame's time and more."""
    cv2.setNumThreads(1)


def _new_flow(finest: int, patches_apart: int) -> cv2.DISOpticalFlow:
    """DIS down to scale ``finest`` (0: every pixel), and nothing refined.

    OpenCV's preset FAST stops at a quarter of the size, where a thing is a few pixels. Of things that were hidden and
    had moved by 2 to 5 % of the picture it finds 38 %, 3.8 pixels off (median, of 256), in 0.2 ms; down to every pixel
    it is 84 %, 0.4 off, in 0.8 ms, and from one frame to the next half of the size does, in 0.5.
    """
    flow = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_FAST)
    flow.setFinestScale(finest)
    flow.setPatchStride(patches_apart)
    flow.setGradientDescentIterations(_DESCENTS)
    flow.setVariationalRefinementIterations(0)
    return flow


_MEAN = np.full((1, 3), 1 / 3, np.float32)


@dataclass(frozen=True)
class View:
    """Where each latent of a frame is in another frame.

    ``grid`` float32 [h, w, 2]: (x, y) from -1 to 1, as ``grid_sample`` counts; ``seen`` float32 [h, w]: 0 where it
    cannot be seen there, 1 where it surely can.
    """

    grid: NDArray[np.float32]
    seen: NDArray[np.float32]


@dataclass(frozen=True)
class Motion:
    """What led to a frame: its view of the one before, and of anchor number ``slot``, where there is one.

    ``keep``: the slot in which this frame is kept from now on, as the next anchor.
    ``back`` float32 [h, w]: 1 where the anchor shows what has just come back into sight, less and less from then on.
    """

    before: View
    anchor: View | None = None
    slot: int = 0
    keep: int | None = None
    back: NDArray[np.float32] | None = None


class MotionEstimator:
    """From one captured picture to the next, by dense inverse search (Kroeger et al. 2016, OpenCV's DIS)."""

    def __init__(self, height: int, width: int, *, anchors: bool = False) -> None:
        """``height`` and ``width`` of the latents; ``anchors``: keep pictures and look for each one there, too."""
        self._latents = (width, height)
        self._flow, self._far_flow = _new_flow(1, 3), _new_flow(0, 6)
        self._before: _Picture | None = None
        self._anchors = _Anchors() if anchors else None
        self._back, self._shown = np.zeros((2, height, width), np.float32)
        x, y = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
        self._here = np.stack([(2 * x + 1) / width - 1, (2 * y + 1) / height - 1], 2)

    def forget(self) -> None:
        """The next picture has come from nowhere: those before it have another look."""
        self._before = None
        self._back, self._shown = np.zeros((2, *self._back.shape), np.float32)
        if self._anchors is not None:
            self._anchors = _Anchors()

    def to(self, pixels: Pixels) -> Motion:
        """What led to this picture, uint8 [H, W, 3]; the first one, and one of another size, were nowhere before."""
        factor = _PIXELS_A_LATENT * min(self._latents) / min(pixels.shape[:2])
        shown = pixels if factor >= 1 else cv2.resize(pixels, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)
        picture = _Picture(np.asarray(shown, np.uint8), np.asarray(cv2.cvtColor(shown, cv2.COLOR_RGB2GRAY), np.uint8))
        if self._before is not None and self._before.grey.shape != picture.grey.shape:
            self.forget()
        before, self._before = self._before, picture
        view = self._nowhere() if before is None else self._view(picture, before, self._flow)
        if self._anchors is None:
            return Motion(view)
        return self._by_anchors(view, picture, self._anchors)

    def _by_anchors(self, before: View, picture: _Picture, anchors: _Anchors) -> Motion:
        """At most two anchors are looked at, and all of them once in _PATIENCE where else it became a new one."""
        anchors.age += 1
        best = None if anchors.held is None else self._view(picture, anchors.pictures[anchors.held], self._far_flow)
        wanting = best is None or _share(best) < _TOO_LITTLE
        may_keep = best is None or (wanting and anchors.age >= _PATIENCE)
        if may_keep:
            anchors.age = 0
        if best is not None and _share(best) < _LITTLE:
            for slot in anchors.others(every=may_keep):
                other = self._view(picture, anchors.pictures[slot], self._far_flow)
                if _share(other) > _share(best) + _BETTER:
                    best, anchors.held = other, slot
            wanting = _share(best) < _TOO_LITTLE
        slot = anchors.held or 0
        anchors.note_use()
        keep = anchors.keep(picture) if wanting and may_keep else None
        return Motion(before, best, slot, keep, self._come_back(before, best, kept=keep is not None))

    def _come_back(self, before: View, anchor: View | None, *, kept: bool) -> NDArray[np.float32]:
        """What the anchor shows and a frame ago did not, and what of that was there before, moved along."""
        height, width = self._back.shape
        there = (before.grid + 1) * np.array([width / 2, height / 2], np.float32) - np.float32(0.5)

        def moved(values: NDArray[np.float32]) -> NDArray[np.float32]:
            found = cv2.remap(values, there[..., 0], there[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
            return np.asarray(found * before.seen, np.float32)

        shown = np.zeros_like(self._shown) if anchor is None else anchor.seen
        newly = np.where(moved(self._shown) < _HARDLY, shown, 0)
        self._back = np.asarray(np.maximum(np.minimum(_EASED * moved(self._back), shown), newly), np.float32)
        self._shown = np.ones_like(shown) if kept else shown  # one that is kept will show all of this frame
        return self._back

    def _nowhere(self) -> View:
        width, height = self._latents
        return View(self._here.astype(np.float32), np.zeros((height, width), np.float32))

    def _view(self, picture: _Picture, other: _Picture, dis: cv2.DISOpticalFlow) -> View:
        height, width = picture.grey.shape
        flow = np.asarray(dis.calc(picture.grey, other.grey, np.zeros((height, width, 2), np.float32)), np.float32)
        x, y = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
        there_x, there_y = x + flow[..., 0], y + flow[..., 1]
        found = cv2.remap(other.colours, there_x, there_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        # Of all colours: what is as grey may be red here and green there.
        apart = cv2.transform(cv2.absdiff(picture.colours, found).astype(np.float32), _MEAN)
        unlike = cv2.blur(apart, (8, 8))
        inside = (there_x >= 0) & (there_x <= width - 1) & (there_y >= 0) & (there_y <= height - 1)
        seen = np.where(inside, np.clip(1 - unlike / _UNLIKE, 0, 1), 0).astype(np.float32)
        shift = cv2.resize(flow, self._latents, interpolation=cv2.INTER_AREA) * np.array(
            [2 / width, 2 / height], np.float32
        )
        return View(
            np.asarray(self._here + shift, np.float32),
            np.asarray(cv2.resize(seen, self._latents, interpolation=cv2.INTER_AREA), np.float32),
        )


def _share(view: View) -> float:
    return float(view.seen.mean())


@dataclass(frozen=True)
class _Picture:
    """Small: uint8 [h, w, 3] and [h, w]."""

    colours: Pixels
    grey: Pixels


class _Anchors:
    """The pictures that are kept, by slot, and which one is held beside every new one."""

    def __init__(self) -> None:
        self.pictures: dict[int, _Picture] = {}
        self.held: int | None = None
        self.age = 0
        """Frames since all of them were looked at."""
        self._uses: dict[int, float] = {}
        self._turn = 0

    def others(self, *, every: bool) -> list[int]:
        """Slots to try beside the one that is held: one, another one each time, or every one."""
        slots = [slot for slot in self.pictures if slot != self.held]
        if every or not slots:
            return slots
        self._turn += 1
        return [slots[self._turn % len(slots)]]

    def note_use(self) -> None:
        """Of the one that is held, for a frame."""
        if self.held is not None:
            self._uses[self.held] += 1

    def keep(self, picture: _Picture) -> int:
        """Keep a picture, and hold it: in a free slot, or in place of the one that was of use least, lately."""
        free = [slot for slot in range(ANCHORS) if slot not in self.pictures]
        slot = (
            free[0] if free else min((slot for slot in self.pictures if slot != self.held), key=self._uses.__getitem__)
        )
        self._uses = {number: uses / 2 for number, uses in self._uses.items()}
        self.pictures[slot], self._uses[slot] = picture, 0.0
        self.held = slot
        return slot
