"""The styles: what each makes of a picture. Strokes, grain and hatching follow from latent noise."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import cv2
import numpy as np

from streamv2v_obs.demo.chance import Chance
from streamv2v_obs.demo.strokes import (
    Picture,
    blur,
    brush_noise,
    direction,
    displace,
    edges,
    grey,
    hatching,
    ink_lines,
    kuwahara,
    limited,
    saturate,
    smear,
    to_picture,
    to_pixels,
)
from streamv2v_obs.demo.textures import Field
from streamv2v_obs.frames import Pixels

Teacher = Callable[[Chance, Picture], Picture]

PANE, PANE_ANGLE = 24.0, 1.0
"""Of stained glass: from lead to lead, in pixels, and the slant of the two ways that it runs (radians)."""


def _ink(picture: Picture, lines: Field, ink: tuple[float, float, float] = (0.05, 0.04, 0.07)) -> Picture:
    share = lines[..., None]
    return np.asarray(picture * (1 - share) + np.array(ink, np.float32) * share, np.float32)


def photo(chance: Chance, picture: Picture) -> Picture:
    """As it is, a little clearer."""
    clean = cv2.bilateralFilter(picture, 5, 0.08, 2)
    return saturate(np.clip(0.5 + (clean - 0.5) * 1.08, 0, 1).astype(np.float32), 1.08)


def oil(chance: Chance, picture: Picture) -> Picture:
    """Thick strokes along the forms, their bristles in relief."""
    base = kuwahara(kuwahara(picture, 5), 3)
    vx, vy = direction(grey(base), 3, chance)
    strokes = brush_noise(chance, vx, vy, 4.5, 12)
    # Colours are carried across the forms by whole strokes.
    base = displace(base, -vy * strokes * 1.2, vx * strokes * 1.2)
    base = smear(base, vx, vy, 3, 2)
    relief = cv2.Sobel(strokes, cv2.CV_32F, 1, 1, ksize=3)
    lit = saturate(base, 1.35) * (1 + 0.085 * strokes + 0.03 * relief)[..., None]
    return limited(lit)


def watercolor(chance: Chance, picture: Picture) -> Picture:
    """Washes with wandering borders, pigment that settled in clouds and dark rims, paper shining through."""
    wander = chance.smooth(22) * 1.1, chance.smooth(22) * 1.1
    wash = kuwahara(cv2.bilateralFilter(displace(picture, *wander), 7, 0.2, 5), 4)
    rim, _, _ = edges(wash, 1.4)
    pigment = chance.cloud(36, 3) - 0.5
    thin = 1 - (1 - saturate(wash, 1.15)) * (0.8 + 0.3 * pigment)[..., None]
    paper = np.array([0.985, 0.97, 0.94], np.float32)
    dried = thin * (1 - np.clip(rim * 1.1, 0, 0.4))[..., None] * paper
    return limited(dried + 0.015 * chance.smooth(4)[..., None])


def pencil(chance: Chance, picture: Picture) -> Picture:
    """Graphite on white: outlines, soft tones, and hatching in the shade."""
    luma = cv2.bilateralFilter(grey(picture), 7, 0.12, 4)
    strength, _, _ = edges(picture, 1.0)
    outline = np.clip(strength * 3.2 - 0.12, 0, 1) * (0.85 + 0.15 * chance.smooth(9))
    shade = np.clip(0.78 - luma, 0, 1)
    tone = 0.6 * shade + 0.42 * shade * hatching(chance, 0.8, 7.0)
    tone += 0.4 * np.clip(0.35 - luma, 0, 1) * hatching(chance, 2.0, 7.0)
    paper = 0.97 + 0.012 * chance.smooth(4)
    drawn = paper * (1 - np.clip(tone, 0, 0.82)) * (1 - np.clip(outline, 0, 1) * 0.8)
    return limited(drawn[..., None] * np.array([1.0, 0.995, 0.98], np.float32))


def _cells(picture: Picture, levels: int, offset: Any) -> Picture:
    """Lightness in a few steps with soft edges; hue kept."""
    luma = grey(picture)[..., None]
    scaled = luma * levels + offset
    step = np.floor(scaled)
    stepped = (step + np.clip((scaled - step - 0.5) * 4 + 0.5, 0, 1) - offset) / levels
    return limited(picture * (stepped + 0.03) / (luma + 0.03))


def anime(chance: Chance, picture: Picture) -> Picture:
    """Clean flats in few tones, bright colours, thin dark lines."""
    flat = kuwahara(cv2.bilateralFilter(cv2.bilateralFilter(picture, 7, 0.2, 5), 7, 0.15, 5), 4)
    toned = _cells(flat, 5, 0.5)
    bright = saturate(np.clip(toned * 1.08 + 0.03, 0, 1).astype(np.float32), 1.35)
    strength, _, _ = edges(flat, 1.0)
    lines = np.clip(ink_lines(grey(flat), 1.2, 26, 0.012) * 0.9 + np.clip(strength * 2 - 0.3, 0, 0.6), 0, 1)
    lines = lines * limited(0.8 + 0.3 * chance.smooth(12))
    return _ink(bright, lines.astype(np.float32), (0.1, 0.07, 0.12))


def comic(chance: Chance, picture: Picture) -> Picture:
    """Bold ink, four tones, printed dots in the middle ones."""
    flat = kuwahara(cv2.bilateralFilter(picture, 9, 0.25, 6), 6)
    luma = grey(flat)
    dots = np.clip(0.5 + (chance.ripples(0.6, 8.0) + chance.ripples(0.6 + np.pi / 2, 8.0) - 0.7) * 1.2, 0, 1)
    middle = np.clip(1 - np.abs(luma - 0.5) * 5, 0, 1)
    toned = saturate(_cells(flat, 3, 0.5), 1.6)
    printed = toned * (1 - 0.4 * (dots * middle))[..., None]
    strength, _, _ = edges(flat, 1.4)
    lines = np.clip(ink_lines(luma, 2.0, 24, 0.014) + np.clip(strength * 3 - 0.25, 0, 1) + (luma < 0.1) * 0.9, 0, 1)
    return _ink(printed.astype(np.float32), blur(lines.astype(np.float32), 0.6))


def pixel_art(chance: Chance, picture: Picture) -> Picture:
    """Squares of eight pixels in a small palette, dithered between its steps."""
    height, width = picture.shape[:2]
    small = cv2.resize(saturate(picture, 1.4), (width // 8, height // 8), interpolation=cv2.INTER_AREA)
    small = np.clip(0.5 + (small - 0.5) * 1.2, 0, 1)
    dither = cv2.resize(chance.smooth(6), (width // 8, height // 8), interpolation=cv2.INTER_AREA)
    levels, offset = 5, (0.5 + 0.22 * dither)[..., None]
    small = np.clip(np.floor(small * levels + offset) / levels, 0, 1).astype(np.float32)
    return np.asarray(cv2.resize(small, (width, height), interpolation=cv2.INTER_NEAREST), np.float32)


def neon(chance: Chance, picture: Picture) -> Picture:
    """Glowing tubes along the edges in a night; colours by direction, drifting at random."""
    strength, gx, gy = edges(cv2.bilateralFilter(picture, 7, 0.15, 4), 1.3)
    tube = np.clip(strength * 5 - 0.2, 0, 1)
    hue = 270 + 55 * np.sin(2 * np.arctan2(gy, gx)) + 45 * chance.smooth(40)
    hsv = np.stack([hue % 360, np.full_like(hue, 0.85), np.ones_like(hue)], 2).astype(np.float32)
    light = cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB) * tube[..., None]
    glow = blur(light, 3) * 0.9 + blur(light, 10) * 0.7
    base = saturate(blur(picture, 2), 1.2) * np.array([0.1, 0.06, 0.2], np.float32) + 0.015
    return limited(base + glow + light * 0.75 + (tube[..., None] ** 4) * 0.3)


def blueprint(chance: Chance, picture: Picture) -> Picture:
    """White lines on blue paper, faint washes and the wear of folding."""
    clean = cv2.bilateralFilter(cv2.bilateralFilter(picture, 7, 0.2, 4), 7, 0.2, 4)
    strength, _, _ = edges(clean, 1.1)
    lines = np.clip(strength * 4.5 - 0.22, 0, 1) * (0.92 + 0.12 * chance.smooth(5))
    wear = 0.05 * chance.smooth(24) + 0.05 * chance.smooth(4)
    paper = np.array([0.06, 0.2, 0.5], np.float32) * (0.85 + 0.3 * grey(clean) + wear)[..., None]
    white = np.array([0.93, 0.96, 1.0], np.float32)
    return limited(paper + (white - paper) * limited(lines)[..., None])


def sepia(chance: Chance, picture: Picture) -> Picture:
    """An old print: brown, faded, stained, grainy."""
    luma = np.clip(0.5 + (grey(picture) - 0.5) * 1.05, 0, 1)
    stains = 1 + 0.05 * chance.smooth(36) + 0.035 * chance.smooth(4)
    tone = (luma * 0.88 + 0.06) * stains
    dark, lit = np.array([0.16, 0.09, 0.04], np.float32), np.array([0.97, 0.87, 0.69], np.float32)
    return limited(dark + (lit - dark) * tone[..., None])


def stained_glass(chance: Chance, picture: Picture) -> Picture:
    """Bevelled panes in a lattice of dark lead, more lead along the forms.

    Not panes around seeds strewn at random: where these lie would follow from what is large in the noise, which the
    model is not given (``translator.noise``).
    """
    flat = kuwahara(cv2.bilateralFilter(picture, 9, 0.25, 6), 6)
    across, along = chance.phase(PANE_ANGLE, PANE), chance.phase(np.pi - PANE_ANGLE, PANE)
    far = PANE * np.minimum(np.minimum(across, 1 - across), np.minimum(along, 1 - along))
    strength, _, _ = edges(flat, 1.2)
    lead = np.clip(np.clip(1.9 - far, 0, 1) + np.clip(strength * 5 - 0.45, 0, 1), 0, 1)
    u, v = 2 * across - 1, 2 * along - 1
    tint = 1 + 0.14 * np.stack([u, 0.5 * v - 0.3 * u, -v], 2)
    bevel = 1.14 - 0.11 * (u * u + v * v)
    glass = saturate(_cells(flat, 6, 0.5), 1.7) * tint * bevel[..., None] + 0.03
    return limited(_ink(glass.astype(np.float32), lead.astype(np.float32), (0.04, 0.04, 0.05)))


def clay(chance: Chance, picture: Picture) -> Picture:
    """Modelled shapes: soft bodies lit from the upper left, thumb marks in them."""
    flat = kuwahara(cv2.bilateralFilter(picture, 9, 0.3, 7), 8)
    strength, _, _ = edges(flat, 1.2)
    # Every border is a seam, and between seams the clay bulges.
    bulge = 1 - np.clip(blur(np.clip(strength * 4, 0, 1), 3.5) * 2, 0, 1)
    thumbs = 0.3 * chance.smooth(14) + 0.12 * chance.smooth(7)
    relief = blur(bulge + 0.22 * thumbs, 1.3)
    slope = cv2.Sobel(relief, cv2.CV_32F, 1, 0, scale=0.25) + cv2.Sobel(relief, cv2.CV_32F, 0, 1, scale=0.25)
    soft = saturate(blur(flat, 0.8), 1.3) * 0.85 + 0.1
    lit = soft * (1 + 1.5 * np.clip(slope, -0.25, 0.25) - 0.25 * (1 - bulge))[..., None]
    shine = np.clip(slope - 0.1, 0, 0.3)[..., None] * 0.7
    return limited(lit + shine)


STYLES: dict[str, Teacher] = {
    "photo": photo,
    "oil": oil,
    "watercolor": watercolor,
    "pencil": pencil,
    "anime": anime,
    "comic": comic,
    "pixel": pixel_art,
    "neon": neon,
    "blueprint": blueprint,
    "sepia": sepia,
    "glass": stained_glass,
    "clay": clay,
}
"""By the names that the pool and the sheet use; ``prompts`` has the words for each."""


def teach(chance: Chance, style: str, pixels: Pixels) -> Pixels:
    """What ``style`` makes of uint8 [H, W, 3] by a chance of that size; other noise, other strokes."""
    return to_pixels(STYLES[style](chance.again(), to_picture(pixels)))
