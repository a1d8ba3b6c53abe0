"""Rungs of the ladder: each alone changes nothing in the picture; a whole frame can be captured and compiled."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import UNet2DConditionModel
from torch import Tensor

from streamv2v_obs.errors import ConfigError
from streamv2v_obs.frames import Frame, Pixels
from streamv2v_obs.settings import BankSettings, FusionSettings, SpeedSettings, TranslatorSettings
from streamv2v_obs.translator.backend import psnr, trial_pictures
from streamv2v_obs.translator.fused_graph import rewrite
from streamv2v_obs.translator.latent import LatentTranslator
from streamv2v_obs.translator.loading import Model
from streamv2v_obs.translator.repeated import Repeated
from streamv2v_obs.translator.rungs import Rungs, choose_direct_keys, choose_folded_output, choose_rungs
from streamv2v_obs.translator.schedules import COUNTED, PASSED_OVER, ScheduleTrial, ScheduleTrials, better
from streamv2v_obs.translator.static_frame import StaticFrame
from streamv2v_obs.translator.stream_batch import Origin
from streamv2v_obs.translator.translator import Translator
from tests.conftest import Require
from tests.rigs.latents import CPU, attentive_unet, clip, furthest, prompt, run, settings, translator
from tests.rigs.tape import Tape
from tests.rigs.tiny_subject import tiny_subject

OFF = {"joined_qkv": False, "cached_prompt": False, "cached_time": False, "padded_heads": False}
BEYOND = {"folded_output": True, "direct_keys": True}
"""What has to be asked for on a CPU."""
PLAIN = Rungs(graphs=False, compile=False, pinned=False, late_update=True)


@pytest.fixture(scope="module")
def unet() -> UNet2DConditionModel:
    return attentive_unet()


@pytest.fixture(scope="module")
def model() -> Model:
    return tiny_subject().model


# --- rung by rung -------------------------------------------------------------------------------------------


def changing(core: LatentTranslator) -> list[Tensor]:
    """A run in which everything is changed that a live user changes."""
    out = run(core, clip(3))
    out += run(core, clip(3, seed=2), words=prompt(7))
    core.set_strength(0.7)
    core.set_fusion(0.5)
    out += run(core, clip(2, seed=3), words=prompt(7))
    saved = core.snapshot()
    core.reset_bank()
    out += run(core, clip(3, seed=4))
    core.restore(saved)
    out += run(core, clip(3, seed=5), words=prompt(8))
    return out


@pytest.mark.parametrize(
    "rung",
    ["joined_qkv", "padded_heads", "cached_prompt", "cached_time", "folded_output", "direct_keys", "all", "beyond"],
)
@pytest.mark.parametrize("schedule", ["stream", "sequential"])
def test_a_rung_changes_nothing(unet: UNet2DConditionModel, rung: str, schedule: str) -> None:
    wishes = OFF | {rung: True}
    if rung in ("all", "beyond"):
        wishes = dict.fromkeys(OFF, True) | (BEYOND if rung == "beyond" else {})
    elif rung == "direct_keys":
        wishes |= {"joined_qkv": True}
    # By age, two tokens of the bank come out as like one of the frame's as rounding goes, and either may be fused.
    options: dict[str, Any] = {"steps": 2, "schedule": schedule, "bank": {"interval": 2, "partition": "random"}}
    if rung == "beyond":
        # So many roundings carry a token over fusion's threshold, in one frame of fourteen: here none is fused.
        options["fusion"] = {"threshold": 2}
    without = translator(unet, speed=SpeedSettings(**OFF), **options)
    with_it = translator(unet, speed=SpeedSettings(**wishes), **options)
    assert furthest(changing(without), changing(with_it)) <= 1e-5
    if rung == "padded_heads":
        assert without.bank is not None
        assert with_it.bank is not None
        # Heads of 8 and 16 channels are 64 wide now; outputs keep their channels.
        assert with_it.bank.remembered(0)[0].shape[-1] == with_it.layers[0].widened
        assert with_it.bank.bytes > without.bank.bytes
    assert with_it.folds_output == (rung in ("folded_output", "beyond"))
    assert with_it.direct_keys == (rung in ("direct_keys", "beyond"))
    with_it.close()
    without.close()
    assert not any("forward" in vars(module) for module in unet.modules())


def test_a_prompt_is_computed_when_it_changes_and_not_with_every_frame(unet: UNet2DConditionModel) -> None:
    core = translator(unet, steps=3, bank={"kind": "off"})
    words = prompt(1)
    run(core, clip(5), words=words)
    assert core.prompts.computed == 1
    run(core, clip(4), words=prompt(2))
    assert core.prompts.computed == 2
    for seed in (3, 4):
        run(core, clip(1), words=prompt(seed))
    assert core.prompts.computed == 4
    core.close()


def test_what_is_kept_of_weights_follows_them(model: Model) -> None:
    own = attentive_unet()
    options: dict[str, Any] = {"bank": {"interval": 2}, "speed": SpeedSettings(**BEYOND)}
    core = translator(own, **options)
    run(core, clip(3))
    with torch.no_grad():
        for parameter in own.parameters():
            parameter.mul_(1.02)
    stale = run(core, clip(4, seed=2))
    core.refresh()
    core.reset_bank()
    fresh = run(core, clip(4, seed=2))
    assert furthest(fresh, run(translator(own, **options), clip(4, seed=2))) <= 1e-6
    assert furthest(stale, fresh) > 1e-4
    core.close()


def test_a_style_reaches_what_is_kept(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    made = Translator(model, settings(steps=2))
    refreshed: list[bool] = []
    monkeypatch.setattr(made._latents, "refresh", lambda: refreshed.append(True))
    picture = trial_pictures(64, 64)[0]
    made.step(Frame(picture, 0.0, 0))
    assert refreshed == []
    monkeypatch.setattr(model.styles, "version", model.weights_version + 1)
    made.step(Frame(picture, 0.1, 1))
    made.step(Frame(picture, 0.2, 2))
    assert refreshed == [True]
    made.close()


# --- a whole frame over memory that stays ---------------------------------------------------------------------


def core_of(model: Model, **changes: Any) -> LatentTranslator:
    chosen = settings(**({"steps": 2, "bank": {"interval": 2}} | changes))
    return LatentTranslator(model.unet, model.acp, model.prediction_type, chosen, (4, 8, 8), model.device, model.dtype)


def memory_of(core: LatentTranslator, frame: StaticFrame | None = None) -> list[Tensor]:
    """All that a frame reads and writes besides weights."""
    bank = core._unet_call.bank  # as it is: the property would update it first
    constants = core.rows.constants
    found = [core.rows.noised, core.rows.noise, constants.alpha, constants.beta, constants.c_skip, constants.c_out]
    found += [core.extension.strength, core.extension.threshold, *core.times._given]
    if core.prompts.embeddings is not None:
        assert core.prompts._features is not None
        found += [core.prompts.embeddings, core.prompts._features]
    if bank is not None:
        found += [part for one in bank._classes for part in (*one.parts, one.where)]
    return found + ([frame.pixels_in, frame.pixels_out] if frame is not None else [])


Show = Callable[[Pixels, Tensor, Origin], Pixels]


def story(core: LatentTranslator, model: Model, show: Show) -> list[Pixels]:
    """Pictures of a run in which everything happens that a live user does."""
    words = [model.text.encode(text) for text in ("an oil painting", "neon lights", "a blueprint")]
    pictures, out = trial_pictures(64, 64), []

    def show_some(numbers: range, which: int) -> None:
        for number in numbers:
            out.append(show(pictures[number], words[which], Origin(float(number), number)))
            core.settle()

    show_some(range(8), 0)
    show_some(range(4), 1)  # another prompt
    core.set_strength(0.8)
    core.set_seed(4)
    core.set_fusion(0.3)
    show_some(range(4, 8), 1)
    saved = core.snapshot()
    core.reset_bank()
    show_some(range(8), 2)
    core.restore(saved)
    show_some(range(3), 2)
    core.forget_bank()
    show_some(range(3, 8), 0)
    return out


def plainly(core: LatentTranslator, model: Model) -> Show:
    coder = model.autoencoder
    return lambda pixels, words, origin: coder.decode(
        core.step(coder.encode(pixels), words, origin).latent.to(model.dtype)
    )


@pytest.mark.parametrize("schedule", ["stream", "sequential"])
@pytest.mark.parametrize("kind", ["dyme", "queue", "off"])
def test_a_recorded_frame_is_the_frame_whatever_a_user_changes(model: Model, kind: str, schedule: str) -> None:
    changes: dict[str, Any] = {"schedule": schedule, "bank": {"kind": kind, "interval": 2}}
    if kind == "queue":
        changes["bank"]["length"] = 2
    plain = core_of(model, **changes)
    expected = story(plain, model, plainly(plain, model))
    plain.close()
    core = core_of(model, **changes)
    frames: list[StaticFrame] = []
    tape = Tape(lambda: memory_of(core, frames[0]))
    frames.append(StaticFrame(core, model.autoencoder, (64, 64), PLAIN, recorder=tape))
    places: list[list[int]] = []

    def show(pixels: Pixels, words: Tensor, origin: Origin) -> Pixels:
        answer, shown = frames[0].step(pixels, words, origin)
        assert shown is not None
        places.append([tensor.data_ptr() for tensor in memory_of(core, frames[0])])
        return answer

    got = story(core, model, show)
    assert max(int(np.abs(a.astype(int) - b).max()) for a, b in zip(expected, got, strict=True)) <= 1
    assert psnr(got, expected) > 60
    assert all(place == places[0] for place in places), "memory moved"
    # COLD, WARM and UPDATE; without a bank there is one kind of frame. None is made anew by any change.
    assert frames[0].repeated.recordings == len(tape.lengths) == (1 if kind == "off" else 3)
    core.close()


def test_the_tape_can_fail() -> None:
    """Else the test above could not: Python is not asked again, and nobody looks into a tensor."""
    asked = [1.0]
    source, target = torch.ones(3), torch.zeros(3)

    def work() -> None:
        target.copy_(source * asked[0])

    play = Tape().record(work)
    asked[0] = 5.0
    source.fill_(2.0)
    play()
    assert target.tolist() == [2.0] * 3
    for peeking in (lambda: target.sum().item(), lambda: torch.tensor([1.0]), lambda: torch.nonzero(target)):
        with pytest.raises(RuntimeError, match="not permitted"):
            Tape().record(peeking)  # type: ignore[arg-type]


def test_what_cannot_be_captured_is_said_and_runs_as_it_is(caplog: pytest.LogCaptureFixture) -> None:
    done: list[int] = []

    class Broken:
        def record(self, work: Callable[[], None]) -> Callable[[], None]:
            raise RuntimeError("operation not permitted when stream is capturing")

    repeated = Repeated(Broken())
    for _ in range(4):
        repeated.run("frame", lambda: done.append(1))
    assert len(done) == 4
    assert not repeated.recording
    assert [r.getMessage() for r in caplog.records if "A SLOWER PATH IS TAKEN" in r.getMessage()] != []
    assert len(caplog.records) == 1


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("schedule", ["stream", "sequential"])
def test_a_whole_frame_is_one_graph_and_no_change_compiles_it_again(model: Model, schedule: str, fused: bool) -> None:
    """Traced from pixels to pixels with ``fullgraph``: no break, no look into a tensor, no shape that depends on data.

    Two graphs: COLD and WARM. ``fused``: rewritten as for a GPU, where each such operation is one launch.
    """
    plain = core_of(model, schedule=schedule)
    expected = story(plain, model, plainly(plain, model))
    plain.close()
    torch._dynamo.reset()
    graphs: list[int] = []

    # With every write into kept memory turned into values and back, as for real code; run operation by operation.
    functional = torch._dynamo.lookup_backend("aot_eager")
    rungs = Rungs(False, True, False, late_update=True, fused_activations=fused, fused_norms=fused)

    def backend(graph: Any, inputs: Any) -> Any:
        rewrite(graph, rungs)
        ours = {str(node.target) for node in graph.graph.nodes if "streamv2v_obs" in str(node.target)}
        assert len(ours) == (3 if fused else 0), ours
        graphs.append(len(graph.graph.nodes))
        return functional(graph, inputs)

    def compiled(work: Callable[[], None]) -> Callable[[], None]:
        made: Any = torch.compile(work, backend=backend, fullgraph=True, dynamic=False)
        return made  # type: ignore[no-any-return]

    core = core_of(model, schedule=schedule, speed=SpeedSettings(**(BEYOND if fused else {})))
    frame = StaticFrame(core, model.autoencoder, (64, 64), rungs, compiler=compiled)
    got = story(core, model, lambda pixels, words, origin: frame.step(pixels, words, origin)[0])
    assert frame.compiled
    assert len(graphs) == 2
    assert psnr(got, expected) > 60
    core.close()
    torch._dynamo.reset()


def test_what_cannot_be_compiled_is_said_and_runs_as_it_is(model: Model, caplog: pytest.LogCaptureFixture) -> None:
    def compiled(work: Callable[[], None]) -> Callable[[], None]:
        def broken() -> None:
            raise torch._dynamo.exc.Unsupported("no such luck")

        return broken

    core = core_of(model)
    frame = StaticFrame(core, model.autoencoder, (64, 64), Rungs(False, True, False, True), compiler=compiled)
    with caplog.at_level(logging.WARNING):
        answer, _ = frame.step(trial_pictures(64, 64)[0], model.text.encode("x"), Origin(0.0, 0))
    assert answer.std() > 0
    assert not frame.compiled
    assert any("A SLOWER PATH IS TAKEN: a frame cannot be compiled" in r.getMessage() for r in caplog.records)
    core.close()


def test_the_translator_takes_the_static_path_where_it_is_wanted_and_says_so(
    model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = settings(steps=2, bank={"interval": 2})
    plain = Translator(model, chosen)
    assert plain.path == "joined qkv, cached prompt, cached time, late update, channels_last"
    frames = [Frame(pixels, n / 30, n) for n, pixels in enumerate(trial_pictures(64, 64))]
    expected = [plain.step(frame) for frame in frames] + plain.flush()
    plain.close()

    def with_a_tape(core: LatentTranslator, coder: Any, size: tuple[int, int], rungs: Rungs) -> StaticFrame:
        made: list[StaticFrame] = []
        made.append(StaticFrame(core, coder, size, PLAIN, recorder=Tape(lambda: memory_of(core, made[0]))))
        return made[0]

    rungs = Rungs(graphs=True, compile=False, pinned=False, late_update=True)
    monkeypatch.setattr("streamv2v_obs.translator.paths.choose_rungs", lambda *_: rungs)
    monkeypatch.setattr("streamv2v_obs.translator.paths.StaticFrame", with_a_tape)
    fast = Translator(model, chosen)
    assert fast.path.startswith("graphs, joined qkv")
    assert fast.agreement_db is not None
    assert fast.agreement_db > 50
    got = [fast.step(frame) for frame in frames] + fast.flush()
    assert [(a.index, a.captured_at) for a in got if a] == [(a.index, a.captured_at) for a in expected if a]
    assert psnr([a.pixels for a in got if a], [a.pixels for a in expected if a]) > 60
    fast.close()


# --- what can be had where ------------------------------------------------------------------------------------


def test_what_is_asked_for_and_cannot_be_had_is_said(caplog: pytest.LogCaptureFixture) -> None:
    assert choose_rungs(SpeedSettings(), CPU) == PLAIN
    assert not caplog.records
    asked = choose_rungs(SpeedSettings(graphs=True, pinned=True, late_update=False), CPU)
    assert asked == Rungs(graphs=False, compile=False, pinned=False, late_update=False)
    said = [record.getMessage() for record in caplog.records]
    assert said == [
        f"A SLOWER PATH IS TAKEN: translator.speed.{name} cannot be had: it needs a CUDA device, and this is cpu"
        for name in ("graphs", "pinned")
    ]
    caplog.clear()
    asked = choose_rungs(SpeedSettings(compile=False, fused_activations=True, fused_norms=True), CPU)
    assert asked == PLAIN
    block = TranslatorSettings(fusion=FusionSettings(site="block"), speed=SpeedSettings(**BEYOND))
    assert not choose_folded_output(block, CPU)
    assert not choose_direct_keys(TranslatorSettings(bank=BankSettings(kind="off"), speed=SpeedSettings(**BEYOND)))
    assert len([record for record in caplog.records if "SLOWER PATH" in record.getMessage()]) == 4
    assert not choose_direct_keys(TranslatorSettings())


@pytest.mark.parametrize("name", ["xformers", "cudnn", "efficient"])
def test_a_kernel_that_does_not_run_here_is_an_error(unet: UNet2DConditionModel, name: str) -> None:
    with pytest.raises(ConfigError, match=rf"translator\.attention = '{name}' needs a CUDA device"):
        translator(unet, attention=name)


# --- schedule: auto -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("stream_ms", "sequential_ms", "fps", "chosen"),
    [
        (10, 20, 30, "sequential"),  # both keep up: no delay wins
        (20, 40, 30, "stream"),  # one frame after another would lose pictures
        (100, 102, 30, "sequential"),  # neither keeps up, and the batch gains nothing
        (100, 150, 30, "stream"),
    ],
)
def test_auto_takes_the_schedule_that_loses_no_pictures(
    stream_ms: float, sequential_ms: float, fps: float, chosen: str
) -> None:
    schedule, reason = better(stream_ms, sequential_ms, fps)
    assert schedule == chosen
    assert reason == f"stream {stream_ms} ms, sequential {sequential_ms} ms a picture, source {fps} fps"


@pytest.mark.parametrize("fps", [1.0, 240.0])
def test_auto_measures_both_schedules_live_and_says_which(model: Model, fps: float) -> None:
    made = Translator(model, settings(steps=2, bank={"interval": 4}), trial=ScheduleTrial(fps))
    assert (made.schedule, made.schedule_reason) == ("stream", "being measured")
    pictures = trial_pictures(64, 64)
    seen = []
    for number in range(2 * (PASSED_OVER + COUNTED)):
        seen.append(made.schedule)
        assert made.step(Frame(pictures[number % 8], number / 30, number)) is not None
        made.settle()
    assert seen == ["stream"] * (PASSED_OVER + COUNTED) + ["sequential"] * (PASSED_OVER + COUNTED)
    if fps == 1.0:
        assert made.schedule == "sequential"  # a picture takes this model milliseconds
    assert made.schedule_reason.endswith(f"source {fps:g} fps")
    made.close()


def test_what_auto_chose_is_kept_for_later_translators_of_the_same_pictures(model: Model) -> None:
    before = ScheduleTrials(64, 64, 30.0)
    trial = before.of(2)
    for taken_ms in [5.0] * (PASSED_OVER + COUNTED) + [9.0] * (PASSED_OVER + COUNTED):
        trial.note(taken_ms)
    (chosen,) = before.chosen
    assert (chosen.steps, chosen.schedule) == (2, "sequential")
    after = ScheduleTrials(64, 64, 30.0, [chosen])
    made = Translator(model, settings(steps=2), trial=after.of(2))
    assert (made.schedule, made.schedule_reason) == ("sequential", chosen.reason)
    assert after.chosen == (chosen,)
    assert not after.of(4).over
    assert not ScheduleTrials(64, 64, 60.0, [chosen]).of(2).over
    assert not ScheduleTrials(64, 128, 30.0, [chosen]).of(2).over
    made.close()


# --- on a GPU -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("schedule", ["stream", "sequential"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_captured_is_eager_on_a_gpu(schedule: str, dtype: torch.dtype, require: Require) -> None:
    """At least 50 dB in float32 (sums are ordered otherwise: atomics), 35 dB in float16."""
    require("gpu", torch.cuda.is_available(), "captured frames beside eager ones")
    model = tiny_subject().model
    device = torch.device("cuda")
    for module in (model.unet, model.autoencoder.module, model.text.module):
        module.to(device, dtype)
    model.device, model.dtype = device, dtype
    core = core_of(model, schedule=schedule)
    expected = story(core, model, plainly(core, model))
    core.close()
    core = core_of(model, schedule=schedule)
    frame = StaticFrame(core, model.autoencoder, (64, 64), Rungs(True, False, True, True))
    got = story(core, model, lambda pixels, words, origin: frame.step(pixels, words, origin)[0])
    assert frame.repeated.recordings == 3
    assert psnr(got, expected) > (50 if dtype is torch.float32 else 35)
    allocated = torch.cuda.memory_allocated()
    words = model.text.encode("an oil painting")
    for number in range(200):
        frame.step(trial_pictures(64, 64)[number % 8], words, Origin(0.0, number))
        core.settle()
    assert torch.cuda.memory_allocated() == allocated
    core.close()
