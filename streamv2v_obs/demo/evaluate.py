"""The demo model in figures: what the autoencoder keeps, which style a stranger would call it, what noise decides."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from streamv2v_obs.demo.chance import Chance
from streamv2v_obs.demo.photographs import HELD_OUT, square
from streamv2v_obs.demo.pool import STYLE_NAMES, held_out
from streamv2v_obs.demo.sheet import PROMPTS, translate_still
from streamv2v_obs.demo.strokes import grey, to_picture
from streamv2v_obs.demo.teachers import teach
from streamv2v_obs.frames import Frame, Pixels
from streamv2v_obs.settings import ModelSettings, TranslatorSettings
from streamv2v_obs.translator.loading import Model, load_model
from streamv2v_obs.translator.translator import Translator


def decibels(first: Pixels, second: Pixels) -> float:
    """Peak signal-to-noise ratio of two uint8 pictures, in dB."""
    error = float(np.mean((first.astype(np.float64) - second.astype(np.float64)) ** 2))
    return float("inf") if error == 0 else 10 * float(np.log10(255**2 / error))


def sharpness(pixels: Pixels) -> float:
    """Mean strength of the gradient, grey levels a pixel."""
    luma = grey(to_picture(pixels)) * 255
    across, down = cv2.Sobel(luma, cv2.CV_32F, 1, 0, scale=0.125), cv2.Sobel(luma, cv2.CV_32F, 0, 1, scale=0.125)
    return float(np.hypot(across, down).mean())


EDGE_SHARE, EDGE_REACH = 0.1, 2
"""Edges are the tenth of a picture with the steepest gradient, and found again where one lies within two pixels."""


def edges(pixels: Pixels) -> NDArray[np.bool_]:
    """Where a picture has its edges, bool [H, W]; always a tenth of it: more lines win nothing."""
    luma = cv2.GaussianBlur(grey(to_picture(pixels)), (0, 0), 1.5)
    strength = np.hypot(cv2.Sobel(luma, cv2.CV_32F, 1, 0), cv2.Sobel(luma, cv2.CV_32F, 0, 1))
    return np.asarray(strength >= max(np.quantile(strength, 1 - EDGE_SHARE), 1e-3))


def edges_found(source: Pixels, made: Pixels) -> float:
    """The share of the source's edges that the answer has, too."""
    wanted = edges(source)
    reach = np.ones((2 * EDGE_REACH + 1,) * 2, np.uint8)
    near = cv2.dilate(edges(made).astype(np.uint8), reach) > 0
    return float(near[wanted].mean()) if wanted.any() else 1.0


FLAT_WITHIN, FLAT_BELOW = 24, 0.5
"""Pixels a side, and the deviation (grey levels) in so large a square below which a teacher's answer is flat there."""


def unevenness(made: Pixels, taught: Pixels) -> float | None:
    """The mean deviation (grey levels) in squares of ``made`` where ``taught`` is flat; None where it nowhere is."""
    flat = _deviation(taught) < FLAT_BELOW
    return float(_deviation(made)[flat].mean()) if flat.mean() > 0.01 else None


def _deviation(pixels: Pixels) -> NDArray[np.float64]:
    levels, square_of = pixels.astype(np.float64), (FLAT_WITHIN, FLAT_WITHIN)
    spread = cv2.blur(np.square(levels), square_of) - np.square(cv2.blur(levels, square_of))
    return np.asarray(np.sqrt(np.maximum(spread, 0)).mean(2))


