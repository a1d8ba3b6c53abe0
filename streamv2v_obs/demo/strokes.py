"""What brushes, pencils and pens do, driven by noise: the part of a style that its input leaves open."""

from __future__ import annotations

from typing import Any, TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

from streamv2v_obs.demo.chance import Chance
from streamv2v_obs.demo.textures import Field
from streamv2v_obs.frames import Pixels

Picture: TypeAlias = NDArray[Any]
"""float32 [H, W, 3] RGB in 0..1."""


def limited(values: Any) -> NDArray[Any]:
    """Cut to 0..1, float32."""
    return np.asarray(np.clip(values, 0, 1), np.float32)


def grey(picture: Picture) -> Field:
    """Luma, float32 [H, W] in 0..1."""
    luma: Field = (picture @ np.array([0.299, 0.587, 0.114], np.float32)).astype(np.float32)
    return luma


def blur(field: NDArray[Any], sigma: float) -> NDArray[Any]:
    """Gaussian, of one channel or three."""
    return cv2.GaussianBlur(field, (0, 0), sigma).astype(np.float32)


def _moved(field: NDArray[Any], shift: NDArray[Any]) -> NDArray[Any]:
    height, width = field.shape[:2]
    return np.asarray(
        cv2.warpAffine(field, shift, (width, height), flags=cv2.INTER_NEAREST, borderMode=cv2.BORDER_REFLECT)
    )


def kuwahara(picture: Picture, radius: int) -> Picture:
    """Each pixel becomes the mean of that quarter around it that varies least: flats with crisp borders."""
    size = radius + 1
    luma = grey(picture)
    mean = cv2.blur(picture, (size, size), borderType=cv2.BORDER_REFLECT)
    middle = cv2.blur(luma, (size, size), borderType=cv2.BORDER_REFLECT)
    spread = cv2.blur(luma * luma, (size, size), borderType=cv2.BORDER_REFLECT) - middle * middle
    half = radius / 2
    best = np.full(luma.shape, np.inf, np.float32)
    result: Picture = picture.copy()
    for dx in (-half, half):
        for dy in (-half, half):
            shift = np.array([[1, 0, dx], [0, 1, dy]], np.float32)
            there = _moved(spread, shift)
            colours = _moved(mean, shift)
            better = there < best
            best[better] = there[better]
            result[better] = colours[better]
    return result


def direction(luma: Field, sigma: float, chance: Chance) -> tuple[Field, Field]:
    """Unit vectors along the picture's edges (structure tensor); where there are none, aslant as hands paint."""
    gx, gy = cv2.Sobel(luma, cv2.CV_32F, 1, 0), cv2.Sobel(luma, cv2.CV_32F, 0, 1)
    drift = 0.6 + 0.35 * chance.smooth(16)
    # Doubled angles, in which a direction and its opposite are one and can be averaged.
    weight = 0.004
    real = blur(gx * gx - gy * gy, sigma) - weight * np.cos(2 * drift)
    imaginary = blur(2 * gx * gy, sigma) - weight * np.sin(2 * drift)
    angle = np.arctan2(imaginary, real) / 2 + np.pi / 2
    return np.cos(angle).astype(np.float32), np.sin(angle).astype(np.float32)


def smear(field: NDArray[Any], vx: Field, vy: Field, length: float, steps: int = 6) -> NDArray[Any]:
    """Average along the vectors, ``length`` pixels to both sides (line integral convolution)."""
    height, width = vx.shape
    y0, x0 = np.mgrid[0:height, 0:width].astype(np.float32)
    total = field.copy()
    for sign in (-1.0, 1.0):
        x, y, stride = x0.copy(), y0.copy(), np.float32(sign * length / steps)
        dx, dy = vx, vy
        for _ in range(steps):
            x, y = x + stride * dx, y + stride * dy
            total += cv2.remap(field, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)
            there_x = cv2.remap(vx, x, y, cv2.INTER_NEAREST, borderMode=cv2.BORDER_REFLECT)
            there_y = cv2.remap(vy, x, y, cv2.INTER_NEAREST, borderMode=cv2.BORDER_REFLECT)
            # A direction has no sign: go on the way we came.
            same = np.sign(there_x * dx + there_y * dy) + 1e-3
            dx, dy = there_x * np.sign(same), there_y * np.sign(same)
    return np.asarray(total / (2 * steps + 1), np.float32)


def brush_noise(chance: Chance, vx: Field, vy: Field, grain: float, length: float) -> Field:
    """Strokes: noise smeared along the vectors, mean 0, deviation about 1; float32 [H, W]."""
    # Smearing n independent features leaves the root of n of their strength; no mean of this very picture is taken,
    # or a stroke would depend on all the others.
    return np.asarray(smear(chance.smooth(grain), vx, vy, length) * (1 + 2 * length / grain) ** 0.5 * 0.8, np.float32)


def displace(picture: Picture, dx: Field, dy: Field) -> Picture:
    """Each pixel fetched (dx, dy) away."""
    height, width = dx.shape
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    return cv2.remap(picture, x + dx, y + dy, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT).astype(np.float32)


def hatching(chance: Chance, angle: float, period: float) -> Field:
    """Pencil strokes at an angle (radians), their pressure and place left to chance; 1 on a stroke, 0 between."""
    return limited(0.5 + 0.9 * chance.ripples(angle, period) + 0.3 * chance.smooth(14))


def ink_lines(luma: Field, sigma: float, sharpness: float, threshold: float) -> Field:
    """Lines where a dark side meets a lighter one (extended difference of Gaussians); 1 is ink, 0 paper."""
    narrow, wide = blur(luma, sigma), blur(luma, sigma * 1.6)
    difference = wide - narrow
    return limited((difference - threshold) * sharpness)


def edges(picture: Picture, sigma: float) -> tuple[Field, Field, Field]:
    """Strength of the strongest channel's gradient at each pixel, and its direction's (x, y); float32 [H, W] each."""
    smooth = blur(picture, sigma)
    gx, gy = cv2.Sobel(smooth, cv2.CV_32F, 1, 0, scale=0.25), cv2.Sobel(smooth, cv2.CV_32F, 0, 1, scale=0.25)
    strength = np.hypot(gx, gy)
    top = strength.argmax(2)[..., None]
    flat = np.take_along_axis(strength, top, 2)[..., 0]
    return (
        flat.astype(np.float32),
        np.take_along_axis(gx, top, 2)[..., 0].astype(np.float32),
        np.take_along_axis(gy, top, 2)[..., 0].astype(np.float32),
    )


def saturate(picture: Picture, factor: float) -> Picture:
    """Away from grey (above 1) or towards it."""
    luma = grey(picture)[..., None]
    return limited(luma + (picture - luma) * factor)


def to_pixels(picture: Picture) -> Pixels:
    """0..1 -> uint8."""
    return np.clip(picture * 255 + 0.5, 0, 255).astype(np.uint8)


def to_picture(pixels: Pixels) -> Picture:
    """uint8 -> 0..1."""
    return pixels.astype(np.float32) / 255
