"""Moving pictures whose optical flow and occlusion are known exactly, since they are computed and not estimated."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import cv2
import numpy as np
from numpy.typing import NDArray

from streamv2v_obs.demo.scenes import draw_scene, shape_mask
from streamv2v_obs.demo.textures import Field, surface
from streamv2v_obs.frames import Pixels

Motion = NDArray[np.float64]
"""float64 [2, 3]: where a layer's pixel lies in the frame, as an affine map."""


@dataclass(frozen=True)
class Layer:
    """A flat thing that moves as one. ``mask`` [H, W] 0..255 says where it is; the layer below has none missing."""

    pixels: Pixels
    mask: Pixels
    path: Callable[[float], Motion]


Passage = tuple[NDArray[np.float32], NDArray[np.bool_]]
"""Where each pixel of a frame lies in another one, float32 [H, W, 2] (x, y), and whether it can be seen there."""


@dataclass(frozen=True)
class Clip:
    """Frames uint8 [H, W, 3]; ``flow[t]`` float32 [H, W, 2] (x, y): where in frame t + 1 a pixel of frame t has gone.

    ``visible[t]`` bool [H, W]: whether it can be seen there; False where it went out of the picture or behind a
    layer, and at the very edges of layers, where a pixel belongs to two of them.
    """

    frames: list[Pixels]
    flow: list[NDArray[np.float32]]
    visible: list[NDArray[np.bool_]]
    again: dict[tuple[int, int], Passage] = field(default_factory=dict)
    """The same between frames that lie further apart, whatever was in front in between."""


def affine(cx: float, cy: float, angle: float = 0.0, scale: float = 1.0, dx: float = 0.0, dy: float = 0.0) -> Motion:
    """Turn (radians) and scale around (cx, cy), then shift."""
    cosine, sine = scale * np.cos(angle), scale * np.sin(angle)
    return np.array(
        [
            [cosine, -sine, cx - cosine * cx + sine * cy + dx],
            [sine, cosine, cy - sine * cx - cosine * cy + dy],
        ]
    )


def _square(motion: Motion) -> Motion:
    return np.vstack([motion, [0.0, 0.0, 1.0]])


def _owners(layers: Sequence[Layer], at: float, height: int, width: int) -> tuple[Pixels, NDArray[np.int64], Field]:
    """The picture at a time, which layer each pixel shows, and how far it is that layer's alone (1) at edges."""
    picture: Field = np.zeros((height, width, 3), np.float32)
    owner = np.zeros((height, width), np.int64)
    pure = np.ones((height, width), np.float32)
    for number, layer in enumerate(layers):
        motion = layer.path(at)
        drawn = cv2.warpAffine(layer.pixels, motion, (width, height), flags=cv2.INTER_LINEAR).astype(np.float32)
        alpha = cv2.warpAffine(layer.mask, motion, (width, height), flags=cv2.INTER_LINEAR).astype(np.float32) / 255
        picture = picture * (1 - alpha[..., None]) + drawn * alpha[..., None]
        owner[alpha > 0.5] = number
        edge = (alpha > 0.01) & (alpha < 0.99)
        pure[alpha >= 0.99] = 1.0
        pure[edge] = 0.0
    return np.clip(picture + 0.5, 0, 255).astype(np.uint8), owner, pure


