"""Changes as the engine applies them, on the real demo model: steps, banks of scenes, and what cannot be had."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch

from streamv2v_obs.commands import Change
from streamv2v_obs.engine.looks import Looks
from streamv2v_obs.errors import OutOfDeviceMemory
from streamv2v_obs.frames import Frame
from streamv2v_obs.settings import ModelSettings, TranslatorSettings
from streamv2v_obs.translator import translator as translators
from streamv2v_obs.translator.latent import BankSnapshot
from streamv2v_obs.translator.loading import Model, load_model
from streamv2v_obs.translator.schedules import ScheduleTrials


@pytest.fixture(scope="module")
def model() -> Model:
    return load_model(ModelSettings(name="demo", device="cpu", dtype="float32", width=64, height=64))


@pytest.fixture
def looks(model: Model) -> Iterator[Looks]:
    made = Looks(model, TranslatorSettings(steps=2, strength=0.4), 64, 64)
    yield made
    made.close()


def show(looks: Looks, count: int = 6) -> np.ndarray:
    pixels = np.random.default_rng(5).integers(0, 255, (64, 64, 3), np.uint8)
    for number in range(count):
        answer = looks.translator.step(Frame(np.roll(pixels, number, 1), number * 0.1, number))
    assert answer is not None
    return answer.pixels


def test_steps_change_between_two_frames_and_the_scenes_banks_come_back(looks: Looks) -> None:
    show(looks)
    applied = looks.apply(Change(prompt="neon lights", steps=4, scene="B", save_as="A"))
    assert (applied.emptied, applied.restored, applied.note) == (True, False, "")
    assert looks.translator.prompt == "neon lights"
    assert not looks.translator.bank_filled
    show(looks)
    assert looks.translator._latents.steps == 4
    assert looks.apply(Change(bank="restore", bank_of="A")).emptied, "a bank of two rows does not fit four"
    show(looks)
    applied = looks.apply(Change(steps=2, bank="restore", scene="A", save_as="B"))
    assert (applied.restored, applied.emptied) == (True, False)
    assert looks.translator.bank_filled
    assert looks.scenes_stored == ("A", "B")
    updates = looks.translator.bank_updates
    assert not looks.apply(Change(steps=2)).emptied, "the same number of steps is no change"
    assert looks.translator.bank_updates == updates


def test_a_number_of_steps_that_comes_back_keeps_its_schedule() -> None:
    # OpenVINO's graphs are made for one schedule: there is nothing to choose.
    model = load_model(ModelSettings(name="demo", device="cpu", backend="torch", width=64, height=64))
    trials = ScheduleTrials(64, 64, 30.0)
    looks = Looks(model, TranslatorSettings(steps=2), 64, 64, trials=trials)
    trials.of(2).settle("sequential", "measured")
    looks.apply(Change(steps=4))
    assert (looks.translator.schedule, looks.translator.schedule_reason) == ("stream", "being measured")
    looks.apply(Change(steps=2))
    assert (looks.translator.schedule, looks.translator.schedule_reason) == ("sequential", "measured")
    looks.close()


def test_what_is_set_before_holds_after_other_steps(model: Model, looks: Looks) -> None:
    looks.apply(Change(strength=0.6, seed=9, prompt="a blueprint"))
    looks.apply(Change(steps=3))
    fresh = Looks(model, TranslatorSettings(prompt="a blueprint", strength=0.6, seed=9, steps=3), 64, 64)
    theirs = show(fresh)
    assert np.array_equal(show(looks), theirs)


def test_other_steps_or_none_of_it(looks: Looks, monkeypatch: pytest.MonkeyPatch) -> None:
    before = looks.translator
    closed: list[translators.Translator] = []
    close = translators.Translator.close

    def told(translator: translators.Translator) -> None:
        closed.append(translator)
        close(translator)

    monkeypatch.setattr(translators.Translator, "close", told)
    applied = looks.apply(Change(steps=3, style="of another model"))
    assert "of another model" in applied.note
    assert looks.translator is before
    assert [translator._latents.steps for translator in closed] == [3], "what was made for nothing keeps no memory"
    show(looks)
    assert looks.apply(Change(steps=3, bank="fade", blend_s=0.3)).emptied
    strength = float(looks.translator._latents.extension.strength)
    show(looks, 5)
    assert float(looks.translator._latents.extension.strength) == strength, "an empty bank has nothing to fade"


@pytest.mark.parametrize("change", [Change(strength=0.02), Change(steps=8, strength=0.1, prompt="p")])
def test_what_cannot_be_had_is_said_and_the_rest_applied(looks: Looks, change: Change) -> None:
    before = looks.translator
    applied = looks.apply(change)
    assert "leaves no distinct timesteps" in applied.note
    assert (applied.change.strength, applied.change.steps) == (None, None)
    assert applied.change.prompt == change.prompt
    assert looks.translator is before
    show(looks)


def test_steps_that_do_not_fit_into_memory_leave_the_old_ones(looks: Looks, monkeypatch: pytest.MonkeyPatch) -> None:
    show(looks)
    updates = looks.translator.bank_updates

    def full(*arguments: object, **more: object) -> None:
        raise OutOfDeviceMemory("the device's memory is too small")

    monkeypatch.setattr("streamv2v_obs.engine.looks.Translator", full)
    applied = looks.apply(Change(steps=8, strength=0.5, prompt="p"))
    assert "too small" in applied.note
    assert applied.change.steps is None
    assert looks.translator.prompt == "p"
    assert looks.translator.bank_updates == updates
    assert isinstance(looks.translator, translators.Translator)
    show(looks)


def test_banks_that_memory_has_no_room_for_cost_the_oldest_one_and_not_the_engine(
    looks: Looks, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    show(looks)
    latents, room = looks.translator._latents, 2
    copy = latents.snapshot

    def snapshot() -> BankSnapshot:
        if len(looks.scenes_stored) >= room:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return copy()

    monkeypatch.setattr(latents, "snapshot", snapshot)
    for scene in "ABC":
        looks.apply(Change(save_as=scene))
    assert looks.scenes_stored == ("B", "C")
    assert "A's is let go of" in caplog.text
    looks.apply(Change(save_as="B"))
    assert looks.scenes_stored == ("C", "B")
    room = 0
    assert looks.apply(Change(prompt="p", save_as="D")).change.prompt == "p"
    assert list(looks.scenes_stored) == []
    assert "too small to keep the bank of scene D" in caplog.text
    show(looks)


def test_fade_without_a_time_takes_a_second(looks: Looks) -> None:
    show(looks)
    assert looks.apply(Change(bank="fade")).emptied
    pixels = np.zeros((64, 64, 3), np.uint8)
    counts = []
    for tenth in range(12):
        looks.translator.step(Frame(pixels, 100 + tenth * 0.1, tenth))
        counts.append(looks.translator.bank_updates)
    assert counts[9] > 1
    assert counts[11] == 1
