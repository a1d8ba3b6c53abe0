"""Goals beside results: met, missed, and nobody has measured it, each said in one line."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from streamv2v_obs.bench import goals, results
from streamv2v_obs.bench.goals import Goal, figure, judge, judge_all, read_goals
from streamv2v_obs.errors import ConfigError

RESULT: dict[str, Any] = {
    "git": {"dirty": False},
    "env": {"device": {"name": "NVIDIA H200"}},
    "config": {"steps": 4},
    "results": {"frame_ms": {"p50": 12.5}, "ci95": [0.8, 0.9], "holds": {"off > ff": False}, "name": "x"},
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "one.json").write_text(json.dumps(RESULT), encoding="utf-8")
    return tmp_path


def goal(**changes: Any) -> Goal:
    return Goal.model_validate(
        {"id": "g", "what": "w", "file": "one.json", "figure": "results.frame_ms.p50", "at_most": 20} | changes
    )


def test_a_figure_is_found_by_its_path() -> None:
    assert figure(RESULT, "results.ci95.1") == 0.9
    assert figure(RESULT, "results.holds.off > ff") is False
    for missing in ("results.ci95.2", "results.frame_ms.p99", "results.name.first"):
        with pytest.raises(KeyError):
            figure(RESULT, missing)


@pytest.mark.parametrize(
    ("changes", "verdict", "said"),
    [
        ({"unit": "ms"}, "met", "12.5 ms"),
        ({"at_most": 12}, "missed", "12.5"),
        ({"at_most": None, "at_least": 12.5}, "met", "12.5"),
        ({"at_most": None, "at_least": 13}, "missed", "12.5"),
        ({"target": 14}, "met", "12.5, the target too"),
        ({"target": 10}, "met", "12.5, target 10"),
        ({"at_most": None, "is": True, "figure": "results.holds.off > ff"}, "missed", "no"),
        ({"at_most": None, "is": False, "figure": "results.holds.off > ff"}, "met", "no"),
        ({"about": {"env.device.name": "H200", "config.steps": 4}}, "met", "12.5"),
        ({"about": {"env.device.name": "H100"}}, "no result", "is about env.device.name = NVIDIA H200, not H100"),
        ({"about": {"config.steps": 2}}, "no result", "is about config.steps = 4, not 2"),
        ({"about": {"config.bank": "dyme"}}, "no result", "does not say its config.bank"),
        ({"file": "two.json"}, "no result", "there is no two.json"),
        ({"figure": "results.frame_ms.p1"}, "no result", "one.json has no results.frame_ms.p1"),
        ({"figure": "results.name"}, "no result", "is no figure"),
    ],
)
def test_verdicts(folder: Path, changes: dict[str, Any], verdict: str, said: str) -> None:
    judged = judge("speed", goal(**changes), folder)
    assert judged.verdict == verdict
    assert said in judged.said
    assert judged.line.startswith(f"{verdict:<9} speed/g: w: ")


def test_a_result_of_uncommitted_code_says_so(folder: Path) -> None:
    (folder / "one.json").write_text(json.dumps(RESULT | {"git": {"dirty": True}}), encoding="utf-8")
    assert "uncommitted" in judge("speed", goal(), folder).said


def test_the_goals_file_is_right_and_complete() -> None:
    found = read_goals()
    assert list(found) == ["speed", "demo", "quality", "reliability", "obs"]
    ids = [f"{group}/{one.id}" for group, members in found.items() for one in members]
    assert len(ids) == len(set(ids))
    must = {one.id: one.at_most for one in found["speed"]}
    assert (must["h200-s1"], must["h200-s2"], must["h200-s4"], must["bank-ratio"]) == (8, 12, 20, 1.25)


@pytest.mark.parametrize("line", ["{id: a}", "{id: a, what: b, file: c, figure: d}", "{id: a, what: b, limit: 3}"])
def test_a_wrong_goal_is_named(tmp_path: Path, line: str) -> None:
    path = tmp_path / "goals.yaml"
    path.write_text(f"speed: [{line}]\n", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"goals\.yaml.*speed\.0"):
        read_goals(path)


def test_only_the_groups_that_are_asked_for(folder: Path) -> None:
    assert {one.group for one in judge_all(folder, ["demo"])} == {"demo"}
    assert {one.verdict for one in judge_all(folder)} == {"no result"}
    with pytest.raises(ConfigError, match="--group fun: allowed are speed, demo"):
        judge_all(folder, ["fun"])


def test_check_exits_with_1_unless_every_goal_is_met(tmp_path: Path) -> None:
    def run(*words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "streamv2v_obs", "bench", "check", "--out", str(tmp_path), *words]
        return subprocess.run(command, capture_output=True, text=True)

    done = run("--group", "reliability")
    assert done.returncode == 1
    lines = done.stdout.strip().splitlines()
    assert len(lines) == len(read_goals()["reliability"]) + 1
    assert all(line.startswith("no result reliability/") for line in lines[:-1])
    assert lines[-1] == f"0 met, 0 missed, {len(lines) - 1} no result"
    goals = read_goals()["quality"]
    for name in dict.fromkeys(one.file for one in goals):
        held = {one.figure.removeprefix("results.holds."): True for one in goals if one.file == name}
        results = {"quality": {"clips": 18}, "holds": held, "carried": {"ratio": 1.05}}
        (tmp_path / name).write_text(json.dumps({"git": {"dirty": False}, "results": results}), encoding="utf-8")
    done = run("--group", "quality", "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads(done.stdout)["counts"] == {"met": len(goals), "missed": 0, "no result": 0}
    assert run("--group", "fun").returncode == 2


def test_results_go_to_the_committed_ones_in_a_checkout_alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert results.results_folder() == results.RESULTS
    monkeypatch.setattr(results, "_ROOT", tmp_path)
    assert results.results_folder() == Path("bench-results")
    assert goals.GOALS.is_file()