def render(
    layers: Sequence[Layer],
    times: Sequence[float],
    height: int,
    width: int,
    again: Sequence[tuple[int, int]] = (),
    whose: int = 0,
) -> Clip:
    """The layers, the lowest first, at each time; the lowest has to cover the whole picture at all of them.

    ``again``: pairs of frames whose passage is wanted, too, of the pixels of layer number ``whose``.
    """
    views = [_owners(layers, at, height, width) for at in times]
    y, x = np.mgrid[0:height, 0:width].astype(np.float64)
    here = np.stack([x, y, np.ones_like(x)], 2)

    def passage(number: int, later: int) -> Passage:
        _, owner, pure = views[number]
        _, later_owner, later_pure = views[later]
        gone = np.empty((height, width, 2))
        for index, layer in enumerate(layers):
            # Back to the layer's own pixels, and out again where it lies one frame later.
            step = _square(layer.path(times[later])) @ np.linalg.inv(_square(layer.path(times[number])))
            mine = owner == index
            gone[mine] = (here[mine] @ step.T)[:, :2]
        gx, gy = gone[..., 0].astype(np.float32), gone[..., 1].astype(np.float32)
        inside = (gx >= 0) & (gx <= width - 1) & (gy >= 0) & (gy <= height - 1)
        same = np.ones((height, width), bool)
        # All four pixels that a sample there would be mixed of have to show the same layer.
        for ox in (0, 1):
            for oy in (0, 1):
                ix = np.clip(np.floor(gx).astype(int) + ox, 0, width - 1)
                iy = np.clip(np.floor(gy).astype(int) + oy, 0, height - 1)
                same &= (later_owner[iy, ix] == owner) & (later_pure[iy, ix] > 0)
        return np.stack([gx - x, gy - y], 2).astype(np.float32), inside & same & (pure > 0)

    passages = [passage(number, number + 1) for number in range(len(times) - 1)]
    further = {}
    for first, second in again:
        flow, visible = passage(first, second)
        further[first, second] = flow, visible & (views[first][1] == whose)
    return Clip([view[0] for view in views], [flow for flow, _ in passages], [seen for _, seen in passages], further)


