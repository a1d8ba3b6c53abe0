"""The laws that hold on OpenVINO's path, too, and the choice between it and torch."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pytest
import torch
from diffusers import AutoencoderTiny, UNet2DConditionModel
from torch import Tensor

from streamv2v_obs.errors import ConfigError, ModelLoadError
from streamv2v_obs.frames import Frame, Pixels
from streamv2v_obs.settings import BankSettings, FusionSettings, Lora, ModelSettings, SpeedSettings, TranslatorSettings
from streamv2v_obs.translator import backend, openvino_graph, paths
from streamv2v_obs.translator.backend import psnr, trial_pictures, wants_openvino
from streamv2v_obs.translator.latent import LatentTranslator
from streamv2v_obs.translator.loading import Model, load_model
from streamv2v_obs.translator.openvino_graph import Sharing
from streamv2v_obs.translator.openvino_path import CoderGraph, UNetGraph
from streamv2v_obs.translator.pixels import Autoencoder
from streamv2v_obs.translator.translator import Translator
from tests.conftest import require_or_skip
from tests.rigs import latents
from tests.rigs.latents import attentive_unet, clip, equal, furthest, run
from tests.rigs.tiny_loras import save_kohya
from tests.rigs.tiny_models import WIDTH, save_model, tiny_taesd

SIZE = 64
# Two orders of the same float32 sums, through ten frames of a bank.
NEAR = 1e-3
SAME_DB = 65.0


@pytest.fixture(autouse=True, scope="module")
def _installed() -> None:
    require_or_skip("openvino", openvino_graph.installed(), f"the extra is not installed: {backend.EXTRA}")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("openvino")


@pytest.fixture(autouse=True)
def cache(place: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """One for all tests of this file: each network is converted once."""
    monkeypatch.setenv("STREAMV2V_CACHE", str(place / "cache"))
    return place / "cache" / "openvino"


@pytest.fixture
def unet() -> UNet2DConditionModel:
    return attentive_unet()


def graphed(unet: UNet2DConditionModel, **changes: Any) -> LatentTranslator:
    """As ``latents.translator``, but computed by a graph."""
    core = latents.translator(unet, **changes)
    core.graph = UNetGraph(core, (5, WIDTH), torch.float32, Sharing(1))
    return core


def forbid(unet: UNet2DConditionModel, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: Any, **options: Any) -> NoReturn:
        raise AssertionError("torch computes")

    monkeypatch.setattr(unet, "forward", refuse)


# --- the laws -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "filled_after"),
    [
        ({"bank": {"interval": 2}}, 1),
        ({"bank": {"interval": 2}, "schedule": "sequential"}, 1),
        ({"bank": {"kind": "queue", "length": 2, "interval": 1}}, 2),
        ({"bank": {"kind": "off"}}, 0),
    ],
    ids=["dyme", "sequential", "queue", "off"],
)
def test_graphs_are_torch_with_the_bank_s_contents(
    unet: UNet2DConditionModel, changes: dict[str, Any], filled_after: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    exact = latents.translator(attentive_unet(), **changes)
    core = graphed(unet, **changes)
    frames = clip(10)
    out = run(core, frames[:filled_after])
    if core.bank is not None:
        assert core.bank.stored == core.bank.capacity
    forbid(unet, monkeypatch)
    out += run(core, frames[filled_after:])
    assert furthest(out, run(exact, frames)) <= NEAR
    assert (core.bank is None) == (exact.bank is None)
    for number in range(len(core.layers) if core.bank is not None else 0):
        assert core.bank is not None
        assert exact.bank is not None
        assert furthest(core.bank.remembered(number), exact.bank.remembered(number)) <= NEAR


def test_a_bank_of_exactly_the_current_frame_changes_nothing(
    unet: UNet2DConditionModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    frame, fusion = clip(1), {"strength": 0.8, "threshold": -1}
    core = graphed(unet, schedule="sequential", fusion=fusion)
    run(core, frame)
    without = graphed(attentive_unet(), schedule="sequential", fusion=fusion, bank={"kind": "off"})
    forbid(unet, monkeypatch)
    assert furthest(run(core, frame), run(without, frame)) <= 1e-4


def test_reset_is_a_new_translator_and_restore_goes_on_as_if_nothing_had_happened(unet: UNet2DConditionModel) -> None:
    core = graphed(unet, bank={"interval": 2})
    once = run(core, clip(6))
    saved = core.snapshot()
    straight_on = run(core, clip(4, seed=3))
    run(core, clip(3, seed=9))
    core.restore(saved)
    assert equal(straight_on, run(core, clip(4, seed=3)))
    core.reset_bank()
    assert equal(once, run(core, clip(6)))
    assert equal(once, run(graphed(attentive_unet(), bank={"interval": 2}), clip(6)))


def test_all_that_is_changed_live_is_an_input(unet: UNet2DConditionModel) -> None:
    def changed(core: LatentTranslator, fusion: float) -> list[Tensor]:
        run(core, clip(3))
        core.set_strength(0.8)
        core.set_seed(5)
        core.set_fusion(fusion)
        return run(core, clip(4), words=latents.prompt(7))

    fast, other = (changed(graphed(unet, bank={"interval": 2}), fusion) for fusion in (0.1, 0.8))
    assert furthest(fast, changed(latents.translator(attentive_unet(), bank={"interval": 2}), 0.1)) <= NEAR
    assert furthest(fast, other) > 10 * NEAR
    unchanged = graphed(unet, bank={"interval": 2})
    run(unchanged, clip(3))
    assert furthest(other, run(unchanged, clip(4))) > 10 * NEAR


# --- pictures, and what computes them -----------------------------------------------------------------------


@pytest.fixture(scope="module")
def folder(place: Path) -> Path:
    torch.manual_seed(0)
    pipeline = save_model(place / "small", unet=attentive_unet(), vae=tiny_taesd())
    save_kohya(place / "ink.safetensors", pipeline)
    return place / "small"


@pytest.fixture
def load(folder: Path) -> Callable[..., Model]:
    def load(backend: str = "openvino") -> Model:
        styles = {"ink": Lora(path=str(folder.parent / "ink.safetensors"))}
        options: dict[str, Any] = {"name": str(folder), "backend": backend, "styles": styles}
        return load_model(ModelSettings(device="cpu", dtype="float32", width=SIZE, height=SIZE, **options))

    return load


def settings() -> TranslatorSettings:
    return TranslatorSettings(steps=2, bank=BankSettings(interval=2), fusion=FusionSettings(threshold=0.9))


def pictures(core: Translator, first: int = 0) -> list[Pixels]:
    answers = [core.step(Frame(pixels, 0.0, first + n)) for n, pixels in enumerate(trial_pictures(SIZE, SIZE))]
    return [answer.pixels for answer in answers if answer is not None]


@pytest.mark.parametrize("threads", [1, 2])
def test_pictures_are_torch_s_and_what_computes_is_said(load: Callable[..., Model], threads: int) -> None:
    torch.set_num_threads(threads)  # two: a row each
    by_rows = settings().model_copy(update={"speed": SpeedSettings(row_threads=threads == 2)})
    fast, slow = Translator(load(), by_rows), Translator(load("torch"), settings())
    assert (fast.backend, slow.backend) == ("openvino", "torch")
    assert ("row threads" in slow.path) == (threads == 2)
    assert slow.agreement_db is None
    assert fast.agreement_db is not None
    assert fast.agreement_db >= SAME_DB
    shown, other = pictures(fast), pictures(slow)
    assert psnr(shown, other) >= SAME_DB
    # It is no still picture that agrees: another picture of the same clip is further away.
    assert psnr(shown[:-1], other[1:]) < psnr(shown, other) - 6


def test_an_autoencoder_with_folded_pixels_is_the_same_in_both_directions() -> None:
    torch.manual_seed(0)
    folded = AutoencoderTiny(
        in_channels=12, out_channels=12, encoder_block_out_channels=(16,) * 3, decoder_block_out_channels=(16,) * 3,
        num_encoder_blocks=(1, 1, 1), num_decoder_blocks=(1, 1, 1),
    ).eval()  # fmt: skip
    slow, picture = Autoencoder(folded), trial_pictures(96, SIZE)[0]
    fast = CoderGraph(slow, 96, SIZE, torch.float32, Sharing(1))
    encoded = slow.encode(picture)
    assert fast.factor == slow.factor == 8
    assert furthest([fast.encode(picture)], [encoded]) <= 1e-4
    assert psnr([fast.decode(encoded)], [slow.decode(encoded)]) >= SAME_DB


def test_a_style_is_computed_by_torch_until_it_is_gone(
    load: Callable[..., Model], caplog: pytest.LogCaptureFixture
) -> None:
    model, plain = load(), load("torch")
    fast, slow = Translator(model, settings()), Translator(plain, settings())
    shown = pictures(fast), pictures(slow)
    for style, expected in (("ink", "torch"), (None, "openvino")):
        for each in (model, plain):
            each.set_style(style)
        before, shown = shown, (pictures(fast), pictures(slow))
        assert psnr(*shown) >= SAME_DB
        assert psnr(before[0], shown[0]) < SAME_DB
        assert fast.backend == expected
        assert ("TORCH COMPUTES" in caplog.text) == (style == "ink")
        caplog.clear()


def test_graphs_are_converted_once_and_a_damaged_one_anew(
    load: Callable[..., Model], cache: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = pictures(Translator(load(), settings()))
    convert, converted = openvino_graph._convert, []

    def count(*arguments: Any) -> Any:
        converted.append(arguments)
        return convert(*arguments)

    monkeypatch.setattr(openvino_graph, "_convert", count)
    again = pictures(Translator(load(), settings()))
    assert not converted
    assert all(np.array_equal(a, b) for a, b in zip(before, again, strict=True))
    for blob in cache.glob("decoder-*.blob"):
        blob.write_bytes(blob.read_bytes()[:1000])
    anew = pictures(Translator(load(), settings()))
    assert len(converted) == 1
    assert "made anew" in caplog.text
    assert all(np.array_equal(a, b) for a, b in zip(before, anew, strict=True))


@pytest.mark.parametrize(("wish", "computes"), [("auto", "torch"), ("openvino", "openvino")])
def test_graphs_that_do_not_agree_are_used_only_if_insisted_on(
    load: Callable[..., Model],
    wish: str,
    computes: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(paths, "LEAST_AGREEMENT_DB", 1000.0)
    model = replace(load(wish), name="demo")
    assert Translator(model, settings()).backend == computes
    assert "1000 are wanted" in caplog.text
    assert any(record.levelno == logging.WARNING for record in caplog.records)


def test_a_bank_that_is_only_fused_is_torch_s(load: Callable[..., Model]) -> None:
    fusing = TranslatorSettings(bank=BankSettings(attend=False))
    with pytest.raises(ConfigError, match=r"translator\.bank\.attend = false: .* model\.backend = torch"):
        Translator(load(backend="openvino"), fusing)
    plain = Translator(load(backend="openvino"), TranslatorSettings(bank=BankSettings(kind="off", attend=False)))
    assert plain.backend == "openvino"
    plain.close()


def test_what_openvino_cannot_take_is_said(
    load: Callable[..., Model], place: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*arguments: Any) -> NoReturn:
        raise RuntimeError("no such operation")

    monkeypatch.setenv("STREAMV2V_CACHE", str(place / "empty"))
    monkeypatch.setattr(openvino_graph, "_convert", fail)
    assert Translator(replace(load("auto"), name="demo"), settings()).backend == "torch"
    assert "TORCH COMPUTES" in caplog.text
    with pytest.raises(ModelLoadError, match=r"no such operation.*set model\.backend to torch"):
        Translator(load(), settings())


def test_auto_is_for_the_demo_on_a_cpu_and_a_wish_that_cannot_be_met_is_refused(
    load: Callable[..., Model], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = load("auto")
    assert not wants_openvino(model)
    demo = replace(model, name="demo")
    assert wants_openvino(demo)
    assert not wants_openvino(replace(demo, device=torch.device("cuda")))
    assert not wants_openvino(replace(demo, backend="torch"))
    with pytest.raises(ConfigError, match=r"needs model\.device: cpu, and this is cuda"):
        wants_openvino(replace(demo, device=torch.device("cuda"), backend="openvino"))
    monkeypatch.setattr(openvino_graph, "installed", lambda: False)
    assert not wants_openvino(demo)
    with pytest.raises(ConfigError, match=r"pip install .*openvino"):
        wants_openvino(replace(demo, backend="openvino"))
