"""Pictures of two prompts told apart: each held against all that the prompts alone make of the same photograph."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import cv2
import numpy as np

from streamv2v_obs.frames import Pixels


@dataclass(frozen=True)
class Judged:
    """The prompt whose pictures one is nearest to, and how near: the mean difference of a colour, of 255."""

    prompt: str
    distance: float


class Looks:
    """What each prompt makes, told by JPEGs from runs that knew no other prompt."""

    def __init__(self, alone: Mapping[str, Sequence[bytes]]) -> None:
        self._alone = {prompt: [decoded(jpeg) for jpeg in dict.fromkeys(jpegs)] for prompt, jpegs in alone.items()}
        self._known: dict[bytes, Judged] = {}
        self.apart = min(
            distance(one, other)
            for these, those in combinations(self._alone.values(), 2)
            for one in these
            for other in those
        )
        """Between the two most similar pictures of two prompts."""

    def judge(self, jpeg: bytes) -> Judged:
        """Whose it is. A picture half of one prompt and half of another would be ``apart / 2`` away or more."""
        if jpeg not in self._known:
            pixels = decoded(jpeg)
            nearest = {p: min(distance(pixels, one) for one in these) for p, these in self._alone.items()}
            prompt = min(nearest, key=lambda p: nearest[p])
            self._known[jpeg] = Judged(prompt, nearest[prompt])
        return self._known[jpeg]


def decoded(jpeg: bytes) -> Pixels:
    """uint8 [H, W, 3]."""
    return np.asarray(cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR_RGB), np.uint8)


def distance(one: Pixels, other: Pixels) -> float:
    """The mean difference of a colour, of 255; of pictures of different sizes, as far as can be."""
    return float(cv2.absdiff(one, other).mean()) if one.shape == other.shape else 255.0
