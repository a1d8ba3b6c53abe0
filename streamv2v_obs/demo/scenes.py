"""Pictures to train on, each drawn from a random generator alone: dead leaves, people, photographs, screens, views."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np

from streamv2v_obs.demo.figures import draw_figure, draw_person
from streamv2v_obs.demo.textures import Field, as_pixels, cloud, colour, gradient, mix, photo_patch, surface
from streamv2v_obs.frames import Pixels

Scene = Callable[[np.random.Generator, int, int], Pixels]

_LETTERS = list("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789!?+-:/")
_FONTS = (cv2.FONT_HERSHEY_SIMPLEX, cv2.FONT_HERSHEY_DUPLEX, cv2.FONT_HERSHEY_COMPLEX, cv2.FONT_HERSHEY_TRIPLEX)


def _rgb(value: Field) -> tuple[int, int, int]:
    red, green, blue = np.clip(value, 0, 255).astype(int).tolist()
    return red, green, blue


def _cover(rng: np.random.Generator, picture: Pixels, mask: Pixels) -> None:
    """Fill what ``mask`` [H, W] covers with a random surface, as large as the mask's box."""
    x, y, w, h = cv2.boundingRect(mask)
    if w < 2 or h < 2:
        return
    box = np.s_[y : y + h, x : x + w]
    alpha = mask[box][..., None].astype(np.float32) / 255
    picture[box] = (picture[box] * (1 - alpha) + surface(rng, h, w) * alpha).astype(np.uint8)


def _write(rng: np.random.Generator, target: Pixels, letters: int, scale: float, fill: tuple[int, ...] | int) -> None:
    height, width = target.shape[:2]
    text = "".join(rng.choice(_LETTERS, letters))
    at = int(rng.uniform(0, 0.8) * width), int(rng.uniform(0.1, 1) * height)
    # OpenCV's stubs want a sequence, a mask's ink is one number.
    ink = (fill,) if isinstance(fill, int) else fill
    cv2.putText(target, text, at, int(rng.choice(_FONTS)), scale, ink, max(1, int(scale * 1.6)), cv2.LINE_AA)


def shape_mask(rng: np.random.Generator, height: int, width: int, size: float) -> Pixels:
    """One disc, ellipse, box, polygon, star, line or word about ``size`` pixels large; uint8 [H, W], 0..255."""
    mask = np.zeros((height, width), np.uint8)
    cx, cy = rng.uniform(0, width), rng.uniform(0, height)
    kind = rng.choice(["ellipse", "box", "polygon", "star", "line", "word"], p=[0.32, 0.22, 0.2, 0.06, 0.12, 0.08])
    angle = rng.uniform(0, 180) if rng.random() < 0.6 else 0.0
    if kind == "ellipse":
        axes = max(1, int(size / 2)), max(1, int(size / 2 * rng.uniform(0.35, 1)))
        cv2.ellipse(mask, (int(cx), int(cy)), axes, angle, 0, 360, (255,), -1, cv2.LINE_AA)
    elif kind == "box":
        corners = cv2.boxPoints(((cx, cy), (size, size * rng.uniform(0.25, 1)), angle))
        cv2.fillPoly(mask, [corners.astype(np.int32)], (255,), cv2.LINE_AA)
    elif kind in ("polygon", "star"):
        count = int(rng.integers(3, 8)) if kind == "polygon" else 10
        turns = np.sort(rng.uniform(0, 2 * np.pi, count)) if kind == "polygon" else np.arange(10) * np.pi / 5
        reach = rng.uniform(0.5, 1, count) if kind == "polygon" else np.where(np.arange(10) % 2, 0.42, 1.0)
        points = np.stack([cx + np.cos(turns) * reach * size / 2, cy + np.sin(turns) * reach * size / 2], 1)
        cv2.fillPoly(mask, [points.astype(np.int32)], (255,), cv2.LINE_AA)
    elif kind == "line":
        end = cx + rng.normal(0, size), cy + rng.normal(0, size)
        thick = max(1, int(rng.uniform(1, 9)))
        cv2.line(mask, (int(cx), int(cy)), (int(end[0]), int(end[1])), (255,), thick, cv2.LINE_AA)
    else:
        _write(rng, mask, int(rng.integers(2, 7)), max(0.5, size / 60), 255)
    return mask


def scatter(rng: np.random.Generator, picture: Pixels, count: int) -> None:
    """Lay ``count`` random shapes over ``picture``, small ones more often than large ones (dead leaves)."""
    height, width = picture.shape[:2]
    for _ in range(count):
        size = float(np.clip(0.07 * height / (rng.random() + 0.06), 8, height * 0.8))
        mask = shape_mask(rng, height, width, size)
        if rng.random() < 0.25:
            shadow = cv2.blur(np.roll(mask, (4, 5), (0, 1)), (9, 9))
            picture[:] = (picture * (1 - 0.45 / 255 * shadow[..., None].astype(np.float32))).astype(np.uint8)
        _cover(rng, picture, mask)


