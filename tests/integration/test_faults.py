"""Faults as the measurement strikes them, on the real service: the few that every run of the tests can afford.

Timing is the measurement's affair, on a quiet machine; here the promises are held that no load excuses.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from streamv2v_obs.bench import fault_clients, fault_clock, fault_engine, fault_life, fault_pipes
from streamv2v_obs.bench.fault_stage import Row, Stage, base, stage
from streamv2v_obs.bench.fault_watch import search_recording
from tests.conftest import Require


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("show")


@pytest.fixture(scope="module")
def service(folder: Path) -> Iterator[Stage]:
    with stage(base(folder)) as running:
        running.patience_s = 120
        yield running


def went_on(row: Row) -> bool:
    """The outputs published all the while, and nothing raw."""
    return row.raw == 0 and row.published > 0 and row.searched > 0


def test_the_search_finds_what_is_raw_and_bypass_is_said_aloud(service: Stage) -> None:
    row = fault_engine.control(service)
    assert row.raw > 0
    assert "log does not say" not in row.said


def test_a_killed_engine(service: Stage) -> None:
    row = fault_engine.killed(service)
    assert went_on(row)
    assert row.slate_s is not None
    assert row.slate_s <= 4, row.showed
    assert row.recovered_s is not None, row.said
    assert "not in force" not in row.said


def test_an_inference_that_never_returns(service: Stage) -> None:
    row = fault_engine.hangs(service)
    assert went_on(row)
    assert row.slate_s is not None
    assert row.recovered_s is not None, row.said
    assert "was silent" in service.said


def test_an_engine_without_memory(service: Stage) -> None:
    row = fault_engine.out_of_memory(service)
    assert went_on(row)
    assert row.recovered_s is not None, row.said
    assert "lower model.width and model.height" in service.said, "said plainly, by the error that is ours"


def test_an_engine_that_reads_no_commands_and_the_next_without_memory_for_the_model(service: Stage) -> None:
    row = fault_pipes.engine_reads_nothing(service)
    assert went_on(row)
    assert "an answer took" not in row.said
    assert row.recovered_s is not None, row.said
    row = fault_engine.out_of_memory_at_load(service)
    assert went_on(row)
    assert row.recovered_s is not None, row.said
    assert "not loaded anew" not in row.said


def test_garbage_in_the_settings_file(service: Stage) -> None:
    row = fault_clients.garbage(service)
    assert went_on(row)
    assert row.slate_s is None, row.showed
    assert "log does not say" not in row.said


def test_a_hundred_clients(service: Stage) -> None:
    row = fault_clients.crowd(service)
    assert went_on(row)
    assert row.slate_s is None, row.showed
    assert "neither pictures nor a refusal" not in row.said


def test_a_log_that_nobody_reads_stops_no_picture() -> None:
    row = fault_pipes.nobody_reads_the_log()
    assert went_on(row)
    assert "the pipe was not full" not in row.said
    assert row.recovered_s is not None, row.said


def test_a_service_whose_processes_are_all_killed_leaves_nothing_to_the_next_one() -> None:
    row = fault_life.all_killed_and_started_anew()
    assert row.passed, row.said


def test_a_port_that_another_program_has() -> None:
    row = fault_life.port_taken()
    assert row.passed, row.said


def test_a_clock_that_is_set(require: Require) -> None:
    obstacle = fault_clock.obstacle()
    require("faketime", not obstacle, obstacle)
    row = fault_clock.clock_is_set()
    assert went_on(row)
    assert row.slate_s is None, row.showed
    assert "did not jump" not in row.said
    assert "the engine was started anew" not in row.said


def test_a_machine_that_slept_finds_its_engine_in_order(service: Stage) -> None:
    """All of it stands for longer than an engine may be silent, and goes on: nobody was silent, nobody listened."""
    service.wait(lambda: bool((service.status["engine"] or {}).get("translated")))
    before = service.status
    engine, outside = service.engine(), psutil.Process(service.process.pid)
    outside.suspend()
    engine.suspend()
    time.sleep(8)
    engine.resume()
    outside.resume()
    assert service.wait(lambda: service.state == "TRANSLATED")
    time.sleep(1)
    after = service.status
    assert (after["engine_pid"], after["engine_restarts"]) == (before["engine_pid"], before["engine_restarts"])


def test_what_was_recorded_of_all_this(service: Stage, folder: Path) -> None:
    seen = search_recording(folder / "show.mp4")
    raw = [one.at for one in seen if one.raw]
    assert len(seen) > 300
    assert raw, "BYPASS was on for a while"
    assert max(raw) - min(raw) < 5, "and never again"
