"""What changes over a time: prompts that blend, banks that fade, and prompts that are encoded once."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch import Tensor

from streamv2v_obs.frames import Frame
from streamv2v_obs.settings import ModelSettings, TranslatorSettings
from streamv2v_obs.translator.easing import PROMPTS_KEPT, PromptInForce, Ramp
from streamv2v_obs.translator.loading import Model, load_model
from streamv2v_obs.translator.translator import Translator


class CountingEncoder:
    """A fake text encoder: a prompt is its length, three times; it remembers what it encoded."""

    def __init__(self) -> None:
        self.encoded: list[str] = []
        self.version = 0

    def encode(self, prompt: str) -> Tensor:
        self.encoded.append(prompt)
        return torch.full((1, 1, 3), float(len(prompt)))


@pytest.fixture
def text() -> CountingEncoder:
    return CountingEncoder()


def of(text: CountingEncoder, prompt: str = "") -> PromptInForce:
    return PromptInForce(text, lambda: text.version, prompt)


def at(prompt: PromptInForce, *instants: float) -> list[float]:
    return [float(prompt.at(instant).mean()) for instant in instants]


def test_a_ramp_goes_by_capture_times_and_stays_within_its_bounds() -> None:
    ramp = Ramp(2)
    assert [ramp.at(t) for t in (10, 10.5, 9, 11, 12, 50)] == [0, 0.25, 0, 0.5, 1, 1]


def test_a_prompt_blends_from_what_the_last_frame_was_given(text: CountingEncoder) -> None:
    prompt = of(text, "ab")
    assert at(prompt, 0) == [2]
    prompt.set("abcdefghij", blend_s=4)
    assert at(prompt, 1, 2, 3) == [2, 4, 6]
    prompt.set("", blend_s=2)  # on the way
    assert at(prompt, 3.5, 4.5, 5.5, 6) == [6, 3, 0, 0]
    prompt.set("abc")
    assert at(prompt, 7) == [3]
    prompt.set("abcd", blend_s=2)
    prompt.set("abc")
    assert at(prompt, 8) == [3], "a change without time ends a blend"


def test_each_prompt_is_encoded_once_and_the_oldest_are_forgotten(text: CountingEncoder) -> None:
    prompt = of(text, "a")
    prompt.encode("b")
    for _ in range(3):
        prompt.set("b")
        prompt.set("a")
    assert text.encoded == ["a", "b"]
    for number in range(PROMPTS_KEPT):
        prompt.encode("x" * number)
    prompt.encode("b")
    assert text.encoded.count("b") == 2
    text.version += 1  # other weights: all of them are worth nothing
    assert at(prompt, 0) == [1]
    assert text.encoded[-1] == "a"
    prompt.encode("b")
    assert text.encoded.count("b") == 3


# --- with the real demo model --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def model() -> Model:
    return load_model(ModelSettings(name="demo", device="cpu", dtype="float32", width=64, height=64))


@pytest.fixture
def translator(model: Model) -> Iterator[Translator]:
    made = Translator(model, TranslatorSettings(prompt="a pencil drawing", steps=2))
    yield made
    made.close()


def frame(number: int) -> Frame:
    pixels = np.random.default_rng(5).integers(0, 255, (64, 64, 3), np.uint8)
    return Frame(np.roll(pixels, number, 1), number * 0.1, number)


def show(translator: Translator, first: int, count: int) -> list[np.ndarray]:
    answers = [translator.step(frame(first + number)) for number in range(count)]
    return [answer.pixels.astype(np.int16) for answer in answers if answer is not None]


def test_a_blend_ends_in_the_very_pictures_of_the_new_prompt(model: Model, translator: Translator) -> None:
    off = TranslatorSettings.model_validate({"prompt": "a pencil drawing", "steps": 2, "bank": {"kind": "off"}})
    blended, cut, kept = (Translator(model, off) for _ in range(3))
    for one in (blended, cut, kept):
        show(one, 0, 3)
    blended.set_prompt("neon lights", 0.5)
    cut.set_prompt("neon lights", 0.0)
    ours, new, old = (show(one, 3, 10) for one in (blended, cut, kept))
    # 0.5 s are five frames, and one more is in flight.
    assert [np.array_equal(a, b) for a, b in zip(ours[7:], new[7:], strict=True)] == [True] * 3
    apart_from_new, apart_from_old = (
        [float(np.abs(ours[n] - other[n]).mean()) for n in range(7)] for other in (new, old)
    )
    between = [n for n in range(7) if apart_from_new[n] > 1 and apart_from_old[n] > 1]
    assert len(between) >= 3, "pictures on the way are those of neither prompt"
    # How large each step looks is the model's affair: between two prompts it may know a border that is soon crossed.
    assert apart_from_new[between[0]] > apart_from_new[between[-1]]
    assert apart_from_old[between[0]] < apart_from_old[between[-1]]


def test_a_fading_bank_is_let_go_of_and_then_empty(translator: Translator) -> None:
    show(translator, 0, 9)
    assert translator.bank_updates == 3
    strength = translator._latents.extension.strength
    before = float(strength)
    translator.fade_bank(0.4)
    seen = []
    for number in range(9, 14):
        translator.step(frame(number))
        seen.append(float(strength) / before)
    assert seen == pytest.approx([1, 0.75, 0.5, 0.25, 1], abs=1e-5)
    assert translator.bank_updates == 1, "the first frame after the fade is the bank's first"
    assert translator._latents.rows.waiting, "the frames in flight were left alone"


def test_a_second_fade_goes_on_from_where_the_first_one_is(translator: Translator) -> None:
    show(translator, 0, 9)
    strength = translator._latents.extension.strength
    before = float(strength)
    translator.fade_bank(0.4)
    show(translator, 9, 3)
    translator.fade_bank(0.2)
    seen = []
    for number in range(12, 16):
        translator.step(frame(number))
        seen.append(float(strength) / before)
    assert [*seen[:2], seen[3]] == pytest.approx([0.5, 0.25, 1], abs=1e-5)
    translator.fade_bank(0.4)
    show(translator, 16, 1)
    assert float(strength) == before, "one that is over leaves the next one whole"


@pytest.mark.parametrize("by", ["reset", "restore"])
def test_another_bank_ends_a_fade(translator: Translator, by: str) -> None:
    show(translator, 0, 5)
    snapshot = translator.snapshot()
    before = float(translator._latents.extension.strength)
    translator.fade_bank(10)
    show(translator, 5, 20)
    assert float(translator._latents.extension.strength) < before
    if by == "reset":
        translator.reset_bank()
    else:
        translator.restore(snapshot, in_flight=False)
    show(translator, 25, 2)
    assert float(translator._latents.extension.strength) == before
    assert translator.bank_filled
