"""Surfaces: noise, stripes, gradients, checks, pieces of photographs, all drawn at random."""

from __future__ import annotations

from typing import Any, TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

from streamv2v_obs.demo.photographs import read_photograph, training_photographs
from streamv2v_obs.frames import Pixels

Field: TypeAlias = NDArray[Any]
"""float32 [H, W]."""


def as_pixels(values: Any) -> Pixels:
    """Cut to 0..255, uint8."""
    return np.asarray(np.clip(values, 0, 255), np.uint8)


def smooth_noise(rng: np.random.Generator, height: int, width: int, cell: float) -> Field:
    """Gaussian noise with features about ``cell`` pixels wide, mean 0, deviation about 1; float32 [H, W]."""
    rows, columns = max(2, round(height / cell) + 2), max(2, round(width / cell) + 2)
    coarse = rng.standard_normal((rows, columns)).astype(np.float32)
    # Cubic interpolation loses about a third of the deviation.
    return (cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC) * 1.4).astype(np.float32)


def cloud(rng: np.random.Generator, height: int, width: int, cell: float, octaves: int = 4) -> Field:
    """Octaves of noise, each half as wide and 0.6 as strong, squeezed to 0..1; float32 [H, W]."""
    total = np.zeros((height, width), np.float32)
    strength = 1.0
    for _ in range(octaves):
        total += smooth_noise(rng, height, width, max(cell, 1.5)) * strength
        cell, strength = cell / 2, strength * 0.6
    return (1 / (1 + np.exp(-total))).astype(np.float32)


def colour(rng: np.random.Generator, saturation: float | None = None) -> Field:
    """A colour, float32 [3] in 0..255, from greys and pastels to full ones."""
    full = rng.beta(1.2, 1.2) if saturation is None else saturation
    value = rng.beta(1.5, 1.2)
    hsv = np.array([[[rng.uniform(0, 360), full, value]]], np.float32)
    return np.asarray(cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)[0, 0] * 255, np.float32)


def mix(share: Field, first: Field, second: Field) -> Pixels:
    """Two colours by a share 0..1 for each pixel: uint8 [H, W, 3]."""
    return as_pixels(first + share[..., None] * (second - first))


def gradient(rng: np.random.Generator, height: int, width: int) -> Field:
    """A straight or round slope from 0 to 1; float32 [H, W]."""
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    if rng.random() < 0.7:
        angle = rng.uniform(0, 2 * np.pi)
        slope = x * np.cos(angle) + y * np.sin(angle)
    else:
        slope = np.hypot(x - rng.uniform(0, width), y - rng.uniform(0, height))
    span = float(np.ptp(slope)) or 1.0
    return np.asarray((slope - slope.min()) / span, np.float32)


def stripes(rng: np.random.Generator, height: int, width: int) -> Field:
    """Stripes or checks 8 to 50 pixels wide, soft or hard; float32 [H, W] in 0..1."""
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    angle, period = rng.uniform(0, np.pi), rng.uniform(8, 50)
    wave = np.sin((x * np.cos(angle) + y * np.sin(angle)) * (2 * np.pi / period))
    if rng.random() < 0.4:
        wave = wave * np.sin((y * np.cos(angle) - x * np.sin(angle)) * (2 * np.pi / period))
    hardness = rng.uniform(1, 6)
    return np.asarray(np.clip(0.5 + wave * hardness / 2, 0, 1), np.float32)


def photo_patch(rng: np.random.Generator, height: int, width: int) -> Pixels:
    """A random crop of a photograph, turned in hue, saturation, brightness and sometimes mirrored."""
    names, shares = training_photographs()
    picture = read_photograph(str(rng.choice(names, p=shares)))
    full_h, full_w = picture.shape[:2]
    share = rng.uniform(0.35, 1.0)
    crop_h = int(min(full_h, full_w * height / width) * share)
    crop_w = min(full_w, int(crop_h * width / height))
    y, x = rng.integers(0, full_h - crop_h + 1), rng.integers(0, full_w - crop_w + 1)
    crop = cv2.resize(picture[y : y + crop_h, x : x + crop_w], (width, height), interpolation=cv2.INTER_AREA)
    if rng.random() < 0.5:
        crop = crop[:, ::-1]
    return recolour(rng, np.ascontiguousarray(crop, dtype=np.uint8))


def recolour(rng: np.random.Generator, picture: Pixels, strength: float = 1.0) -> Pixels:
    """Other hue, saturation, contrast and brightness; half of the pictures keep their hue."""
    hsv = cv2.cvtColor(picture.astype(np.float32) / 255, cv2.COLOR_RGB2HSV)
    if rng.random() < 0.5:
        hsv[..., 0] = (hsv[..., 0] + strength * rng.uniform(-180, 180)) % 360
    hsv[..., 1] = np.clip(hsv[..., 1] * rng.uniform(1 - 0.5 * strength, 1 + 0.5 * strength), 0, 1)
    rgb = cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB) * 255
    if float(hsv[..., 1].mean()) < 0.03 and rng.random() < 0.7:
        # A grey photograph: stain it.
        rgb = rgb * (0.35 + 0.65 * colour(rng) / 255) * 1.2
    gamma, gain = rng.uniform(0.75, 1.35), rng.uniform(0.8, 1.15)
    return as_pixels((rgb.clip(0, 255) / 255) ** gamma * 255 * gain)


def surface(rng: np.random.Generator, height: int, width: int) -> Pixels:
    """Any of them; flat and slightly shaded ones are the most frequent. uint8 [H, W, 3]."""
    kind = rng.choice(["flat", "gradient", "cloud", "stripes", "photo"], p=[0.34, 0.22, 0.16, 0.12, 0.16])
    if kind == "photo":
        return photo_patch(rng, height, width)
    first, second = colour(rng), colour(rng)
    if kind == "flat":
        share = gradient(rng, height, width) * 0.15
    elif kind == "gradient":
        share = gradient(rng, height, width)
    elif kind == "cloud":
        share = cloud(rng, height, width, rng.uniform(6, 90), int(rng.integers(1, 5)))
    else:
        share = stripes(rng, height, width)
    return mix(share, first, second)
