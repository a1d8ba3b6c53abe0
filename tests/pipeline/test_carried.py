"""Pictures carried on along the input's motion: steadier ones, and never of two looks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import cv2
import numpy as np
import pytest

from streamv2v_obs.frames import Frame
from streamv2v_obs.settings import BankSettings, ModelSettings, SpeedSettings, TranslatorSettings
from streamv2v_obs.translator.loading import Model, load_model
from streamv2v_obs.translator.translator import Translator

SIZE = 128

Schedule = Literal["stream", "sequential"]


@pytest.fixture(scope="module")
def model() -> Model:
    return load_model(ModelSettings(name="demo", device="cpu", width=SIZE, height=SIZE, backend="torch"))


def frames(count: int) -> list[Frame]:
    """A still scene with a camera's noise."""
    rng = np.random.default_rng(0)
    scene = cv2.resize(rng.integers(20, 236, (12, 12, 3)).astype(np.float32), (SIZE, SIZE))
    return [
        Frame(np.clip(scene + rng.normal(0, 4, scene.shape), 0, 255).astype(np.uint8), n / 30, n) for n in range(count)
    ]


def run(
    model: Model,
    carry: float,
    anchor: float = 0.0,
    schedule: Schedule = "stream",
    at_six: Callable[[Translator], None] = lambda translator: None,
) -> list[Frame]:
    settings = TranslatorSettings(
        steps=2,
        carry=carry,
        anchor=anchor,
        schedule=schedule,
        bank=BankSettings(kind="off"),
        speed=SpeedSettings(row_threads=False),
    )
    translator = Translator(model, settings, live=False)
    made = []
    for frame in frames(12):
        if frame.index == 6:
            at_six(translator)
        made.append(translator.step(frame))
    answers = [one for one in [*made, *translator.flush()] if one is not None]
    translator.close()
    return answers


def unrest(made: list[Frame]) -> float:
    return float(np.std(np.stack([one.pixels for one in made[2:]]).astype(float), axis=0).mean())


@pytest.mark.parametrize("schedule", ["stream", "sequential"])
def test_a_still_scene_is_stiller(model: Model, schedule: Schedule) -> None:
    plain = unrest(run(model, 0.0, 0.0, schedule))
    assert unrest(run(model, 0.6, 0.0, schedule)) < 0.8 * plain
    assert unrest(run(model, 0.0, 0.6, schedule)) < 0.8 * plain


@pytest.mark.parametrize("schedule", ["stream", "sequential"])
@pytest.mark.parametrize(
    "look",
    [
        lambda translator: translator.set_prompt("something else"),
        lambda translator: translator.set_seed(9),
        lambda translator: translator.set_strength(0.8),
        lambda translator: translator.reset_bank(),
    ],
    ids=["prompt", "seed", "strength", "reset"],
)
def test_the_first_picture_of_a_new_look_is_drawn_by_itself(
    model: Model, schedule: Schedule, look: Callable[[Translator], None]
) -> None:
    carried, plain = (run(model, share, share, schedule, look) for share in (0.4, 0.0))
    assert [one.index for one in carried] == [one.index for one in plain]
    alike = [np.array_equal(a.pixels, b.pixels) for a, b in zip(carried, plain, strict=True)]
    places = {one.index: number for number, one in enumerate(plain)}
    assert alike[places[6]]
    assert not alike[places[4]]
    assert not alike[places[8]]
