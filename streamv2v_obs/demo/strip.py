"""Draws README's picture: an input at four moments, and what three prompts make of it.

``python -m streamv2v_obs.demo.strip [FILE]``; needs scikit-image. Its CC0 photograph of a cup is the input, on which
the model was not trained.
"""

from __future__ import annotations

import sys
from pathlib import Path

import cv2
import numpy as np
from skimage import data

from streamv2v_obs.frames import Frame, Pixels
from streamv2v_obs.settings import ModelSettings, TranslatorSettings
from streamv2v_obs.shape import fit_to
from streamv2v_obs.translator.loading import load_model
from streamv2v_obs.translator.translator import Translator

PROMPTS = ("a pencil drawing", "neon lights", "a blueprint")
MOMENTS = (0, 8, 16, 24)
WIDTH, HEIGHT = 352, 192
_GAP = 6


def moving_photograph(frames: int) -> list[Pixels]:
    """A camera that pans over a cup: uint8 [192, 352, 3] pictures, three pixels of the original apart."""
    cup: Pixels = data.coffee()  # type: ignore[no-untyped-call]
    height = round(400 * HEIGHT / WIDTH)
    return [
        fit_to(cup[3 * n : 3 * n + height, 100 + 2 * n : 500 + 2 * n], WIDTH, HEIGHT, "crop") for n in range(frames)
    ]


def draw() -> Pixels:
    """The whole picture: a row of inputs, then a row for each prompt."""
    model = load_model(ModelSettings(name="demo"))
    inputs = moving_photograph(max(MOMENTS) + 1)
    rows = [[inputs[moment] for moment in MOMENTS]]
    for prompt in PROMPTS:
        settings = TranslatorSettings(prompt=prompt)
        translator = Translator(model, settings, width=WIDTH, height=HEIGHT, live=False)
        answers = [translator.step(Frame(pixels, 0.0, index)) for index, pixels in enumerate(inputs)]
        whole = [answer for answer in answers if answer is not None] + translator.flush()
        translator.close()
        rows.append([whole[moment].pixels for moment in MOMENTS])
    gap = np.full((HEIGHT, _GAP, 3), 255, np.uint8)
    lines = [np.hstack([part for picture in row for part in (picture, gap)][:-1]) for row in rows]
    between = np.full((_GAP, lines[0].shape[1], 3), 255, np.uint8)
    return np.vstack([part for line in lines for part in (line, between)][:-1])


def main(path: Path) -> None:
    """Write the picture to ``path``."""
    if not cv2.imwrite(str(path), cv2.cvtColor(draw(), cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 88]):
        raise OSError(f"{path} cannot be written")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).with_name("strip.jpg"))