def style_features(pixels: Pixels) -> NDArray[np.float64]:
    """What tells styles apart whatever is shown: colours, contrasts at four scales, directions, flats."""
    picture = to_picture(pixels)
    lab = cv2.cvtColor(picture, cv2.COLOR_RGB2LAB) / 100
    colours = lab.reshape(-1, 3)
    features = [*colours.mean(0), *colours.std(0), *np.percentile(colours, (5, 25, 75, 95), axis=0).ravel()]
    luma = grey(picture)
    level = luma
    for _ in range(4):
        smooth = cv2.GaussianBlur(level, (0, 0), 1.2)
        band = level - smooth
        features += [np.log(band.std() + 1e-3), float(np.abs(band).mean() / (band.std() + 1e-3))]
        level = cv2.resize(smooth, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
    gx, gy = cv2.Sobel(luma, cv2.CV_32F, 1, 0), cv2.Sobel(luma, cv2.CV_32F, 0, 1)
    strength = np.hypot(gx, gy)
    turned = np.arctan2(gy, gx) * 2
    features += [float((strength * np.cos(turned)).mean()), float((strength * np.sin(turned)).mean())]
    features += [float((strength < limit).mean()) for limit in (0.02, 0.08, 0.3, 1.0)]
    features += _on_the_grid(luma)
    chroma = np.hypot(colours[:, 1], colours[:, 2])
    features += [
        float(chroma.mean()),
        float(chroma.std()),
        float(np.corrcoef(luma.ravel(), chroma)[0, 1]) if chroma.std() > 1e-4 else 0.0,
    ]
    features += [float((luma < 0.08).mean()), float((luma > 0.92).mean()), float((chroma < 0.05).mean())]
    return np.array(features, np.float64)


SOFTENED = 0.0, 0.6, 1.0, 1.4
"""Blurs (pixels) that the judge has seen of each example: how sharp a picture is, is a figure of its own."""


def _on_the_grid(luma: NDArray[np.float32]) -> list[float]:
    """How far a picture consists of squares of eight pixels, as pixel art does: steps by phase, and flat middles."""
    found = []
    for axis in (0, 1):
        steps = np.abs(np.diff(luma, axis=axis)).mean(1 - axis)
        phases = np.array([steps[phase::8].mean() for phase in range(8)]) + 1e-4
        # The border, a little soft or not, and the middle of a square.
        found += [float(np.log(phases[6:8].mean() / phases.mean())), float(np.log(phases[2:5].mean() / phases.mean()))]
    height, width = luma.shape
    squares = luma[: height // 8 * 8, : width // 8 * 8].reshape(height // 8, 8, width // 8, 8)
    inside = squares[:, 2:6, :, 2:6].std((1, 3))
    found.append(float(np.log((inside.mean() + 1e-3) / (luma.std() + 1e-3))))
    return found


def softened(pixels: Pixels) -> list[Pixels]:
    """A picture as crisp as it is, and blurred more and more."""
    return [pixels if sigma == 0 else cv2.GaussianBlur(pixels, (0, 0), sigma).astype(np.uint8) for sigma in SOFTENED]


class StyleJudge:
    """Tells styles apart by what the teachers make of scenes that nobody trained on.

    Features of the answer are predicted from those of the source, for each style by its own straight line; the
    Mahalanobis distance of what is left says how unlike that style an answer is. Learned from crisp examples alone
    it went by sharpness: it called squares of eight pixels, a little soft, an oil painting.
    """

    def __init__(self, scenes: int = 360) -> None:
        sources = list(held_out(scenes))
        given = np.repeat(np.stack([self._given(style_features(scene)) for scene in sources]), len(SOFTENED), 0)
        # Ridge: there are not many more scenes than features.
        solve = np.linalg.inv(given.T @ given + 2.0 * np.eye(given.shape[1])) @ given.T
        self._lines: dict[str, NDArray[np.float64]] = {}
        self._spreads: dict[str, tuple[NDArray[np.float64], float]] = {}
        covariances: dict[str, NDArray[np.float64]] = {}
        for name in STYLE_NAMES:
            examples = [teach(Chance.seeded(number, scene), name, scene) for number, scene in enumerate(sources)]
            made = np.stack([style_features(soft) for example in examples for soft in softened(example)])
            self._lines[name] = solve @ made
            left = made - given @ self._lines[name]
            covariances[name] = left.T @ left / len(left)
        common = np.mean(list(covariances.values()), axis=0)
        for name, own in covariances.items():
            # Half of it everybody's (Friedman 1989, regularised discriminant analysis): a style whose own examples
            # are all alike, as pencil drawings are, would else own nothing that is a little unlike them.
            covariance = (own + common) / 2
            # The added share keeps the inverse tame where features are nearly the same.
            covariance += 0.05 * np.diag(np.diag(covariance)) + 1e-5 * np.eye(len(covariance))
            self._spreads[name] = np.linalg.inv(covariance), float(np.linalg.slogdet(covariance)[1])

    @staticmethod
    def _given(features: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.append(features, 3.0)

    def distance(self, made: Pixels, source: Pixels, style: str) -> float:
        """From what this style makes of such a source, in deviations; teachers' own answers lie near 6."""
        return float(np.sqrt(self._squared(made, source, style)))

    def _squared(self, made: Pixels, source: Pixels, style: str) -> float:
        offset = style_features(made) - self._given(style_features(source)) @ self._lines[style]
        return float(offset @ self._spreads[style][0] @ offset)

    def name(self, made: Pixels, source: Pixels) -> str:
        """The likeliest style: each has its own spread, since some answer one source in many ways."""
        return min(STYLE_NAMES, key=lambda style: self._squared(made, source, style) + self._spreads[style][1])


OTHER_SCENES = 10**9 + 1
"""The seed of scenes that neither a pool nor the judge has seen."""


def judged_rightly(judge: StyleJudge, scenes: int = 12) -> dict[str, float]:
    """What the judge itself is worth: the share of the teachers' own answers it names rightly, by their softness."""
    shares = {}
    for number, sigma in enumerate(SOFTENED):
        named = [
            judge.name(softened(teach(Chance.seeded(index, scene), style, scene))[number], scene) == style
            for index, scene in enumerate(held_out(scenes, OTHER_SCENES))
            for style in STYLE_NAMES
        ]
        shares[f"{sigma:g}"] = round(float(np.mean(named)), 4)
    return shares


@dataclass(frozen=True)
class StyleFigures:
    """One style over some pictures: share named rightly, distance, sharpness and noise's part beside the teacher's.

    ``sharpness`` is a ratio to the teacher's; ``decided_by_noise`` is how far two seeds' pictures lie apart (grey
    levels, root mean square), ``teacher_random`` the same of the teacher's draws. ``edges_kept`` is the share of the
    source's edges found in the answer, ``edges_taught`` the same of the teacher's, ``edges_by_chance`` that of
    another picture's edges. ``uneven`` is the deviation where the teacher is flat; None: it is nowhere.
    """

    named: float
    distance: float
    sharpness: float
    decided_by_noise: float
    teacher_random: float
    edges_kept: float
    edges_taught: float
    edges_by_chance: float
    uneven: float | None = None


def _apart(first: Pixels, second: Pixels) -> float:
    return float(np.sqrt(np.mean((first.astype(np.float64) - second.astype(np.float64)) ** 2)))


def judge_styles(
    model: Model, judge: StyleJudge, pictures: Sequence[Pixels], *, steps: int = 2, strength: float = 0.4
) -> dict[str, StyleFigures]:
    """Every style's figures."""
    figures = {}
    for style, prompt in zip(STYLE_NAMES, PROMPTS, strict=True):
        rows, uneven = [], []
        for number, picture in enumerate(pictures):
            other = pictures[number - 1]
            made = [translate_still(model, prompt, picture, steps=steps, strength=strength, seed=s) for s in (0, 1)]
            taught = [teach(Chance.seeded(seed, picture), style, picture) for seed in (0, 1)]
            uneven.append(unevenness(made[0], taught[0]))
            rows.append(
                (
                    float(judge.name(made[0], picture) == style),
                    judge.distance(made[0], picture, style),
                    sharpness(made[0]) / sharpness(taught[0]),
                    _apart(*made),
                    _apart(*taught),
                    edges_found(picture, made[0]),
                    edges_found(picture, taught[0]),
                    edges_found(other, made[0]),
                )
            )
        flats = [value for value in uneven if value is not None]
        means = StyleFigures(*(round(float(value), 3) for value in np.mean(rows, 0)))
        figures[style] = replace(means, uneven=round(float(np.mean(flats)), 3) if flats else None)
    return figures


def autoencoder_decibels(model: Model, scenes: int = 12) -> dict[str, float]:
    """What encode and decode keep of held-out photographs, drawn scenes, and what teachers make of them; dB."""

    def kept(pictures: Sequence[Pixels]) -> float:
        coder = model.autoencoder
        return round(float(np.mean([decibels(p, coder.decode(coder.encode(p))) for p in pictures])), 2)

    photographs = [square(name, model.width) for name in HELD_OUT]
    drawn = list(held_out(scenes))
    result = {"held-out photographs": kept(photographs), "drawn scenes": kept(drawn)}
    for style in STYLE_NAMES:
        result[style] = kept([teach(Chance.seeded(0, p), style, p) for p in (*photographs, *drawn)])
    return result


def frames_per_second(model: Model, frames: int = 40) -> float:
    """Pictures a second of the whole way at the model's size: two steps, bank on, a moving picture."""
    scene = next(held_out(1))
    translator = Translator(model, TranslatorSettings(), width=model.width, height=model.height)
    for number in range(8):
        translator.step(Frame(np.roll(scene, number, 1), 0.0, number))
    began_at = time.perf_counter()
    for number in range(frames):
        translator.step(Frame(np.roll(scene, number, 1), 0.0, number))
    took_s = time.perf_counter() - began_at
    translator.close()
    return round(frames / took_s, 1)


def evaluate(folder: Path, scenes: int = 12) -> dict[str, Any]:
    """All figures of the model in ``folder``, ready for JSON."""
    model = load_model(ModelSettings(name=str(folder)))
    pictures = [*(square(name, model.width) for name in HELD_OUT), *held_out(scenes, OTHER_SCENES)]
    judge = StyleJudge()
    result: dict[str, Any] = {"autoencoder_db": autoencoder_decibels(model, scenes)}
    for steps in (1, 2, 4):
        styles = judge_styles(model, judge, pictures if steps == 2 else pictures[:4], steps=steps)
        result[f"steps_{steps}"] = {name: vars(figures) for name, figures in styles.items()}
    result["fps"] = frames_per_second(model)
    return result
