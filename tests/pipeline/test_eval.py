"""A small evaluation of the model that ships, for real: arms, controls, records, resuming, statement and page."""

from __future__ import annotations

import json
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from jsonschema import Draft202012Validator

from streamv2v_obs.bench import demo_quality, evaluation, results
from streamv2v_obs.demo.clips import HIDDEN_LAG
from streamv2v_obs.demo.evaluate import StyleFigures
from streamv2v_obs.errors import ConfigError
from streamv2v_obs.eval.arms import ARMS, run_arm
from streamv2v_obs.eval.attention import AttentionMeter
from streamv2v_obs.eval.evaluation import Plan, choose_arms, job_path, read_variant, run, run_job
from streamv2v_obs.eval.report import render
from streamv2v_obs.eval.suite import SUITES, ClipSpec, donor_of, open_clip, videos
from streamv2v_obs.eval.summary import summarize
from streamv2v_obs.publish.recording import VideoWriter
from streamv2v_obs.settings import FusionSettings, Lora, ModelSettings, Settings, TranslatorSettings
from streamv2v_obs.translator.attention import ExtendedAttention, attend_sdpa, find_layers
from streamv2v_obs.translator.loading import Model, load_model
from streamv2v_obs.translator.origins import Origin

SPECS = (ClipSpec("pan 1", "pan", 11), ClipSpec("still 1", "still", 12))
SETTINGS = ModelSettings(name="demo", device="cpu", dtype="float32")
PLAN = Plan(
    model=SETTINGS,
    base=TranslatorSettings(),
    specs=SPECS,
    prompts=("neon lights",),
    seeds=(0, 1),
    arms=choose_arms(["all"], [read_variant("block: fusion.site=block")]),
    frames=6,
    side=64,
    lags=(1, 4),
)


@pytest.fixture(scope="module")
def model() -> Model:
    torch.set_num_threads(1)
    return load_model(SETTINGS)


def test_a_hidden_thing_is_judged_by_before_and_after(model: Model, tmp_path: Path) -> None:
    spec = SUITES["hidden"][1]
    plan = replace(PLAN, specs=(spec,), arms=choose_arms(["dyme", "carried"]), seeds=(0,))
    run_job(model, plan, tmp_path, 0, 0)
    records = json.loads(job_path(tmp_path, 0, 0).read_text(encoding="utf-8"))
    assert {record["arm"] for record in records} == {"off", "dyme", "carried"}
    assert all(list(record["warp_mse"]) == [str(HIDDEN_LAG)] for record in records)
    assert {"dyme > carried after hiding"} == {pair["name"] for pair in summarize(records)["quality"]["order_pairs"]}


