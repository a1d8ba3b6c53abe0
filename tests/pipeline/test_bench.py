"""Every measurement, run for a moment over a small model: the schema describes its file, its figures fit together."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pytest
import torch
from jsonschema import Draft202012Validator

from streamv2v_obs.bench import (
    arithmetic,
    behaviour,
    cold_start,
    comparison,
    gpu,
    memory,
    results,
    shapes,
    table,
    throughput,
)
from streamv2v_obs.bench.cpu_demo import backends, cell_figures, headline_figures, measure_cell
from streamv2v_obs.bench.models import sd15_unet, taesd
from streamv2v_obs.bench.subject import Subject
from streamv2v_obs.bench.throughput import Effort
from streamv2v_obs.bench.timing import Arm, take_turns
from streamv2v_obs.errors import ConfigError
from streamv2v_obs.settings import ModelSettings
from streamv2v_obs.translator.loading import Model, load_model
from streamv2v_obs.translator.merging import partitions
from tests.rigs.latents import attentive_unet
from tests.rigs.tiny_models import tiny_taesd
from tests.rigs.tiny_subject import tiny_subject

EFFORT = Effort(frames=8, repeats=1, window=4, windows=1)


@pytest.fixture(scope="module")
def subject() -> Subject:
    return tiny_subject()


@pytest.fixture(scope="module")
def schema() -> Draft202012Validator:
    return Draft202012Validator(json.loads(results.SCHEMA.read_text(encoding="utf-8")))


def quiet(_: str) -> None:
    pass


MEASUREMENTS: dict[str, Callable[[Subject, Path], Path]] = {
    "pipeline": lambda s, out: throughput.pipeline(s, EFFORT, out, quiet),
    "bank": lambda s, out: throughput.bank(s, EFFORT, out, quiet),
    "compare": lambda s, out: comparison.compare(s, EFFORT, out, quiet),
    "latency": lambda s, out: behaviour.latency(s, 30, 0.5, 4, out, quiet),
    "soak": lambda s, out: behaviour.soak(s, 24, 3, 4, out, quiet),
    "prompt-switch": lambda s, out: behaviour.prompt_switch(s, 2, 4, 4, out, quiet),
}


@pytest.fixture(scope="module")
def measured(subject: Subject, tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    torch.set_num_threads(1)
    out = tmp_path_factory.mktemp("results")
    paths = {kind: measure(subject, out) for kind, measure in MEASUREMENTS.items()}
    assert all(path.name == f"{kind}_cpu_sd15_s2.json" for kind, path in paths.items())
    return {kind: json.loads(path.read_text(encoding="utf-8")) for kind, path in paths.items()}


@pytest.mark.parametrize("kind", MEASUREMENTS)
def test_a_result_is_what_the_schema_describes_and_readme_can_show_it(
    kind: str, measured: dict[str, dict[str, Any]], schema: Draft202012Validator, tmp_path: Path
) -> None:
    found = measured[kind]
    assert not [error.message for error in schema.iter_errors(found)]
    assert found["kind"] == kind
    assert found["config"]["weights"] == "random"
    (tmp_path / "one.json").write_text(json.dumps(found), encoding="utf-8")
    lines = [row for row in table.block(tmp_path).splitlines() if row.startswith("| ") and row != table.HEAD_ROW]
    assert lines
    assert all("sd15 model, 64x64, 2 steps, bank dyme every 4, fp32" in line for line in lines)


def test_figures_hang_together(subject: Subject, measured: dict[str, dict[str, Any]], tmp_path: Path) -> None:
    found = measured["pipeline"]["results"]
    assert found["frame_ms_update"]["n"] + found["frame_ms_noupdate"]["n"] == found["frame_ms"]["n"] == 8
    assert found["latency_ms"]["algorithmic_frames"] == 1
    assert found["stages_ms"]["encode_decode"]["p50"] >= found["stages_ms"]["encode"]["min"]
    banks = measured["bank"]["results"]["arms"]
    assert banks["off"]["ratio"] == 1
    assert banks["off"]["bank_mib"] == 0 < banks["queue 1"]["bank_mib"] < banks["queue 4"]["bank_mib"]
    few = throughput.bank(subject, EFFORT, tmp_path, quiet, queues=False).read_text(encoding="utf-8")
    assert set(json.loads(few)["results"]["arms"]) == {"off", "dyme"}
    seen = measured["latency"]["results"]
    assert set(seen["schedules"]) == {"stream", "sequential"}
    assert seen["frames"]["captured"] == 15 == seen["frames"]["processed"] + seen["frames"]["dropped"]
    # A stream batch shows what was captured a frame earlier, one step at a time what was captured now.
    ages = {name: entry["latency_ms"]["content_age"]["min"] for name, entry in seen["schedules"].items()}
    assert all(age > 0 for age in ages.values())
    memory = measured["soak"]["results"]["memory"]
    assert [entry["frame"] for entry in memory["series"]] == [0, 8, 16, 24]
    switch = measured["prompt-switch"]["results"]["prompt_switch"]
    assert (switch["frames_until_new"], switch["recompiles"]) == (2, 0)


def test_the_published_order_of_operations_paints_the_same_pictures(measured: dict[str, dict[str, Any]]) -> None:
    told = measured["compare"]["results"]["compare"]
    assert told["psnr_db"] > 60
    assert told["max_grey_levels"] <= 1


def test_openvino_computes_no_rung_and_no_arm(
    subject: Subject, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    class Enough(Exception):
        """What is opened first tells."""

    def opened(settings: ModelSettings) -> NoReturn:
        asked.append(settings.backend)
        raise Enough

    def alike(subject: Subject, *_: object) -> NoReturn:
        asked.append(subject.model.backend)
        raise Enough

    monkeypatch.setattr(throughput, "open_model", opened)
    monkeypatch.setattr(comparison, "pictures_alike", alike)
    assert subject.model.backend == "auto"
    for measure in (throughput.ladder, comparison.compare):
        with pytest.raises(Enough):
            measure(subject, EFFORT, tmp_path, quiet)
    assert asked == ["torch", "torch"]


def test_a_cold_start_is_torch_s(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    asked: list[str] = []

    def load(settings: ModelSettings) -> Model:
        asked.append(settings.backend)
        return load_model(settings.model_copy(update={"width": 64, "height": 64}))

    monkeypatch.setattr("streamv2v_obs.translator.loading.load_model", load)
    cold_start.main(steps=1)
    assert asked == ["torch"]
    assert set(json.loads(capsys.readouterr().out)) == {"import_s", "load_s"}


def test_every_prompt_that_is_switched_to_is_encoded(
    subject: Subject, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoded: list[str] = []
    encode = subject.model.text.encode

    def noted(prompt: str) -> torch.Tensor:
        encoded.append(prompt)
        return encode(prompt)

    monkeypatch.setattr(subject.model.text, "encode", noted)
    behaviour.prompt_switch(subject, 6, 4, 1, tmp_path, quiet)
    assert len(encoded) == len(set(encoded)) == 1 + 6, "the one at the beginning, and each switch's"


def test_the_reference_can_be_told_apart() -> None:
    """Else the comparison above could not fail: other partitions are other pictures."""
    subject = tiny_subject()
    settings = subject.translator(schedule="stream", bank={"interval": 1, "partition": "random"})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(comparison, "partitions", lambda how, seed, *rest: partitions(how, seed + 1, *rest))
        other, _ = comparison.pictures_alike(subject, settings, 6)
    same, _ = comparison.pictures_alike(subject, settings, 6)
    assert other < same - 10


def test_compare_refuses_what_was_never_published() -> None:
    with pytest.raises(ConfigError, match=r"translator\.bank\.kind=dyme"):
        comparison.compare(tiny_subject(bank={"kind": "queue"}), EFFORT, Path(), quiet)


def test_the_ladder_has_the_rungs_that_exist(
    subject: Subject, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, schema: Draft202012Validator
) -> None:
    monkeypatch.setattr(throughput, "open_model", lambda settings: (tiny_subject().model, "random"))
    found = json.loads(throughput.ladder(subject, EFFORT, tmp_path, quiet).read_text(encoding="utf-8"))
    assert not [error.message for error in schema.iter_errors(found)]
    rungs = found["results"]["rungs"]
    names = ["float32", "joined qkv", "cached prompt", "cached time", "late update", "channels_last"]
    assert [rung["name"] for rung in rungs] == names
    assert [rung["path"] for rung in rungs] == ["plain", *(", ".join(names[1 : n + 1]) for n in range(1, 6))]
    assert rungs[0]["gain"] == 1


def test_arithmetic_is_counted_and_not_computed(tmp_path: Path, schema: Draft202012Validator) -> None:
    with shapes.META:
        unet = attentive_unet().half()
    found = json.loads(arithmetic.measure(2, 64, tmp_path, quiet, unet).read_text(encoding="utf-8"))
    assert not [error.message for error in schema.iter_errors(found)]
    arms = found["results"]["arms"]
    assert arms["off"]["update_gflop"] == 0
    assert arms["off"]["frame_gflop"] <= arms["ea"]["frame_gflop"] <= arms["dyme"]["frame_gflop"]
    assert found["results"]["bank_overhead"]["ratio_flops"] >= 1
    layer = torch.zeros((3, 4), device="meta"), torch.zeros((4, 5), device="meta")
    assert arithmetic.counted(lambda: layer[0] @ layer[1]) == (2 * 3 * 4 * 5 / 1e9, 1)


def test_what_computes_or_copies_is_a_launch_and_nothing_else_is() -> None:
    def count(work: Callable[[], object]) -> int:
        with shapes.Launches() as launched:
            work()
        return int(launched.count)

    functional = torch.nn.functional
    with torch.inference_mode():
        wide, weight, bias = torch.zeros(1, 3, 4, dtype=torch.float16), torch.zeros(5, 4), torch.zeros(5)
        full = wide.float()
        heads = torch.zeros(1, 2, 3, 8)
        assert count(wide.float) == 1
        assert count(wide.mT.contiguous) == 1
        assert count(lambda: wide.mT.reshape(12)) == 1
        assert count(lambda: functional.linear(full, weight, bias)) == 1
        assert count(lambda: functional.scaled_dot_product_attention(heads, heads, heads)) == 1
        assert count(lambda: (wide.half(), wide.contiguous(), wide.view(12), wide.mT)) == 0
        assert count(lambda: functional.dropout(wide, 0.5, training=False)) == 0
        assert count(lambda: (torch.empty(3), torch.empty_like(wide))) == 0


def test_on_a_gpu_the_ladder_has_every_rung_in_order(subject: Subject) -> None:
    class OnCuda:
        device = torch.device("cuda")
        dtype = torch.float16

    def names(compiling: bool) -> list[str]:
        wished = dataclasses.replace(subject, model=OnCuda())  # type: ignore[arg-type]
        return [rung.name for rung in throughput.rungs(wished, compiling=compiling)]

    climbed = [
        *(
            "float32",
            "half precision",
            "joined qkv",
            "cached prompt",
            "cached time",
            "late update",
            "pinned",
            "graphs",
        ),
        *("channels_last", "direct keys", "compile", "fused activations", "fused norms", "folded output"),
        *("attention a level", "padded heads"),
    ]
    compiled = {"compile", "fused activations", "fused norms", "folded output"}
    assert names(compiling=True) == climbed
    assert names(compiling=False) == [name for name in climbed if name not in compiled]


def alone(code: str) -> str:
    """What ``code`` prints, in a process of its own: counting tears the compiler down half-way, and torch with it."""
    command = [sys.executable, "-W", "ignore", "-c", code]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", timeout=560)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


FUSED = """
import json, torch
from streamv2v_obs.bench import launches
from streamv2v_obs.translator.rungs import Rungs
rungs = Rungs(False, True, False, late_update=True)
rows, weights, out, found = torch.ones(4, 8), torch.ones(8, 8), torch.zeros(4, 8), []
def work():
    out.copy_(torch.relu(rows @ weights + 1) * 2)
