"""What a style leaves to chance, drawn from the very noise that a translation starts with."""

from __future__ import annotations

import math
from functools import cache
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from streamv2v_obs.demo.architecture import FACTOR, LATENT_CHANNELS
from streamv2v_obs.demo.textures import Field
from streamv2v_obs.frames import Pixels

_FINE = 4
"""Samples a side that one latent cell is unfolded into: its 16 channels become 4x4 samples of 2x2 pixels."""


@cache
def _mixing(number: int) -> NDArray[np.float32]:
    """A fixed rotation of the channels, another for each field, so that fields of one noise are independent."""
    square = np.random.default_rng((7, number)).standard_normal((LATENT_CHANNELS, LATENT_CHANNELS))
    rotation: NDArray[np.float32] = np.linalg.qr(square)[0].astype(np.float32)
    return rotation


class Chance:
    """Random fields that are functions of latent noise, float32 [16, h, w], each the same wherever it is cut out.

    A teacher that drew its strokes from a generator of its own would leave them open, and a model trained on that
    answers with their mean, which is blur. Here the strokes follow from the noise that the model is given, so there is
    one sharp answer to learn; and nothing depends on where in the picture a place lies, which the UNet cannot know.
    Two Chances of one noise give the same fields in the same order.
    """

    def __init__(self, noise: NDArray[np.float32]) -> None:
        self._noise = noise
        self.height, self.width = noise.shape[1] * FACTOR, noise.shape[2] * FACTOR
        self._fields = 0

    @classmethod
    def seeded(cls, seed: int, pixels: Pixels) -> Chance:
        """For a picture of this size, whose sides are multiples of 8."""
        height, width, _ = pixels.shape
        return cls(latent_noise(np.random.default_rng(seed), height, width))

    def again(self) -> Chance:
        """From the first field on."""
        return Chance(self._noise)

    def _white(self) -> Field:
        """Independent Gaussian samples, one for 2x2 pixels, of a field that was not drawn before."""
        mixed = np.tensordot(_mixing(self._fields), self._noise, 1)
        self._fields += 1
        _, rows, columns = mixed.shape
        unfolded = mixed.reshape(_FINE, _FINE, rows, columns).transpose(2, 0, 3, 1)
        white: Field = np.ascontiguousarray(unfolded.reshape(rows * _FINE, columns * _FINE))
        return white

    def smooth(self, cell: float) -> Field:
        """Gaussian, features about ``cell`` pixels wide, mean 0, deviation 1; float32 [H, W]."""
        return self._enlarge(_blurred(self._white(), cell))

    def cloud(self, cell: float, octaves: int) -> Field:
        """Octaves of ``smooth``, each half as wide and 0.6 as strong, squeezed to 0..1; float32 [H, W]."""
        total = np.zeros((self.height, self.width), np.float32)
        for octave in range(octaves):
            total += self.smooth(cell / 2**octave) * np.float32(0.6**octave)
        return np.asarray(1 / (1 + np.exp(-total)), np.float32)

    def ripples(self, angle: float, period: float, coherence: float = 1.6) -> Field:
        """Waves across ``angle`` (radians), -1..1; their phase drifts within about ``coherence`` periods."""
        return np.asarray(np.cos(2 * math.pi * self.phase(angle, period, coherence)), np.float32)

    def phase(self, angle: float, period: float, coherence: float = 1.6) -> Field:
        """Where in its period (0 to 1) such a wave is, float32 [H, W].

        It is that of the noise itself, band-passed (Gabor noise: Lagae et al. 2009). Shifted to frequency zero first,
        since half the sampling rate could not carry so short a wave.
        """
        white = self._white()
        rows, columns = white.shape
        step = self.height / rows
        kx, ky = 2 * math.pi * math.cos(angle) / period, 2 * math.pi * math.sin(angle) / period
        y, x = np.mgrid[0:rows, 0:columns].astype(np.float32) * np.float32(step)
        wave = x * kx + y * ky
        real = self._enlarge(_blurred(white * np.cos(wave), 2.2 * coherence * period))
        imaginary = self._enlarge(_blurred(white * -np.sin(wave), 2.2 * coherence * period))
        y, x = np.mgrid[0 : self.height, 0 : self.width].astype(np.float32)
        return np.asarray(((x * kx + y * ky + np.arctan2(imaginary, real)) / (2 * math.pi)) % 1, np.float32)

    def _enlarge(self, field: Field) -> Field:
        return np.asarray(cv2.resize(field, (self.width, self.height), interpolation=cv2.INTER_LINEAR), np.float32)


def latent_noise(rng: np.random.Generator, height: int, width: int) -> NDArray[np.float32]:
    """Standard normal, float32 [16, height / 8, width / 8]; the size is in pixels."""
    return rng.standard_normal((LATENT_CHANNELS, height // FACTOR, width // FACTOR), np.float32)


def _blurred(white: Field, cell: float) -> NDArray[Any]:
    """White noise of one sample for 2x2 pixels, blurred to features of ``cell`` pixels, deviation 1 again."""
    sigma = max(0.4, cell / (2.4 * FACTOR / _FINE))
    reach = 2 * int(np.ceil(3 * sigma)) + 1
    kernel = cv2.getGaussianKernel(reach, sigma).astype(np.float32)
    blurred = cv2.sepFilter2D(white, cv2.CV_32F, kernel, kernel, borderType=cv2.BORDER_REFLECT)
    return np.asarray(blurred / float(np.square(kernel).sum()), np.float32)