def warp_back(later: Pixels, flow: NDArray[np.float32]) -> Pixels:
    """Frame t as frame t + 1 shows it: each pixel fetched from where the flow says it has gone."""
    height, width = flow.shape[:2]
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    fetched = cv2.remap(later, x + flow[..., 0], y + flow[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return fetched.astype(np.uint8)


def _background(rng: np.random.Generator, side: int, path: Callable[[float], Motion], scene: Pixels | None) -> Layer:
    """A scene twice as wide as the picture, its middle where the picture is, so that it covers what moves in."""
    large = draw_scene(rng, 2 * side, 2 * side) if scene is None else cv2.resize(scene, (2 * side, 2 * side))
    # A little blur: what is as fine as a pixel changes when it is sampled between pixels, moving or not.
    soft = cv2.GaussianBlur(large, (0, 0), 1.2).astype(np.uint8)
    middle = np.array([[1.0, 0.0, -side / 2], [0.0, 1.0, -side / 2]])

    def placed(at: float) -> Motion:
        return (_square(path(at)) @ _square(middle))[:2]

    return Layer(soft, np.full((2 * side, 2 * side), 255, np.uint8), placed)


def _thing(rng: np.random.Generator, side: int, path: Callable[[float], Motion]) -> Layer:
    mask = np.zeros((side, side), np.uint8)
    while cv2.countNonZero(mask) < 0.02 * side * side:
        mask = np.maximum(mask, shape_mask(rng, side, side, rng.uniform(0.25, 0.5) * side))
    return Layer(cv2.GaussianBlur(surface(rng, side, side), (0, 0), 1.2).astype(np.uint8), mask, path)


KINDS = ("pan", "zoom", "rotation", "parallax", "occluder", "fast", "loop", "still")


def draw_clip(
    rng: np.random.Generator,
    kind: str,
    *,
    frames: int = 24,
    side: int = 256,
    scene: Pixels | None = None,
    moments: Sequence[int] | None = None,
) -> Clip:
    """A clip of one of KINDS; ``scene`` stands in for the drawn background. ``still`` has sensor noise and no motion.

    ``moments``: which of the ``frames`` are wanted, all by default.
    Speeds are in pixels a frame: pan 1-3, fast 8-12; zoom 1 % a frame, rotation 1 degree a frame at most.
    """
    middle = side / 2
    turn = rng.uniform(0, 2 * np.pi)
    ux, uy = np.cos(turn), np.sin(turn)
    half = frames / 2

    def shift(speed: float) -> Callable[[float], Motion]:
        # From one side to the other of where it lies at half time: never further than the background reaches.
        reach = min(speed, 0.45 * side / half)
        return lambda at: affine(middle, middle, dx=ux * reach * (at - half), dy=uy * reach * (at - half))

    def circle(at: float) -> Motion:
        phase = 2 * np.pi * at / frames
        return affine(
            middle, middle, 0.05 * np.sin(phase), dx=0.08 * side * np.cos(phase), dy=0.05 * side * np.sin(phase)
        )

    speed = rng.uniform(1, 3)
    paths: dict[str, Callable[[float], Motion]] = {
        "pan": shift(speed),
        "zoom": lambda at: affine(middle, middle, scale=1.3 + 0.01 * (at - half)),
        "rotation": lambda at: affine(middle, middle, angle=np.deg2rad(at - half)),
        "parallax": shift(0.5 * speed),
        "occluder": lambda at: affine(middle, middle),
        "fast": shift(rng.uniform(8, 12)),
        "loop": circle,
        "still": lambda at: affine(middle, middle),
    }
    if kind not in paths:
        raise ValueError(f"clip kind {kind!r}: allowed are {', '.join(KINDS)}")
    layers = [_background(rng, side, paths[kind], scene)]
    if kind == "parallax":
        layers += [_thing(rng, side, shift(factor * speed)) for factor in (1.0, 2.0)]
    if kind == "occluder":
        layers.append(_thing(rng, side, shift(rng.uniform(3, 6))))
    times = [float(number) for number in (range(frames) if moments is None else moments)]
    clip = render(layers, times, side, side)
    if kind == "still":
        noisy = [np.clip(frame + rng.normal(0, 3, frame.shape), 0, 255).astype(np.uint8) for frame in clip.frames]
        return Clip(noisy, clip.flow, clip.visible)
    return clip


def _in_the_middle(rng: np.random.Generator, side: int) -> Pixels:
    """The shape of something that is no line, and wholly in the picture."""
    while True:
        mask = shape_mask(rng, side, side, rng.uniform(0.3, 0.5) * side)
        inner = cv2.erode(mask, np.ones((5, 5), np.uint8))
        x, y, width, height = cv2.boundingRect(inner)
        if cv2.countNonZero(inner) > 0.03 * side * side and max(width, height) < 0.8 * side:
            shift = np.array([[1.0, 0.0, (side - width) / 2 - x], [0.0, 1.0, (side - height) / 2 - y]])
            return np.asarray(cv2.warpAffine(mask, shift, (side, side)), np.uint8)


HIDDEN = 60
"""Frames for which nothing can be seen of a thing that something passes in front of."""
_SEEN, _PASSING = 8, 4
HIDDEN_LAG = HIDDEN + 2 * _PASSING + _SEEN
"""From each frame that shows the thing before to one that shows it again."""
HIDDEN_FRAMES = _SEEN + HIDDEN_LAG


def draw_hidden(rng: np.random.Generator, *, side: int = 256, scene: Pixels | None = None) -> Clip:
    """A thing that is seen, hidden for HIDDEN frames, and seen again a little further on: 2 x 8 frames of it.

    It is patterned, as clothes and faces are. It moves as somebody before a camera does: by 1 to 6 % of the side over
    all of it, and the camera by 2 %. ``again`` has the thing's pixels alone.
    """
    turn, other = rng.uniform(0, 2 * np.pi, 2)
    middle = side / 2

    def drift(angle: float, reach: float) -> Callable[[float], Motion]:
        ux, uy = np.cos(angle), np.sin(angle)
        return lambda at: affine(
            middle, middle, dx=ux * reach * (at / HIDDEN_FRAMES - 0.5), dy=uy * reach * (at / HIDDEN_FRAMES - 0.5)
        )

    def in_front(at: float) -> Motion:
        # In from the left in _PASSING frames, and out to the right in as many.
        come = min(0.0, (at - _SEEN - _PASSING + 1) / _PASSING)
        gone = max(0.0, (at - _SEEN - _PASSING - HIDDEN + 2) / _PASSING)
        return affine(middle, middle, dx=1.2 * side * (come + gone))

    hides = Layer(surface(rng, side, side), np.full((side, side), 255, np.uint8), in_front)
    thing = Layer(
        cv2.GaussianBlur(draw_scene(rng, side, side), (0, 0), 1.2).astype(np.uint8),
        _in_the_middle(rng, side),
        drift(other, rng.uniform(0.01, 0.06) * side),
    )
    layers = [_background(rng, side, drift(turn, 0.02 * side), scene), thing, hides]
    pairs = [(number, number + HIDDEN_LAG) for number in range(_SEEN)]
    return render(layers, [float(number) for number in range(HIDDEN_FRAMES)], side, side, pairs, whose=1)