with torch.no_grad():
    try:
        launches.counting(found, rungs)(work)()
    except launches.Counted:
        print(json.dumps(found))
"""
SMALL = """
import sys
from pathlib import Path
from streamv2v_obs.bench import launches
from tests.rigs.latents import attentive_unet
from tests.rigs.tiny_models import tiny_taesd
print(launches.measure(2, 64, Path({out!r}), lambda _: None, lambda: (attentive_unet(), tiny_taesd())))
"""


@pytest.mark.timeout(600)
def test_what_is_fused_is_one_launch() -> None:
    assert json.loads(alone(FUSED)) == [{"library: matrix product": 1, "loop: activation of the autoencoder": 1}]


@pytest.mark.timeout(600)  # the compiler takes half a minute of a core, which others may want at the same time
def test_launches_are_counted_on_the_graph(tmp_path: Path, schema: Draft202012Validator) -> None:
    found = json.loads(Path(alone(SMALL.format(out=str(tmp_path)))).read_text(encoding="utf-8"))
    assert not [error.message for error in schema.iter_errors(found)]
    ours, bare = (found["results"]["arms"][name] for name in ("ours", "no rung"))
    assert 0 < ours["compiled"] < ours["eager"] < bare["eager"]
    assert ours["compiled"] == sum(ours["compiled_parts"].values())
    fused = found["results"]["arms"]["fused"]
    assert fused["compiled"] < ours["compiled"]
    assert found["results"]["launches"]["compiled"] == fused["compiled"]
    assert fused["compiled_parts"]["library: group normalisation, our kernel"] > 0
    (tmp_path / "one.json").write_text(json.dumps(found), encoding="utf-8")
    assert "launches a frame" in table.block(tmp_path)


def test_memory_is_counted_by_what_takes_it(tmp_path: Path, schema: Draft202012Validator) -> None:
    def small() -> tuple[Any, Any]:
        return attentive_unet(), tiny_taesd()

    found = json.loads(memory.measure(tmp_path, quiet, (64,), small).read_text(encoding="utf-8"))
    assert not [error.message for error in schema.iter_errors(found)]
    fits = found["results"]["fits"]
    assert set(fits) == {f"64 s{steps} {bank}" for steps in (1, 2, 4) for bank in ("dyme", "off")}
    assert fits["64 s4 off"]["bank_gib"] == 0
    assert found["results"]["memory"]["grown_bytes"] == 0
    peak = memory.Peak()
    with peak:
        first = torch.zeros(1000)
        del first
        second = torch.zeros(500)
        third = second.view(5, 100) + 1  # a view holds nothing of its own
    assert peak.bytes == 4000
    assert third.shape == (5, 100)


def test_arms_take_turns_forwards_and_back() -> None:
    order: list[str] = []

    class Noted(Arm):
        def run(self, frames: int) -> list[float]:
            order.extend(self.name * frames)
            return [1.0] * frames

    arms = [Noted(name, None, iter(()), lambda: None) for name in "ABC"]  # type: ignore[arg-type]
    take_turns(arms, 1)
    assert "".join(order) == "ABCCBA"
    assert [arm.blocks_ms for arm in arms] == [[1.0]] * 3


def test_a_cell_of_the_cpu_grid(subject: Subject) -> None:
    arms, described = measure_cell(subject.model, 64, 2, seconds=0, rounds=2)
    assert [arm.name for arm in arms] == ["on", "off"]
    assert "64x64" in described or "photograph" in described
    cell = cell_figures(arms)
    assert cell["frame_ms"]["n"] == 16
    assert cell["fps"] == pytest.approx(1000 / cell["frame_ms"]["mean"], rel=0.01)
    headline = headline_figures(arms)
    assert headline["bank_overhead"]["ratio"] == cell["ratio"]
    assert len(headline["fps_repeats"]) == 2
    assert "torch" in backends()


def test_a_slope_is_found_with_its_interval() -> None:
    noise = np.random.default_rng(0).normal(0, 1, 50)
    frames = list(range(0, 5000, 100))
    rise, (low, high) = behaviour.slope(frames, list(3.0 * np.array(frames) + noise))
    assert low < rise < high
    assert rise == pytest.approx(3, abs=0.001)
    # By hand: sigma / (sqrt(n) times the spread of x) is 1 / (7.07 * 1443).
    assert high - low == pytest.approx(2 * 1.96 / (50**0.5 * 1443), rel=0.2)
    flat, (low, high) = behaviour.slope(frames, [7.0] * 50)
    assert (flat, low, high) == (0, 0, 0)


# --- the GPU script, on a CPU ---------------------------------------------------------------------------------


def test_the_gpu_script_runs_piece_by_piece_and_goes_on_after_a_failure(
    subject: Subject, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, schema: Draft202012Validator
) -> None:
    said: list[str] = []
    run = gpu.Run(subject, tmp_path, said.append, scale=0.01, ends_at=time.monotonic())

    def broken(_: gpu.Run) -> None:
        raise RuntimeError("no such kernel")

    monkeypatch.setitem(gpu.PIECES, "compare", broken)
    monkeypatch.setattr(throughput, "open_model", lambda settings: (tiny_subject().model, "random"))
    assert gpu.run_pieces(run, ["compare", "ladder", "prompt-switch", "soak", "compiled"]) == ["compare"]
    written = sorted(path.name for path in tmp_path.iterdir())
    assert written == ["ladder_cpu_sd15_s4.json", "prompt-switch_cpu_sd15_s4.json", "soak_cpu_sd15_s1.json"]
    for path in tmp_path.iterdir():
        found = json.loads(path.read_text(encoding="utf-8"))
        assert not [error.message for error in schema.iter_errors(found)]
    assert any("what the time left allows" in line for line in said)
    assert any("compiled: left out, 0 s are left" in line for line in said)
    with pytest.raises(ConfigError, match="--only speed: allowed are pipeline, bank"):
        gpu.run_pieces(run, ["speed"])


def test_the_gpu_script_says_in_one_line_that_there_is_no_gpu(tmp_path: Path) -> None:
    if torch.cuda.is_available():
        pytest.skip("NOT TESTED where there is a GPU: what the GPU script says where there is none")
    command = [sys.executable, "-m", "streamv2v_obs.bench.gpu", "--out", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.strip().splitlines()[-1].startswith("error: model.device: cuda is asked for, but ")


def test_the_architecture_is_stable_diffusion_s() -> None:
    with shapes.META:
        unet, coder = sd15_unet(), taesd()
    assert sum(parameter.numel() for parameter in unet.parameters()) == 859_520_964
    assert sum(parameter.numel() for parameter in coder.parameters()) == pytest.approx(2.45e6, rel=0.01)
