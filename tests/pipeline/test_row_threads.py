"""A frame by one thread for each row: the same pictures as by one, and nothing else."""

from __future__ import annotations

import logging
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from streamv2v_obs.frames import Frame, Pixels
from streamv2v_obs.settings import BankSettings, FusionSettings, ModelSettings, SpeedSettings, TranslatorSettings
from streamv2v_obs.translator.loading import Model, load_model
from streamv2v_obs.translator.translator import Translator
from tests.rigs import latents
from tests.rigs.latents import attentive_unet, clip, furthest
from tests.rigs.tiny_models import save_model, tiny_taesd

SIZE = 64
BANKS = (BankSettings(interval=2), BankSettings(kind="queue", length=2, interval=1), BankSettings(kind="off"))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    folder: Path = tmp_path_factory.mktemp("model") / "small"
    torch.manual_seed(0)
    save_model(folder, unet=attentive_unet(), vae=tiny_taesd())
    return load_model(ModelSettings(name=str(folder), device="cpu", dtype="float32", width=SIZE, height=SIZE))


@pytest.fixture(autouse=True)
def _two_threads(_one_thread: None) -> None:
    torch.set_num_threads(2)


def settings(*, threads: bool, **changes: Any) -> TranslatorSettings:
    return TranslatorSettings(
        **({"steps": 2, "bank": BANKS[0], "fusion": FusionSettings(threshold=0.9)} | changes),
        speed=SpeedSettings(row_threads=threads),
    )


def frames(count: int) -> list[Frame]:
    """Noise that rolls by two pixels a frame."""
    still = np.random.default_rng(0).integers(0, 256, (SIZE, SIZE, 3), np.uint8)
    return [Frame(np.roll(still, 2 * n, axis=1), captured_at=n / 30, index=n) for n in range(count)]


def lived(translator: Translator) -> list[Frame]:
    """Whatever a live user does: prompts, a seed, a strength, a scene that comes back, an end."""
    out: list[Frame | None] = []
    pictures = frames(14)
    for number, frame in enumerate(pictures):
        if number == 4:
            translator.set_prompt("another one", blend_s=0.1)
        if number == 6:
            scene = translator.snapshot()
            translator.set_seed(5)
            translator.set_strength(0.7)
        if number == 8:
            translator.reset_bank()
        if number == 10:
            translator.restore(scene)
        if number == 12:
            translator.restore(scene, in_flight=False)
        out.append(translator.step(frame))
    return [one for one in [*out, *translator.flush()] if one is not None]


def origins(made: list[Frame]) -> list[tuple[int, float]]:
    return [(one.index, one.captured_at) for one in made]


@pytest.mark.parametrize("bank", BANKS, ids=lambda bank: str(bank.kind))
@pytest.mark.parametrize("steps", [2, 3, 4])
def test_the_same_pictures_come_out_in_the_same_order(model: Model, steps: int, bank: BankSettings) -> None:
    made = []
    for threads in (True, False):
        translator = Translator(model, settings(threads=threads, steps=steps, bank=bank))
        assert ("row threads" in translator.path) is threads
        made.append(lived(translator))
        translator.close()
    ours, theirs = made
    assert origins(ours) == origins(theirs)
    # A call of all rows rounds otherwise than calls of one: in float32 by a last bit, and a grey level is 255 of it.
    apart = [np.abs(a.pixels.astype(int) - b.pixels).max() for a, b in zip(ours, theirs, strict=True)]
    assert max(apart) <= 1
    assert len({one.pixels.tobytes() for one in ours}) > 6  # it is no still picture that agrees


def test_carried_on_they_are_the_same_too(model: Model) -> None:
    made = []
    for threads in (True, False):
        translator = Translator(model, settings(threads=threads, steps=3, carry=0.5))
        made.append(lived(translator))
        translator.close()
    assert max(np.abs(a.pixels.astype(int) - b.pixels).max() for a, b in zip(*made, strict=True)) <= 1


def test_two_runs_are_equal_bit_by_bit(model: Model) -> None:
    made = []
    for _ in range(2):
        translator = Translator(model, settings(threads=True, steps=4))
        made.append([one.pixels.tobytes() for one in lived(translator)])
        translator.close()
    assert made[0] == made[1]


@pytest.mark.parametrize("kind", ["off", "queue"])
def test_rows_one_by_one_are_the_batch(kind: str) -> None:
    """Where nothing is chosen by the greatest likeness, which a last bit may decide."""
    changes: dict[str, Any] = {"steps": 3, "bank": {"kind": kind, "interval": 2}, "fusion": {"strength": 0.0}}
    made = [
        latents.run(latents.translator(attentive_unet(), {"row_by_row": rows}, **dict(changes)), clip(9))
        for rows in (True, False)
    ]
    assert furthest(*made) < 1e-5


class Coder:
    """The model's own, which each of the two waits in for the other."""

    def __init__(self, model: Model) -> None:
        self._coder = model.autoencoder
        self.both = threading.Barrier(2, timeout=60)

    latent_channels, factor = 4, 8

    def encode(self, pixels: Pixels) -> Tensor:
        self.both.wait()
        return self._coder.encode(pixels)

    def decode(self, latents: Tensor) -> Pixels:
        self.both.wait()
        return self._coder.decode(latents)


def test_the_first_row_is_encoded_while_the_last_one_is_decoded(model: Model) -> None:
    translator = Translator(model, settings(threads=True))
    first, *others = frames(4)
    translator.step(first)
    coder = Coder(model)
    translator._paths.coder = coder
    for frame in others:
        translator.step(frame)  # one after the other would wait for ever
    assert coder.both.n_waiting == 0
    translator.close()


def test_what_fails_in_a_thread_is_told_and_nobody_works_on(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    translator = Translator(model, settings(threads=True))
    first, second, third = frames(3)
    translator.step(first)
    monkeypatch.setattr(model.autoencoder, "encode", _refuse)
    with pytest.raises(torch.OutOfMemoryError, match="of the encoder"):
        translator._paths._threads.step(model.autoencoder, second.pixels, translator._prompt.encode("x"), None)  # type: ignore[union-attr, arg-type]
    monkeypatch.undo()
    answer = translator.step(third)
    assert answer is not None
    translator.close()
    assert not [one.name for one in threading.enumerate() if one.name.startswith("row")]


def _refuse(pixels: Pixels) -> Tensor:
    raise torch.OutOfMemoryError("of the encoder")


@pytest.mark.parametrize(
    ("changes", "why"), [({"steps": 1}, "one row at a time"), ({"schedule": "sequential"}, "one row at a time")]
)
def test_where_it_cannot_be_had_is_said_aloud(
    model: Model, changes: dict[str, Any], why: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        translator = Translator(model, settings(threads=True, **changes))
    assert "row threads" not in translator.path
    assert f"translator.speed.row_threads cannot be had: there is {why}" in caplog.text
    translator.close()


def test_the_threads_of_others_keep_their_number(model: Model) -> None:
    translator = Translator(model, settings(threads=True))
    seen: list[int] = []
    translator.step(frames(1)[0])
    other = threading.Thread(target=lambda: seen.append(torch.get_num_threads()))
    other.start()
    other.join()
    translator.close()
    assert seen == [2]
    assert torch.get_num_threads() == 2