def dead_leaves(rng: np.random.Generator, height: int, width: int) -> Pixels:
    """Shapes over shapes, as seen from above."""
    picture = surface(rng, height, width)
    scatter(rng, picture, int(rng.integers(8, 34)))
    return picture


def person(rng: np.random.Generator, height: int, width: int) -> Pixels:
    """A person before something: a room, a view, a blurred photograph."""
    picture = view(rng, height, width) if rng.random() < 0.25 else surface(rng, height, width)
    if rng.random() < 0.7:
        scatter(rng, picture, int(rng.integers(2, 12)))
    if rng.random() < 0.4:
        picture = cv2.GaussianBlur(picture, (0, 0), rng.uniform(1, 5)).astype(np.uint8)
    draw_person(rng, picture)
    return picture


def photograph(rng: np.random.Generator, height: int, width: int) -> Pixels:
    """A recoloured crop of a photograph, at times with shapes over it."""
    picture: Pixels = photo_patch(rng, height, width).copy()
    if rng.random() < 0.35:
        scatter(rng, picture, int(rng.integers(1, 5)))
    return picture


def view(rng: np.random.Generator, height: int, width: int) -> Pixels:
    """Sky, sun, hills, trees and houses."""
    sky = gradient(rng, height, width) if rng.random() < 0.3 else np.linspace(0, 1, height, dtype=np.float32)[:, None]
    picture = mix(np.broadcast_to(sky, (height, width)).astype(np.float32), colour(rng), colour(rng))
    if rng.random() < 0.5:
        drift = np.clip(cloud(rng, height, width, width / 4) * 2.6 - 1.5, 0, 1)[..., None]
        picture = (picture * (1 - drift) + 245 * drift).astype(np.uint8)
    if rng.random() < 0.6:
        at = int(rng.uniform(0, width)), int(rng.uniform(0.05, 0.5) * height)
        cv2.circle(
            picture, at, int(rng.uniform(0.03, 0.12) * height), _rgb(colour(rng, 0.3) * 0.4 + 150), -1, cv2.LINE_AA
        )
    x = np.arange(width)
    for layer in range(int(rng.integers(2, 5))):
        base = height * (0.45 + 0.15 * layer) + rng.normal(0, 8)
        ridge = np.full(width, base)
        for _ in range(3):
            waves, phase = rng.uniform(1, 5) / 1.5, rng.uniform(0, 6)
            ridge += rng.uniform(4, 26) * np.sin(x / width * waves * 2 * np.pi + phase)
        points = np.concatenate([np.stack([x, ridge], 1), [[width, height], [0, height]]]).astype(np.int32)
        mask = np.zeros((height, width), np.uint8)
        cv2.fillPoly(mask, [points], (255,), cv2.LINE_AA)
        _cover(rng, picture, mask)
        for _ in range(int(rng.integers(0, 5))):
            px = int(rng.integers(0, width))
            _draw_tree_or_house(rng, picture, px, int(ridge[px]), rng.uniform(0.06, 0.22) * height)
    return picture


