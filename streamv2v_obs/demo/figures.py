"""Faces and figures, drawn: the likeliest thing in front of a streamer's camera."""

from __future__ import annotations

import cv2
import numpy as np

from streamv2v_obs.demo.textures import Field, colour, surface
from streamv2v_obs.frames import Pixels

Point = tuple[int, int]

SKIN = np.array(
    [(255, 224, 196), (241, 194, 160), (224, 172, 135), (198, 134, 98), (141, 85, 56), (92, 58, 42)], np.float32
)


def _rgb(value: Field) -> tuple[int, int, int]:
    red, green, blue = np.clip(value, 0, 255).astype(int).tolist()
    return red, green, blue


def _ellipse(picture: Pixels, centre: Point, axes: Point, fill: Field, angle: float = 0.0) -> None:
    size = max(1, axes[0]), max(1, axes[1])
    cv2.ellipse(picture, centre, size, angle, 0, 360, _rgb(fill), -1, cv2.LINE_AA)


def _shade(picture: Pixels, mask: Pixels, light: tuple[float, float], strength: float) -> None:
    """Brighten what of ``mask`` turns to the light and darken what turns away, as on a round body."""
    inside = cv2.distanceTransform((mask > 127).astype(np.uint8), cv2.DIST_L2, 5)
    reach = float(inside.max()) or 1.0
    height = cv2.GaussianBlur(np.sqrt(np.clip(inside / reach, 0, 1)), (0, 0), max(1.0, reach / 6))
    dx = cv2.Sobel(height, cv2.CV_32F, 1, 0) * light[0] + cv2.Sobel(height, cv2.CV_32F, 0, 1) * light[1]
    tone = np.clip(1 + strength * reach / 8 * dx, 0.7, 1.15)[..., None]
    shaded = np.clip(picture * tone, 0, 255)
    alpha = mask[..., None].astype(np.float32) / 255
    picture[:] = (picture * (1 - alpha) + shaded * alpha).astype(np.uint8)


