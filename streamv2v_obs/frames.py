"""One picture with its capture time, and the tag that says whether it may be shown."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

Pixels: TypeAlias = npt.NDArray[np.uint8]
"""uint8 [H, W, 3] RGB, C-contiguous."""


class Tag(IntEnum):
    """What a picture is; only TRANSLATED is shown unless the user asked for BYPASS."""

    TRANSLATED = 1
    BYPASS = 2
    INPUT = 3


@dataclass(frozen=True)
class Frame:
    """A picture and where it stands in time.

    ``captured_at`` is ``time.monotonic()`` seconds of the moment the source delivered it; that clock is one for
    all processes of a machine, so the publisher can tell the age of what it shows.
    """

    pixels: Pixels
    captured_at: float
    index: int
    tag: Tag = Tag.INPUT
