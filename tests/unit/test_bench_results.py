"""What measurements write: the committed schema holds it, the statistics are right, README says what it says."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from jsonschema import Draft202012Validator, ValidationError

from streamv2v_obs.bench import live, results, table
from streamv2v_obs.errors import ConfigError
from streamv2v_obs.settings import BankSettings, FusionSettings, Settings, TranslatorSettings


@pytest.fixture(scope="module")
def schema() -> Draft202012Validator:
    found = json.loads(results.SCHEMA.read_text(encoding="utf-8"))
    Draft202012Validator.check_schema(found)
    return Draft202012Validator(found)


def seen_service() -> live.Watched:
    """Three seconds of a service of 30 fps whose translator makes 10, as its status would tell them."""
    statuses = []
    for second in range(4):
        engine = {"translated": 10 * second, "captured": 30 * second, "dropped": 20 * second, "steps": 2}
        ages: dict[str, float] = {f"content_age_ms_{name}": 100.0 + second for name in ("p50", "p95", "p99")}
        counts = {"published": 30 * second, "repeated": 20 * second, "jitter_ms_p99": 1.5}
        statuses.append({"engine": engine, "publish": counts | ages})
    return live.Watched(
        slate_s=1.0,
        translated_s=7.0,
        statuses=statuses,
        at=[5.0, 6.0, 7.5, 8.0],
        changed_at=[5.0, 5.1, 5.4],
        rss_mib={"service": 90.0, "engine": 500.0},
        cpu_share={"service": 0.1, "engine": 1.5},
    )


def written(path: Path, **changes: Any) -> dict[str, Any]:
    """A pipeline result as ``bench.live`` writes it."""
    what: dict[str, Any] = {
        "command": "streamv2v-obs bench live",
        "env": results.environment("cpu", results.load_now(), 2),
        "config": results.configuration(
            Settings(), model="demo", dtype="bfloat16", schedule="stream", width=256, height=256
        ),
        "protocol": {
            "warmup_frames": 1,
            "timed_frames": 30,
            "repeats": 1,
            "timer": "wall-clock-published",
            "input": "test pattern",
        },
        "results": live.figures(seen_service()),
        "checks": [results.check("fps", 15, 30)],
        "notes": "",
    }
    results.write(path, "pipeline", **(what | changes))
    return dict(json.loads(path.read_text(encoding="utf-8")))


def test_what_is_written_is_what_the_schema_describes(tmp_path: Path, schema: Draft202012Validator) -> None:
    found = written(tmp_path / "deeper" / "live.json")
    schema.validate(found)
    assert len(found["git"]["commit"]) == 40
    assert found["env"]["cpu"]["model"]
    assert len(found["config"]["weights_sha256"]) == 64
    with pytest.raises(ValidationError):
        schema.validate(found | {"kind": "guess"})
    with pytest.raises(ValueError, match="not JSON compliant"):
        written(tmp_path / "nan.json", results={"fps_steady": float("nan")})


def test_every_committed_result_is_what_the_schema_describes(schema: Draft202012Validator) -> None:
    for path in results.RESULTS.glob("*.json"):
        errors = [error.message for error in schema.iter_errors(json.loads(path.read_text(encoding="utf-8")))]
        assert not errors, f"{path.name}: {errors}"


def test_figures_of_a_run_follow_from_its_statuses() -> None:
    found = live.figures(seen_service())
    assert found["fps_repeats"] == [30, 20, 60], "each second is as long as it was"
    assert (found["fps_steady"], found["fps_min"], found["distinct_fps"]) == (30, 20, 10)
    assert found["frames"] == {"captured": 90, "processed": 30, "published": 90, "dropped": 60, "repeated": 60}
    assert found["latency_ms"]["content_age"] == {"n": 90, "p50": 101.5, "p95": 103, "p99": 103}
    assert found["jitter_ms"]["longest_freeze"] == pytest.approx(300)


def test_a_configuration_names_no_fusion_where_there_is_none() -> None:
    def bank_of(bank: BankSettings, fusion: float) -> dict[str, Any]:
        translator = TranslatorSettings(bank=bank, fusion=FusionSettings(strength=fusion))
        found = results.configuration(
            Settings(translator=translator), model="demo", dtype="float32", schedule="stream", width=64, height=64
        )
        return dict(found["bank"])

    assert bank_of(BankSettings(kind="off"), 0.8) == {"kind": "off"}
    assert bank_of(BankSettings(kind="queue", length=4), 0) == {
        **{"kind": "queue", "size": 4, "interval": 4},
        **{"ea": True, "ff": False},
    }
    assert bank_of(BankSettings(), 0.8)["ff"] is True


def test_spread_and_ratio_against_numbers_known_beforehand() -> None:
    found = results.spread(list(range(101)))
    assert (found["n"], found["min"], found["p50"], found["p90"], found["p99"], found["max"]) == (
        101,
        0,
        50,
        90,
        99,
        100,
    )
    random = np.random.default_rng(1)
    busy = 1 + random.exponential(0.5, 400)  # a neighbour that slows both of a pair alike
    ratio, (low, high) = results.ratio_of_medians(
        list(1.2 * busy * random.normal(1, 0.02, 400)), list(busy * random.normal(1, 0.02, 400))
    )
    assert low < 1.2 < high
    assert low <= ratio <= high
    assert high - low < 0.06
    assert results.ratio_of_medians([2.0] * 5, [1.0] * 5) == (2, [2, 2])


def test_a_goal_is_a_floor_or_a_ceiling() -> None:
    assert results.check("fps", 15, 15.0)["pass"]
    assert not results.check("fps", 15, 14.9)["pass"]
    assert results.check("ratio", 1.25, 1.2, at_most=True)["pass"]
    assert not results.check("ratio", 1.25, 1.3, at_most=True)["pass"]


def test_a_command_is_told_without_its_password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["x", "bench", "--set", "obs.password=a b", "--set", "translator.prompt=a b"])
    found = results.command_line()
    assert found == "streamv2v-obs bench --set 'obs.password=***' --set 'translator.prompt=a b'"


def test_a_stream_is_cut_into_pictures_wherever_its_chunks_end() -> None:
    sent = b"--x\r\n" + b"".join(
        b"Content-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n%s\r\n--x\r\n" % (len(jpeg), jpeg)
        for jpeg in (b"one", b"\r\n\r\n", b"three")
    )
    for size in (1, 7, len(sent)):
        buffer, found = b"", []
        for at in range(0, len(sent), size):
            buffer += sent[at : at + size]
            while (part := live.whole_picture(buffer)) is not None:
                found.append(part.data)
                buffer = buffer[part.stop :]
        assert found == [b"one", b"\r\n\r\n", b"three"]


# --- README's figures -----------------------------------------------------------------------------------------


def test_every_row_names_figure_configuration_and_hardware(tmp_path: Path) -> None:
    found = written(tmp_path / "live.json")
    shown, _, folded = table.block(tmp_path).partition("<details>")
    lines = [line for line in (*shown.splitlines(), *folded.splitlines()) if line.startswith("| ")]
    assert len(lines) > 4
    assert [line for line in shown.splitlines() if line.startswith("| ")] == lines[:2]
    for line in (one for one in lines if not one.startswith("| what |")):
        assert line.count("|") == 5
        assert found["env"]["cpu"]["model"] in line
        assert "demo model, 256x256, 2 steps, bank dyme every 4, bf16" in line
    assert "30.0 fps (20.0 fps)" in lines[1]
    assert table.block(tmp_path / "nothing") == "No measurement has been committed yet."


def test_only_what_stands_between_the_markers_changes() -> None:
    readme = f"# Title\n{table.BEGIN}\nold\n{table.END}\nrest\n"
    assert table.filled(readme, "new") == f"# Title\n{table.BEGIN}\nnew\n{table.END}\nrest\n"
    for broken in ("no markers", f"{table.END}{table.BEGIN}", readme + readme):
        with pytest.raises(ConfigError, match="needs the markers"):
            table.filled(broken, "new")


def test_readme_says_what_the_committed_results_say() -> None:
    readme = table.README.read_text(encoding="utf-8")
    assert table.filled(readme, table.block()) == readme, "run: streamv2v-obs bench table"
    page = table.PAGE.read_text(encoding="utf-8")
    assert table.filled(page, table.faults()) == page, "run: streamv2v-obs bench table"


def test_a_mistake_is_one_line() -> None:
    command = [sys.executable, "-m", "streamv2v_obs", "bench", "live", "--set", "translator.stops=2"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.startswith("error: --set: unknown key translator.stops; allowed: ")
    assert "Traceback" not in done.stderr
