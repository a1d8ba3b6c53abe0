"""The photographs that scikit-image carries inside its wheel, those of plainly free licence alone."""

from __future__ import annotations

from functools import cache, lru_cache
from pathlib import Path

import cv2
import numpy as np

from streamv2v_obs.errors import ConfigError
from streamv2v_obs.frames import Pixels

LICENCES: dict[str, str] = {
    "astronaut.png": "public domain (NASA)",
    "brick.png": "CC0",
    "camera.png": "CC0 (Lav Varshney)",
    "chelsea.png": "CC0 (Stefan van der Walt)",
    "coffee.png": "CC0 (Rachel Michetti)",
    "grass.png": "CC0",
    "gravel.png": "CC0",
    "hubble_deep_field.jpg": "public domain (NASA)",
    "retina.jpg": "CC0",
    "rocket.jpg": "public domain (SpaceX)",
}
"""What scikit-image states of each. Its other pictures say "no known restrictions" or nothing, and are left alone."""

HELD_OUT = ("camera.png", "coffee.png")
"""Never trained on; what is measured, is measured on these and on drawn scenes of other seeds."""


@cache
def read_photograph(name: str) -> Pixels:
    """uint8 [H, W, 3] RGB, read-only. Raises ConfigError where scikit-image is not installed."""
    try:
        import skimage
    except ImportError as error:
        raise ConfigError(
            "the demo model's training needs scikit-image's photographs; run: pip install 'streamv2v-obs[demo-train]'"
        ) from error
    path = Path(skimage.__file__).parent / "data" / name
    # Not imread: on Windows it cannot open a path with letters outside the code page.
    read = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_COLOR_RGB) if path.is_file() else None
    if read is None:
        raise ConfigError(f"{path} is missing or damaged; install scikit-image again")
    picture: Pixels = np.ascontiguousarray(read, dtype=np.uint8)
    picture.setflags(write=False)
    return picture


_SHARES = {"astronaut.png": 5.0, "chelsea.png": 4.0, "rocket.jpg": 3.0}


@lru_cache(maxsize=1)
def training_photographs() -> tuple[list[str], list[float]]:
    """The names that may be trained on and how often each is drawn; scenes more often than mere surfaces."""
    names = [name for name in LICENCES if name not in HELD_OUT]
    shares = np.array([_SHARES.get(name, 0.7) for name in names])
    return names, (shares / shares.sum()).tolist()


def square(name: str, side: int) -> Pixels:
    """The largest centred square of a photograph, uint8 [side, side, 3]."""
    picture = read_photograph(name)
    height, width = picture.shape[:2]
    edge = min(height, width)
    y, x = (height - edge) // 2, (width - edge) // 2
    scaled = cv2.resize(picture[y : y + edge, x : x + edge], (side, side), interpolation=cv2.INTER_AREA)
    return np.ascontiguousarray(scaled, dtype=np.uint8)