@pytest.fixture(scope="module")
def done(model: Model, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("work")
    for clip, prompt in PLAN.jobs:
        run_job(model, PLAN, folder, clip, prompt)
    return folder


@pytest.fixture(scope="module")
def records(done: Path) -> list[dict[str, Any]]:
    return run(PLAN, done, 1, lambda done, total: None)


def of(records: list[dict[str, Any]], arm: str, clip: str, seed: int = 0) -> dict[str, Any]:
    (found,) = (r for r in records if (r["arm"], r["clip"], r["seed"]) == (arm, clip, seed))
    return found


def test_every_arm_has_its_record_and_controls_one_seed(records: list[dict[str, Any]]) -> None:
    assert len(records) == 2 * (10 * 2 + 2)
    assert of(records, "off", "pan 1")["bank_mib"] == 0 < of(records, "dyme", "pan 1")["bank_mib"]
    assert of(records, "off", "pan 1")["static_std"] is None
    assert of(records, "off", "still 1")["static_std"] > 0
    assert set(of(records, "off", "pan 1")["warp_mse"]) == {"1", "4"}


@pytest.mark.parametrize("suite", sorted(SUITES))
def test_a_foreign_bank_is_of_another_scene(suite: str) -> None:
    specs = SUITES[suite]
    for number, spec in enumerate(specs):
        donor = donor_of(specs, number)
        assert (donor.photograph, donor.seed) != (spec.photograph, spec.seed)
        assert donor.photograph is None or donor.photograph != spec.photograph
    beside = ClipSpec("alike", "pan", 1, specs[0].photograph)
    assert donor_of((specs[0], beside), 0) is beside, "where there is no other"


def test_a_frame_s_own_features_change_nothing_and_another_s_do(records: list[dict[str, Any]]) -> None:
    for clip in ("pan 1", "still 1"):
        off, own = (of(records, arm, clip)["warp_mse"]["1"] for arm in ("off", "own"))
        assert own == pytest.approx(off, rel=1e-3)
        for arm in ("ea", "foreign", "queue 2", "block"):
            assert of(records, arm, clip)["warp_mse"] != of(records, "off", clip)["warp_mse"], arm


def test_the_first_frame_has_nothing_to_remember(model: Model) -> None:
    latents = [model.autoencoder.encode(frame) for frame in open_clip(SPECS[0], 3, 64, track=False).frames]
    runs = {
        arm.name: run_arm(model, arm, arm.settings(PLAN.base, "a sketch", 0), latents)
        for arm in ARMS
        if arm.name in ("off", "dyme")
    }
    assert all(len(found.latents) == 3 for found in runs.values())
    assert not torch.equal(runs["off"].latents[2], runs["dyme"].latents[2])


def test_what_is_done_is_not_done_again(model: Model, tmp_path: Path) -> None:
    plan = replace(PLAN, seeds=(0,), arms=choose_arms(["bank"]), frames=3, lags=(1,))
    run_job(model, plan, tmp_path, 0, 0)
    run_job(model, plan, tmp_path, 1, 0)
    kept, lost = (job_path(tmp_path, *job) for job in plan.jobs)
    before, stamp = json.loads(lost.read_text(encoding="utf-8")), kept.stat().st_mtime_ns
    lost.unlink()
    told: list[tuple[int, int]] = []
    again = run(plan, tmp_path, 1, lambda done, total: told.append((done, total)))
    assert told == [(1, 2), (2, 2)]
    assert kept.stat().st_mtime_ns == stamp
    assert [record["arm"] for record in again] == ["off", "dyme", "dyme by age"] * 2
    for first, second in zip(before, again[3:], strict=True):
        # Another process has another number of threads, and sums in another order.
        assert first["warp_mse"] == pytest.approx(second["warp_mse"], rel=1e-2)


def test_records_of_other_settings_are_not_mixed_in() -> None:
    prints = {
        plan.fingerprint(code, "w")
        for plan in (PLAN, replace(PLAN, side=128), replace(PLAN, base=TranslatorSettings(steps=4)))
        for code in ("a", "b")
    }
    assert len(prints) == 6


def test_records_of_other_files_are_not_mixed_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clip = tmp_path / "a.mp4"
    plan = replace(PLAN, specs=(ClipSpec("a", "video", path=clip),))
    origin = Origin("model", tmp_path / "model")
    origin.path.mkdir()
    prints = []
    for path in (clip, origin.path / "unet.safetensors", tmp_path / "lora.safetensors"):
        for content in (b"first", b"other one"):
            path.write_bytes(content)
            settings = SETTINGS.model_copy(update={"loras": (Lora(path=str(tmp_path / "lora.safetensors")),)})
            prints.append(plan.fingerprint("code", evaluation.weights_of(settings, origin)))
    assert len(set(prints)) == 6
    package = tmp_path / "package"
    (package / "bench").mkdir(parents=True)
    monkeypatch.setattr(evaluation, "__file__", str(package / "bench" / "evaluation.py"))
    before = evaluation.sources()
    (package / "new.py").write_text("uncommitted = True", encoding="utf-8")
    assert evaluation.sources() != before


def test_names_are_taken_once_and_one_clip_has_no_foreign_one(tmp_path: Path) -> None:
    for names in (["dyme"], ["x", "x"]):
        with pytest.raises(ConfigError, match=f"--variant {names[-1]}: "):
            choose_arms(["bank"], [read_variant(f"{name}: bank.interval=8") for name in names])
    (tmp_path / "a.mkv").touch()
    wish = evaluation.Wish("held-out", tmp_path, (), 1, (), (), 6, 64, 1)
    assert "foreign" not in [arm.name for arm in evaluation.make_plan(Settings(), wish).arms]
    (tmp_path / "b.mkv").touch()
    assert "foreign" in [arm.name for arm in evaluation.make_plan(Settings(), wish).arms]
    (tmp_path / "a.mp4").touch()
    with pytest.raises(ConfigError, match=r"a\.mkv and a\.mp4 are both called a"):
        videos(tmp_path)


def test_it_is_told_whom_the_arms_attend_to(records: list[dict[str, Any]]) -> None:
    watched = [record for record in records if "attention" in record]
    assert {(record["arm"], record["seed"]) for record in watched} == {("dyme", 0), ("foreign", 0)}
    found = summarize(records)["quality"]["attention"]
    assert list(found) == ["dyme", "foreign"]
    for layers in found.values():
        assert [layer["tokens"] for layer in layers] == [16, 4, 4, 4, 4, 16, 16], "in the order in which they run"
        assert all(0 < layer["bank"] < 1 for layer in layers)
        assert all(1 <= layer["spread"] <= 2 * layer["tokens"] for layer in layers)
        assert [layer["fused"] is not None for layer in layers] == [False, False, True, True, True, True, True]
    assert found["dyme"] != found["foreign"]


def test_a_meter_knows_where_attention_goes_and_changes_nothing(model: Model) -> None:
    layers = find_layers(model.unet, (16, 8, 8), FusionSettings())
    extension = ExtendedAttention(model.unet, layers, None, FusionSettings(), attend_sdpa)
    tokens, width = 16, 16
    own = torch.eye(tokens).view(1, tokens, 1, width)
    for sharpness, bank, share, spread in (
        (0.0, own, 1 / 2, 32.0),  # a mean over all there is
        (400.0, own, 1 / 2, 2.0),  # itself, then and now
        (400.0, 0 * own, 0.0, 1.0),  # nothing alike there
    ):
        meter = AttentionMeter()
        extension.kernels[:] = [attend_sdpa] * len(layers)
        meter.attach(extension)
        keys = torch.cat([own, bank], 1)
        made = extension.kernels[0](sharpness * own, keys, keys)
        assert torch.equal(made, attend_sdpa(sharpness * own, keys, keys))
        extension.kernels[1](own, own, own)  # while the bank is empty there is nothing to tell
        (told,) = meter.told()
        assert told["bank"] == pytest.approx(share, abs=1e-3)
        assert told["spread"] == pytest.approx(spread, rel=1e-3)
        assert told["fused"] is None


def test_the_page_holds_all_it_shows(done: Path, records: list[dict[str, Any]]) -> None:
    found = summarize(records)
    page = render(PLAN, found, done, "Title <1>", "about")
    assert "Title &lt;1&gt;" in page
    for arm in PLAN.arms:
        assert f"<figcaption>{arm.name}</figcaption>" in page
    assert page.count("<svg ") == 2
    assert "off &gt; ff" in page
    assert all(f"<td>{prompt}</td>" in page for prompt in PLAN.prompts)
    assert "<th>foreign: share of the bank</th>" in page
    assert "http://" not in page
    assert "https://" not in page
    assert "`-${(frame % count) * 256}px`" in page


def test_the_command_writes_a_result_that_the_schema_describes(
    done: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evaluation, "make_plan", lambda settings, wish: PLAN)
    monkeypatch.setattr(evaluation, "work_folder", lambda fingerprint: done)
    wish = evaluation.Wish("held-out", None, (), 2, (), (), 6, 64, 1)
    said: list[str] = []
    path = evaluation.evaluate(
        Settings(model=SETTINGS), wish, tmp_path, tmp_path / "page.html", lambda done, total: None, said.append
    )
    found = json.loads(path.read_text(encoding="utf-8"))
    schema = Draft202012Validator(json.loads(results.SCHEMA.read_text(encoding="utf-8")))
    assert not [error.message for error in schema.iter_errors(found)]
    assert path.name == "quality.json"
    assert len(found["results"]["holds"]) == 12, "no lag 16 in six frames"
    assert any(line.startswith("off > ff: ") for line in said)
    assert (tmp_path / "page.html").stat().st_size > 20_000


def test_what_cannot_be_evaluated_is_one_line(tmp_path: Path) -> None:
    def plan(**changes: Any) -> Plan:
        wish = evaluation.Wish("held-out", None, (), 1, (), (), 6, 64, 1)
        return evaluation.make_plan(Settings(), replace(wish, **changes))

    assert plan().specs == SUITES["held-out"]
    with pytest.raises(ConfigError, match="--suite all: allowed are held-out"):
        plan(suite="all")
    with pytest.raises(ConfigError, match="holds no video"):
        plan(folder=tmp_path)
    with pytest.raises(ConfigError, match=r"arm bad: .*interval"):
        run(plan(variants=[read_variant("bad: bank.interval=0")]), tmp_path, 1, lambda done, total: None)


def test_a_video_is_evaluated_by_estimated_flow(tmp_path: Path) -> None:
    clip = open_clip(SPECS[0], 8, 128, track=False).frames
    with VideoWriter(tmp_path / "real.mp4", 128, 128, Fraction(30)) as writer:
        for frame in clip:
            writer.write(frame)
    (spec,) = videos(tmp_path)
    footage = open_clip(spec, 6, 64, (1, 4))
    assert [frame.shape for frame in footage.frames] == [(64, 64, 3)] * 6
    assert len(footage.tracks) == 5 + 2
    assert np.mean([len(track.here) for track in footage.tracks]) > 0.3 * 64 * 64
    (tmp_path / "real.mp4").rename(tmp_path / "real.txt")
    with pytest.raises(ConfigError, match="holds no video"):
        videos(tmp_path)


# --- bench demo-quality ---------------------------------------------------------------------------------------


def test_structure_counts_from_chance_to_what_teachers_keep() -> None:
    def style(kept: float) -> StyleFigures:
        return StyleFigures(1, 6, 1, 1, 1, edges_kept=kept, edges_taught=0.8, edges_by_chance=0.3, uneven=None)

    assert demo_quality.structure([style(0.8)])["of_teachers"] == 1
    assert demo_quality.structure([style(0.3)])["of_teachers"] == 0
    assert demo_quality.structure([style(0.5), style(0.6)]) == {
        "kept": 0.55,
        "teachers": 0.8,
        "chance": 0.3,
        "of_teachers": 0.5,
    }


def test_flicker_beside_no_bank(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SUITES, "demo", SPECS)
    found = demo_quality.flicker(model, 10, 64, lambda text: None)
    assert found["warp_mse_1"]["n"] == 4
    assert found["static_std"]["n"] == 2
    for name in ("warp_mse_1", "warp_mse_4", "warp_mse_8", "static_std", "sharpness"):
        figures = found[name]
        assert figures["ratio"] == pytest.approx(figures["on"] / figures["off"], rel=1e-3)
        assert figures["ratio_ci95"][0] <= figures["ratio"] <= figures["ratio_ci95"][1]
