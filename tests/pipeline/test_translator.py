"""Pictures through the whole translator: a loaded model with random weights, nothing faked."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from streamv2v_obs.errors import ConfigError, OutOfDeviceMemory
from streamv2v_obs.frames import Frame, Pixels, Tag
from streamv2v_obs.settings import BankSettings, FusionSettings, ModelSettings, TranslatorSettings
from streamv2v_obs.translator.loading import Model, load_model
from streamv2v_obs.translator.translator import Translator
from tests.rigs.latents import attentive_unet
from tests.rigs.tiny_models import save_model, tiny_taesd

SIZE = 64


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("model") / "small"
    torch.manual_seed(0)
    save_model(place, unet=attentive_unet(), vae=tiny_taesd())
    return place


@pytest.fixture(scope="module")
def model(folder: Path) -> Model:
    return load_model(ModelSettings(name=str(folder), device="cpu", dtype="float32", width=SIZE, height=SIZE))


def clip(count: int, width: int = SIZE, height: int = SIZE) -> list[Frame]:
    """A bright square on a gradient, moving two pixels a frame; 30 pictures a second from second 5 on."""
    frames = []
    for n in range(count):
        y, x = np.mgrid[0:height, 0:width]
        pixels: Pixels = np.stack([x * 255 // width, y * 255 // height, (x + y) % 256], axis=-1).astype(np.uint8)
        pixels[10:30, 2 * n : 2 * n + 20] = (250, 240, 20)
        frames.append(Frame(pixels, captured_at=5 + n / 30, index=n))
    return frames


def settings(**changes: Any) -> TranslatorSettings:
    defaults: dict[str, Any] = {"steps": 2, "bank": BankSettings(interval=2), "fusion": FusionSettings(threshold=0.9)}
    return TranslatorSettings(**(defaults | changes))


def translate(translator: Translator, frames: list[Frame]) -> list[Frame]:
    answers = [translator.step(frame) for frame in frames]
    return [answer for answer in answers if answer is not None] + translator.flush()


def same_pixels(one: list[Frame], other: list[Frame]) -> bool:
    return len(one) == len(other) and all(np.array_equal(a.pixels, b.pixels) for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize("schedule", ["stream", "sequential"])
@pytest.mark.parametrize("count", [1, 2, 6])
def test_a_finite_video_keeps_its_frames_and_their_times(model: Model, schedule: str, count: int) -> None:
    translator = Translator(model, settings(steps=3, schedule=schedule), live=False)
    frames = clip(count)
    answers = translate(translator, frames)
    assert [(a.captured_at, a.index, a.tag) for a in answers] == [
        (f.captured_at, f.index, Tag.TRANSLATED) for f in frames
    ]
    for answer in answers:
        assert answer.pixels.shape == (SIZE, SIZE, 3)
        assert answer.pixels.dtype == np.uint8
        assert answer.pixels.flags.c_contiguous
        assert answer.pixels.std() > 0
    translator.close()


def test_a_live_run_shows_something_at_once(model: Model) -> None:
    translator = Translator(model, settings(steps=3))
    answers = [translator.step(frame) for frame in clip(4)]
    assert [answer.index for answer in answers if answer is not None] == [0, 0, 0, 1]
    translator.close()


def test_the_status_says_what_runs(model: Model) -> None:
    translator = Translator(model, settings())
    assert (translator.attention, translator.schedule) == ("sdpa", "stream")
    assert (translator.bank_filled, translator.bank_updates) == (False, 0)
    memory = translator.bank_bytes
    frames = clip(5)
    assert translator.step(frames[0]) is not None
    assert (translator.bank_filled, translator.bank_updates) == (True, 1)
    for frame in frames[1:]:
        translator.step(frame)
        translator.settle()
    assert translator.bank_updates == 3
    assert translator.bank_bytes == memory > 0
    translator.reset_bank()
    assert (translator.bank_filled, translator.bank_updates) == (False, 0)
    translator.close()
    off = Translator(model, settings(bank=BankSettings(kind="off")))
    off.step(frames[0])
    assert (off.bank_filled, off.bank_bytes) == (False, 0)
    off.close()


@pytest.mark.parametrize("bank", [BankSettings(interval=2), BankSettings(kind="queue", length=2, interval=1)])
def test_snapshot_and_restore_of_pictures_are_exact(model: Model, bank: BankSettings) -> None:
    translator = Translator(model, settings(bank=bank))
    frames = clip(9)
    for frame in frames[:3]:
        translator.step(frame)
    saved = translator.snapshot()
    straight = [translator.step(frame) for frame in frames[3:]]
    translator.set_prompt("a woodcut")
    translator.step(frames[0])
    translator.set_prompt(settings().prompt)
    translator.restore(saved)
    again = [translator.step(frame) for frame in frames[3:]]
    assert same_pixels([a for a in straight if a], [a for a in again if a])
    translator.close()


def test_prompt_strength_and_seed_change_the_picture_between_two_frames(model: Model) -> None:
    def run(**change: Any) -> list[Frame]:
        translator = Translator(model, settings(bank=BankSettings(kind="off")), live=False)
        answers = [translator.step(frame) for frame in clip(3)]
        if "prompt" in change:
            translator.set_prompt(change["prompt"])
        if "strength" in change:
            translator.set_strength(change["strength"])
        if "seed" in change:
            translator.set_seed(change["seed"])
        answers += [translator.step(frame) for frame in clip(6)[3:]]
        result = [answer for answer in answers if answer is not None] + translator.flush()
        translator.close()
        return result

    plain = run()
    for change in ({"prompt": "neon lights at night"}, {"strength": 0.9}, {"seed": 3}):
        changed = run(**change)
        assert same_pixels(plain[:2], changed[:2]), change
        assert not np.array_equal(plain[-1].pixels, changed[-1].pixels), change
    assert same_pixels(run(prompt=settings().prompt, strength=0.4, seed=0), plain)


def test_other_sizes_than_the_model_s_own(model: Model) -> None:
    translator = Translator(model, settings(), width=104, height=72, live=False)
    answers = translate(translator, clip(3, 104, 72))
    assert [answer.pixels.shape for answer in answers] == [(72, 104, 3)] * 3
    translator.close()
    with pytest.raises(ConfigError, match="multiples of 8"):
        Translator(model, settings(), width=100)


@pytest.mark.parametrize(
    "pixels",
    [
        np.zeros((SIZE, SIZE - 8, 3), np.uint8),
        np.zeros((SIZE, SIZE, 4), np.uint8),
        np.zeros((SIZE, SIZE, 3), np.float32),
    ],
)
def test_a_picture_of_another_shape_is_refused(model: Model, pixels: Any) -> None:
    translator = Translator(model, settings())
    with pytest.raises(ConfigError, match="this translator takes uint8"):
        translator.step(Frame(pixels, 0.0, 0))
    translator.close()


def test_settings_that_cannot_be_met_are_errors(model: Model) -> None:
    translator = Translator(model, settings(steps=4))
    with pytest.raises(ConfigError, match=r"^translator\.strength"):
        translator.set_strength(0.02)
    with pytest.raises(ConfigError, match=r"^translator\.seed"):
        translator.set_seed(-1)
    translator.close()
    with pytest.raises(ConfigError, match="xformers"):
        Translator(model, settings(attention="xformers"))


def test_too_little_memory_is_said_with_what_would_help(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    translator = Translator(model, settings())

    # Fake: the CPU allocator kills the process long before it raises this.
    def exhausted(*_: Any, **__: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(model.unet, "forward", exhausted)
    with pytest.raises(OutOfDeviceMemory, match=r"translator\.steps \(now 2\)"):
        translator.step(clip(1)[0])
    translator.close()


def test_too_little_memory_for_a_trial_is_said_as_well_and_leaves_nothing_in_the_unet(
    model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    def exhausted(*_: Any, **__: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    before = dict(model.unet.attn_processors)
    monkeypatch.setattr(model.autoencoder, "decode", exhausted)
    with pytest.raises(OutOfDeviceMemory, match=r"translator\.steps \(now 2\)"):
        Translator(model, settings(speed={"compile": True}))  # whose trial is the constructor's
    assert all(model.unet.attn_processors[name] is processor for name, processor in before.items())


def test_bfloat16_pictures_are_near_float32_s(folder: Path, model: Model) -> None:
    """At least 30 dB: through random weights, 8 bits of mantissa come to about 1% of the range."""
    exact = Translator(model, settings(), live=False)
    rough_model = load_model(ModelSettings(name=str(folder), device="cpu", dtype="bfloat16", width=SIZE, height=SIZE))
    rough = Translator(rough_model, settings(), live=False)
    first, second = translate(exact, clip(6)), translate(rough, clip(6))
    difference = np.stack([a.pixels.astype(float) - b.pixels for a, b in zip(first, second, strict=True)])
    psnr = 20 * math.log10(255) - 10 * math.log10((difference**2).mean())
    assert 30 < psnr < 100
    exact.close()
    rough.close()
