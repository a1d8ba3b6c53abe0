"""What is made of a soak's samples: growth from part to part, and of the one engine that lived long."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator

from streamv2v_obs.bench import results, soak_service, table
from streamv2v_obs.bench.fault_watch import Told
from streamv2v_obs.bench.goals import judge_all
from streamv2v_obs.bench.soak_figures import Sample, Soaked, figures, longest_life
from streamv2v_obs.errors import StreamV2VError

SPARED_S = range(600, 1200)
"""In which one engine lives on."""


def sample(
    at_s: int,
    *,
    service_grows: float = 0.0,
    engine_grows: float = 0.0,
    late: bool = False,
    threads: int = 20,
) -> Sample:
    """Growth is in MiB a minute; an engine that is started anew is as small as the first one was."""
    engine = 100 if at_s in SPARED_S else at_s // 60
    since_s = at_s - SPARED_S.start if at_s in SPARED_S else at_s % 60
    return Sample(
        at_s=float(at_s),
        service_rss_mib=130 + service_grows * at_s / 60,
        service_threads=threads,
        service_descriptors=40,
        engine_pid=engine,
        engine_rss_mib=550 + engine_grows * since_s / 60,
        engine_threads=12,
        engine_descriptors=25,
        shared_memory=2,
        age_ms_p95=300.0 + 60.0 * late,
        well=since_s > 10,
    )


def soaked(samples: list[Sample]) -> Soaked:
    told = [Told(n / 10, 3 * n if n < 9000 else 3 * n - 100, 0, 34.0) for n in range(18_000)]
    return Soaked(30, 1, samples, told=told, searched=9000)


def test_what_does_not_grow() -> None:
    found = figures(soaked([sample(at) for at in range(1800)]))
    assert found["rss_grown_mib"] == {"service": 0.0, "engine": 0.0}
    assert found["threads_grown"] == found["descriptors_grown"] == {"service": 0.0, "engine": 0.0}
    assert found["latency_drift"] == 1.0
    assert found["engines"] == 21
    assert all(check["pass"] for check in soak_service.checks(found))


def test_a_service_that_grows_by_a_mebibyte_a_minute() -> None:
    found = figures(soaked([sample(at, service_grows=1.0) for at in range(1800)]))
    # From the middle of minutes 2 to 7 to that of the last five.
    assert found["rss_grown_mib"]["service"] == pytest.approx(23, abs=0.5)
    failed = [check["name"] for check in soak_service.checks(found) if not check["pass"]]
    assert failed == ["MiB grown, service"]


def test_an_engine_that_grows_is_seen_although_it_is_started_anew_every_minute() -> None:
    found = figures(soaked([sample(at, engine_grows=3.0) for at in range(1800)]))
    assert found["rss_grown_mib"]["engine"] == pytest.approx(0, abs=0.5)
    assert found["engine_life"]["longest_s"] == SPARED_S.stop - SPARED_S.start - 1
    assert found["engine_life"]["rss_grown_mib"] == pytest.approx(3 * 7.5, abs=0.5)
    failed = [check["name"] for check in soak_service.checks(found) if not check["pass"]]
    assert failed == ["MiB grown, the engine that lived longest"]


def test_latency_that_drifts_and_threads_that_stay() -> None:
    found = figures(soaked([sample(at, late=at > 1400, threads=20 + (at > 1600)) for at in range(1800)]))
    assert found["latency_drift"] == pytest.approx(1.2)
    assert found["threads_grown"]["service"] == 1
    failed = [check["name"] for check in soak_service.checks(found) if not check["pass"]]
    assert failed == ["threads more, service", "latency p95, change from the first part to the last"]


def test_latency_that_falls_is_a_change_too() -> None:
    found = figures(soaked([sample(at, late=at < 500) for at in range(1800)]))
    assert found["latency_drift"] == pytest.approx(1 / 1.2, abs=1e-3)
    failed = [check["name"] for check in soak_service.checks(found) if not check["pass"]]
    assert failed == ["latency p95, change from the first part to the last"]


def test_the_slowest_hundredth_of_the_seconds() -> None:
    told = [Told(float(at), 30 * at - 25 * (at > 500), 0, 34.0) for at in range(1000)]
    found = Soaked(30, 1, [sample(at) for at in range(1800)], told=told)
    assert figures(found)["fps_p1"] == 30
    found.told = [
        Told(float(at), 30 * at - sum(25 for slow in range(20) if at > 40 * slow), 0, 34.0) for at in range(1000)
    ]
    assert figures(found)["fps_p1"] == 5


def test_a_stop_is_found_again() -> None:
    told = [Told(at / 10, 3 * at, int(at > 700) + 2 * (at > 900), 80.0 if at > 900 else 71.0) for at in range(18_000)]
    found = figures(Soaked(30, 1, [sample(at) for at in range(1800)], told=told))
    assert found["stops_at"] == [{"at_s": 70.1, "gap_ms": 71.0}, {"at_s": 90.1, "gap_ms": 80.0}]
    assert figures(soaked([sample(at) for at in range(1800)]))["stops_at"] == []


def test_a_soak_that_ended_before_there_was_anything_to_compare() -> None:
    found = soaked([sample(at) for at in range(100)])
    found.ended = "StreamV2VError: the service ended"
    with pytest.raises(StreamV2VError, match="0 at the end at which all was well; StreamV2VError: the service ended"):
        figures(found)


def test_without_an_engine_there_is_no_life() -> None:
    assert longest_life([])["longest_s"] == 0


def test_what_is_written_is_what_schema_goals_and_table_expect(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(soak_service, "soak", lambda *given: soaked([sample(at) for at in range(1800)]))
    path = soak_service.measure(30, 1, tmp_path, print)
    found = json.loads(path.read_text(encoding="utf-8"))
    Draft202012Validator(json.loads(results.SCHEMA.read_text(encoding="utf-8"))).validate(found)
    judged = [one for one in judge_all(tmp_path, ["reliability"]) if one.goal.file == path.name]
    assert len(judged) >= 8
    assert {one.verdict for one in judged} == {"met"}
    assert "| 30 minutes with 0 faults: memory grown, service, engine | 0.0 MiB, 0.0 MiB |" in table.block(tmp_path)