def _draw_tree_or_house(rng: np.random.Generator, picture: Pixels, x: int, y: int, size: float) -> None:
    fill = _rgb(colour(rng))
    s = int(size)
    if rng.random() < 0.5:
        cv2.line(picture, (x, y + s // 4), (x, y - s), (85, 60, 40), max(2, s // 9), cv2.LINE_AA)
        for _ in range(3):
            at = x + int(rng.normal(0, s / 4)), y - s + int(rng.normal(0, s / 5))
            cv2.circle(picture, at, max(2, int(s * rng.uniform(0.25, 0.5))), fill, -1, cv2.LINE_AA)
    else:
        cv2.rectangle(picture, (x - s // 2, y - s), (x + s // 2, y + s // 4), fill, -1)
        roof = np.array([(x - s * 2 // 3, y - s), (x + s * 2 // 3, y - s), (x, y - s - s // 2)], np.int32)
        cv2.fillPoly(picture, [roof], _rgb(colour(rng)), cv2.LINE_AA)
        for side in (-1, 1):
            cx = x + side * s // 4
            cv2.rectangle(picture, (cx - s // 10, y - s * 2 // 3), (cx + s // 10, y - s // 3), _rgb(colour(rng)), -1)


def windows(rng: np.random.Generator, height: int, width: int) -> Pixels:
    """A desktop: windows with bars, buttons, lines of text and pictures."""
    picture = surface(rng, height, width)
    for _ in range(int(rng.integers(1, 5))):
        w, h = int(rng.uniform(0.3, 0.8) * width), int(rng.uniform(0.25, 0.75) * height)
        x, y = int(rng.uniform(-0.1, 0.7) * width), int(rng.uniform(-0.05, 0.7) * height)
        dark = rng.random() < 0.5
        paper = np.full(3, rng.uniform(15, 60) if dark else rng.uniform(225, 255), np.float32)
        ink = np.full(3, 215 if dark else 40, np.float32)
        cv2.rectangle(picture, (x, y), (x + w, y + h), _rgb(paper), -1)
        bar = max(6, height // 22)
        cv2.rectangle(picture, (x, y), (x + w, y + bar), _rgb(colour(rng) * 0.7 + 40), -1)
        for button in range(3):
            cv2.circle(
                picture, (x + w - bar * (button + 1), y + bar // 2), bar // 4, _rgb(colour(rng)), -1, cv2.LINE_AA
            )
        top = y + bar + 4
        if rng.random() < 0.4 and h > 3 * bar and x >= 0:
            inner = picture[max(top, 0) : y + h // 2, x + 4 : x + w // 2]
            if inner.shape[0] > 8 and inner.shape[1] > 8:
                inner[:] = surface(rng, inner.shape[0], inner.shape[1])
                top = y + h // 2 + 6
        scale = rng.uniform(0.35, 0.8) * height / 512
        for line in range(top + int(24 * scale), y + h - 4, max(8, int(34 * scale))):
            text = "".join(rng.choice([*_LETTERS, " ", " "], int(rng.integers(3, 24))))
            hue = ink if rng.random() < 0.75 else colour(rng)
            cv2.putText(
                picture, text, (x + 6, line), _FONTS[0], scale, _rgb(hue), max(1, round(scale * 2)), cv2.LINE_AA
            )
    return picture


def game(rng: np.random.Generator, height: int, width: int) -> Pixels:
    """A game's screen: a view, platforms, figures, coins, bars and a score."""
    picture = view(rng, height, width)
    for _ in range(int(rng.integers(2, 7))):
        w, h = int(rng.uniform(0.1, 0.4) * width), int(rng.uniform(0.03, 0.08) * height)
        x, y = int(rng.uniform(-0.1, 0.9) * width), int(rng.uniform(0.3, 0.95) * height)
        tile = surface(rng, h, w)
        spot = picture[y : y + h, max(x, 0) : x + w]
        spot[:] = tile[: spot.shape[0], : spot.shape[1]]
        for coin in range(int(rng.integers(0, 4))):
            cv2.circle(picture, (x + 20 + coin * 26, y - 18), 8, _rgb(colour(rng, 0.9)), -1, cv2.LINE_AA)
    for _ in range(int(rng.integers(1, 5))):
        draw_figure(rng, picture)
    for bar in range(int(rng.integers(1, 4))):
        y = 10 + bar * 20
        cv2.rectangle(picture, (10, y), (int(width * 0.35), y + 12), (30, 30, 30), -1)
        cv2.rectangle(
            picture, (12, y + 2), (12 + int(width * rng.uniform(0.02, 0.32)), y + 10), _rgb(colour(rng, 0.9)), -1
        )
    _write(rng, picture, 6, 1.0 * height / 512, _rgb(colour(rng)))
    return picture


SCENES: dict[str, tuple[Scene, float]] = {
    "dead leaves": (dead_leaves, 0.2),
    "person": (person, 0.24),
    "photograph": (photograph, 0.3),
    "view": (view, 0.1),
    "windows": (windows, 0.06),
    "game": (game, 0.1),
}
"""Each kind and its share."""


def draw_scene(rng: np.random.Generator, height: int, width: int, kind: str | None = None) -> Pixels:
    """A picture of a random (or the given) kind, uint8 [H, W, 3]: drawn twice as large, lit, and reduced."""
    if kind is None:
        kind = str(rng.choice(list(SCENES), p=[share for _, share in SCENES.values()]))
    large = SCENES[kind][0](rng, 2 * height, 2 * width)
    picture: Field = cv2.resize(large, (width, height), interpolation=cv2.INTER_AREA).astype(np.float32)
    if rng.random() < 0.4:
        low = rng.uniform(0.5, 0.95)
        picture *= (low + (1.15 - low) * gradient(rng, height, width))[..., None]
    if rng.random() < 0.25:
        picture = cv2.GaussianBlur(picture, (0, 0), rng.uniform(0.4, 1.1))
    if rng.random() < 0.25:
        picture += rng.normal(0, rng.uniform(1, 5), picture.shape)
    return as_pixels(picture)