def draw_person(rng: np.random.Generator, picture: Pixels) -> Pixels:
    """A person from the chest up, anywhere and of any size; draws into ``picture`` and gives the mask [H, W]."""
    height, width = picture.shape[:2]
    radius = rng.uniform(0.13, 0.27) * height
    cx, cy = rng.uniform(0.28, 0.72) * width, rng.uniform(0.3, 0.55) * height
    light = rng.uniform(-1, 1), -rng.uniform(0.1, 0.8)
    skin = SKIN[rng.integers(len(SKIN))] + rng.normal(0, 6, 3).astype(np.float32)
    if rng.random() < 0.12:
        skin = colour(rng)
    hair = (
        colour(rng) if rng.random() < 0.3 else rng.choice([0.25, 0.5, 0.8, 1.1]) * np.array((150, 105, 70), np.float32)
    )
    mask = np.zeros((height, width), np.uint8)

    def at(dx: float, dy: float) -> Point:
        return int(cx + dx * radius), int(cy + dy * radius)

    def blob(
        dx: float, dy: float, rx: float, ry: float, fill: Field, angle: float = 0.0, *, solid: bool = True
    ) -> None:
        axes = int(rx * radius), int(ry * radius)
        _ellipse(picture, at(dx, dy), axes, fill, angle)
        if solid:
            cv2.ellipse(mask, at(dx, dy), axes, angle, 0, 360, 255, -1, cv2.LINE_AA)

    long_hair = rng.random() < 0.45
    if long_hair:
        blob(0, 0.35, 1.25, rng.uniform(1.5, 2.1), hair * 0.8)
    shirt = surface(rng, height, width)
    body = np.zeros((height, width), np.uint8)
    shoulder = rng.uniform(1.7, 2.3)
    cv2.ellipse(body, at(0, 3.6), (int(shoulder * radius), int(2.1 * radius)), 0, 0, 360, 255, -1, cv2.LINE_AA)
    alpha = body[..., None].astype(np.float32) / 255
    picture[:] = (picture * (1 - alpha) + shirt * alpha).astype(np.uint8)
    np.maximum(mask, body, out=mask)
    cv2.rectangle(picture, at(-0.38, 0.7), at(0.38, 1.7), _rgb(skin * 0.82), -1, cv2.LINE_AA)
    blob(0, 1.7, 0.38, 0.22, skin * 0.82)
    for side in (-1, 1):
        blob(side * 0.96, 0.1, 0.16, 0.26, skin * 0.9)
    blob(0, -0.12, 1.06, 1.22, hair)
    head = np.zeros((height, width), np.uint8)
    cv2.ellipse(head, at(0, 0.1), (int(0.92 * radius), int(1.18 * radius)), 0, 0, 360, 255, -1, cv2.LINE_AA)
    blob(0, 0.1, 0.92, 1.18, skin)
    _shade(picture, head, light, 0.3)
    if rng.random() < 0.8:
        fringe = np.array(
            [at(x, -0.35 - 0.35 * np.cos(x * 2) + rng.normal(0, 0.08)) for x in np.linspace(-0.95, 0.95, 9)]
        )
        arc = np.array([at(1.02 * np.sin(a), -0.1 - 1.12 * np.cos(a)) for a in np.linspace(1.3, -1.3, 12)])
        cv2.fillPoly(picture, [np.concatenate([fringe, arc]).astype(np.int32)], _rgb(hair * 1.08), cv2.LINE_AA)
    gaze, open_eye = rng.uniform(-0.06, 0.06), rng.uniform(0.07, 0.13)
    iris = colour(rng)
    for side in (-1, 1):
        x = side * 0.38
        blob(x, 0.02, 0.19, open_eye, np.array((250, 250, 248), np.float32), solid=False)
        blob(x + gaze, 0.02, 0.085, 0.095, iris * 0.7, solid=False)
        blob(x + gaze, 0.02, 0.045, 0.05, np.full(3, 15, np.float32), solid=False)
        brow = [at(x - 0.2, -0.2 + rng.normal(0, 0.03)), at(x + 0.2, -0.2 + rng.normal(0, 0.03))]
        cv2.line(picture, brow[0], brow[1], _rgb(hair * 0.6), max(1, int(radius * 0.07)), cv2.LINE_AA)
    cv2.line(
        picture, at(0.02, 0.05), at(light[0] * -0.1, 0.42), _rgb(skin * 0.78), max(1, int(radius * 0.05)), cv2.LINE_AA
    )
    smile = rng.uniform(-0.05, 0.22)
    mouth = np.array([at(x, 0.66 + smile * (1 - (x / 0.36) ** 2)) for x in np.linspace(-0.36, 0.36, 9)])
    lips = _rgb(np.array((175, 70, 75), np.float32) * rng.uniform(0.7, 1.1))
    cv2.polylines(picture, [mouth.astype(np.int32)], False, lips, max(1, int(radius * 0.08)), cv2.LINE_AA)
    if rng.random() < 0.25:
        for side in (-1, 1):
            cv2.circle(
                picture,
                at(side * 0.38, 0.03),
                int(0.28 * radius),
                (25, 25, 30),
                max(1, int(radius * 0.05)),
                cv2.LINE_AA,
            )
    if rng.random() < 0.2:
        cv2.ellipse(
            picture,
            at(0, 0),
            (int(1.15 * radius), int(1.25 * radius)),
            0,
            185,
            355,
            (35, 35, 40),
            max(2, int(radius * 0.14)),
            cv2.LINE_AA,
        )
        for side in (-1, 1):
            blob(side * 1.1, 0.1, 0.2, 0.36, np.full(3, 45, np.float32))
    return mask


def draw_figure(rng: np.random.Generator, picture: Pixels) -> None:
    """A whole small figure, arms and legs in any pose, as game figures have; draws into ``picture``."""
    height, width = picture.shape[:2]
    unit = rng.uniform(0.02, 0.06) * height
    x, y = rng.uniform(0.1, 0.9) * width, rng.uniform(0.35, 0.8) * height
    cloth, legs, skin = colour(rng), colour(rng), SKIN[rng.integers(len(SKIN))]
    thick = max(2, int(unit * 0.9))

    def limb(start: tuple[float, float], angle: float, length: float, fill: Field) -> tuple[float, float]:
        end = start[0] + length * unit * np.sin(angle), start[1] + length * unit * np.cos(angle)
        cv2.line(picture, (int(start[0]), int(start[1])), (int(end[0]), int(end[1])), _rgb(fill), thick, cv2.LINE_AA)
        return end

    hip, neck = (x, y), (x + rng.normal(0, 0.4) * unit, y - 3.2 * unit)
    for _ in range(2):
        knee = limb(hip, rng.normal(0, 0.45), 2, legs)
        limb(knee, rng.normal(0, 0.45), 2, legs * 0.85)
        elbow = limb(neck, rng.normal(0, 1.1), 1.6, cloth * 0.9)
        limb(elbow, rng.normal(0, 1.4), 1.5, skin)
    cv2.line(
        picture, (int(hip[0]), int(hip[1])), (int(neck[0]), int(neck[1])), _rgb(cloth), int(thick * 1.9), cv2.LINE_AA
    )
    _ellipse(picture, (int(neck[0]), int(neck[1] - 1.4 * unit)), (int(unit), int(1.15 * unit)), skin)
