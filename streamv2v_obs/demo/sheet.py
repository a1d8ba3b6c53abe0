"""A contact sheet: some pictures in every style, drawn by the translator itself, for eyes to judge."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from streamv2v_obs.demo.photographs import square
from streamv2v_obs.demo.scenes import draw_scene
from streamv2v_obs.errors import ConfigError
from streamv2v_obs.frames import Frame, Pixels
from streamv2v_obs.settings import BankSettings, ModelSettings, TranslatorSettings
from streamv2v_obs.translator.loading import Model, load_model
from streamv2v_obs.translator.translator import Translator

PROMPTS = (
    "a photo",
    "an oil painting",
    "a watercolor painting",
    "a pencil drawing",
    "anime style",
    "a comic book",
    "pixel art",
    "neon lights",
    "a blueprint",
    "an old sepia photograph",
    "stained glass",
    "claymation",
)

MOODS = (
    "an oil painting in warm light",
    "a watercolor, blue and gold",
    "anime style at night",
    "a comic book, teal and orange",
    "a photo at sunset",
    "a pencil drawing and neon lights",
)

CAPTION = 22
"""Height in pixels."""


def translate_still(
    model: Model, prompt: str, picture: Pixels, *, steps: int, strength: float, seed: int = 0
) -> Pixels:
    """One picture through the translator, without a bank."""
    settings = TranslatorSettings(
        prompt=prompt, steps=steps, strength=strength, seed=seed, bank=BankSettings(kind="off"), schedule="sequential"
    )
    translator = Translator(model, settings, width=picture.shape[1], height=picture.shape[0], live=False)
    frame = translator.step(Frame(picture, 0.0, 0))
    translator.close()
    if frame is None:
        raise RuntimeError("a sequential translator answers at once")
    return frame.pixels


def unseen_pictures(side: int) -> list[Pixels]:
    """Four that were never trained on: two photographs, a screenshot of a desktop, a scene of a seed no pool uses."""
    desktop = cv2.imread(str(Path(__file__).with_name("desktop.png")), cv2.IMREAD_COLOR_RGB)
    if desktop is None:
        raise ConfigError(
            f"{Path(__file__).with_name('desktop.png')} is missing or damaged; install the package again"
        )
    scaled = cv2.resize(desktop, (side, side), interpolation=cv2.INTER_AREA).astype(np.uint8)
    person = draw_scene(np.random.default_rng((10**9, 5)), side, side, "person")
    return [square("coffee.png", side), square("camera.png", side), scaled, person]


def _caption(text: str, width: int) -> Pixels:
    strip = np.full((CAPTION, width, 3), 255, np.uint8)
    scale = min(0.5, 0.5 * (width - 8) / max(1, cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, 0.5, 1)[0][0]))
    cv2.putText(strip, text, (4, 15), cv2.FONT_HERSHEY_SIMPLEX, scale, (20, 20, 20), 1, cv2.LINE_AA)
    return strip


def draw_sheet(
    model: Model, pictures: Sequence[Pixels], prompts: Sequence[str], *, steps: int = 2, strength: float = 0.4
) -> Pixels:
    """A row for each picture, the input first, then a column for each prompt; uint8 RGB."""
    width = pictures[0].shape[1]
    captions = np.hstack([_caption(text, width) for text in ("input", *prompts)])
    rows = [
        np.hstack([picture, *(translate_still(model, p, picture, steps=steps, strength=strength) for p in prompts)])
        for picture in pictures
    ]
    return np.ascontiguousarray(np.vstack([captions, *rows]), dtype=np.uint8)


def write_picture(path: Path, pixels: Pixels) -> None:
    """PNG or JPEG, by the name's ending."""
    path.parent.mkdir(parents=True, exist_ok=True)
    encoded = cv2.imencode(path.suffix, cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR))[1]
    path.write_bytes(encoded.tobytes())


def write_sheets(folder: Path, out: Path) -> list[Path]:
    """styles.png (2 steps), moods.png, steps.png (1, 2, 4 steps) and strengths.png of the model in ``folder``.

    sheet.jpg is styles.png at half its size: README's picture.
    """
    model = load_model(ModelSettings(name=str(folder)))
    pictures = unseen_pictures(model.width)
    written = []

    def write(name: str, sheet: Pixels) -> None:
        write_picture(out / name, sheet)
        written.append(out / name)

    styles = draw_sheet(model, pictures, PROMPTS)
    write("styles.png", styles)
    write("sheet.jpg", cv2.resize(styles, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA).astype(np.uint8))
    write("moods.png", draw_sheet(model, pictures, MOODS))
    few = ("an oil painting", "a pencil drawing", "anime style", "neon lights")
    by_steps = [draw_sheet(model, pictures[::2], few, steps=steps) for steps in (1, 2, 4)]
    write("steps.png", np.vstack(by_steps))
    by_strength = [draw_sheet(model, pictures[::2], few, strength=strength) for strength in (0.3, 0.5, 0.8)]
    write("strengths.png", np.vstack(by_strength))
    return written
