"""The service broken in every way we know, for real, while every picture it publishes is searched for a raw one."""

from __future__ import annotations

import json
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from streamv2v_obs.bench import (
    fault_clients,
    fault_clock,
    fault_engine,
    fault_life,
    fault_obs,
    fault_pipes,
    fault_source,
    results,
)
from streamv2v_obs.bench.fault_stage import Row, Stage, base, stage
from streamv2v_obs.bench.fault_watch import search_recording
from streamv2v_obs.config import load_settings
from streamv2v_obs.errors import ConfigError

Say = Callable[[str], None]
Case = Callable[[Stage], Row]

_NAME = "faults.json"
_PLAYED_S = 0.5
"""How far the places of a recording and those of the stream may lie apart."""

# One service bears them all, one after the other; those that cost a restart stand apart, for five a minute are given.
_ON_ONE_SERVICE: dict[str, Case] = {
    "control": fault_engine.control,
    "killed": fault_engine.killed,
    "slow-client": fault_clients.slow_client,
    "killed-short-hold": fault_engine.killed_with_a_short_hold,
    "garbage": fault_clients.garbage,
    "stopped": fault_engine.stopped,
    "100-clients": fault_clients.crowd,
    "hangs": fault_engine.hangs,
    "second-instance": fault_clients.second_instance,
    "sticky": fault_engine.sticky,
    "100-silent-clients": fault_clients.silent_crowd,
    "memory": fault_engine.out_of_memory,
    "pipe": fault_pipes.engine_reads_nothing,
    "memory-at-load": fault_engine.out_of_memory_at_load,
}
_ALONE: dict[str, Callable[[], Row]] = fault_source.CASES | fault_pipes.CASES | fault_clock.CASES | fault_life.CASES


def _one_service(names: Sequence[str], say: Say) -> Iterator[tuple[str, Row]]:
    """The faults that one service bears, and then its recording, which holds every picture that was published."""
    with tempfile.TemporaryDirectory() as name:
        recording = Path(name) / "show.mp4"
        bypassed: list[Row] = []
        with stage(base(Path(name))) as opened:
            for case in names:
                row = _ON_ONE_SERVICE[case](opened)
                say(str(row))
                bypassed += [row] if case == "control" else []
                yield case, row
            output = next(one for one in opened.status["publish"]["outputs"] if one["kind"] == "recording")
        row = _of_recording(recording, bool(bypassed), int(output["dropped"]))
        say(str(row))
        yield "recording", row


def _of_recording(path: Path, bypassed: bool, dropped: int) -> Row:
    seen = search_recording(path)
    raw = [one.at for one in seen if one.raw]
    # With BYPASS there is one stretch of raw pictures, as long as it lasted.
    stretches = sum(later - before > _PLAYED_S for before, later in pairwise(raw)) + bool(raw)
    wrong = [
        *([f"{stretches} stretches of raw pictures"] if stretches != int(bypassed) else []),
    ]
    return Row(
        fault="all of these, as recorded",
        showed=f"a recording of {seen[-1].at:.0f} s, of every picture published" if seen else "nothing",
        slate_s=None,
        recovered_s=None,
        lost="nothing" if not dropped else f"{dropped} pictures that came too fast for the encoder",
        gap_ms=0.0,
        gap_intervals=0.0,
        stops=0,
        published=len(seen),
        searched=len(seen),
        raw=0 if bypassed and stretches == 1 else len(raw),
        score_max=round(max((one.score for one in seen if not one.raw), default=0.0), 3),
        passed=not wrong,
        said="; ".join(wrong),
    )


def _each_alone(names: Sequence[str], say: Say) -> Iterator[tuple[str, Row]]:
    """Faults that need a service of their own; what cannot be struck here is said and left out."""
    for name in names:
        try:
            row = _ALONE[name]()
        except (OSError, ImportError, subprocess.CalledProcessError) as error:
            say(f"NOT MEASURED, {name}: {error}")
            continue
        say(str(row))
        yield name, row


Run = Callable[[Sequence[str], Say], Iterator[tuple[str, Row]]]
GROUPS: dict[str, tuple[Sequence[str], Run]] = {
    "service": (tuple(_ON_ONE_SERVICE), _one_service),
    "source": (tuple(fault_source.CASES), _each_alone),
    "pipes": (tuple(fault_pipes.CASES), _each_alone),
    "clock": (tuple(fault_clock.CASES), _each_alone),
    "life": (tuple(fault_life.CASES), _each_alone),
    "obs": (tuple(fault_obs.CASES), fault_obs.rows),
}


def measure(out: Path, only: Sequence[str], say: Say) -> Path:
    """Run the faults named in ``only`` (none: all), and write what came of them.

    Rows of the same commit that stand in the file already are kept, so that it may be made in pieces.
    """
    known = [name for names, _ in GROUPS.values() for name in (*names,)]
    for name in only:
        if name not in known and name not in GROUPS:
            raise ConfigError(f"--only {name}: allowed are {', '.join([*GROUPS, *known])}")
    path = out / _NAME
    load_before = results.load_now()
    found: dict[str, dict[str, Any]] = _kept(path)
    for group, (names, run) in GROUPS.items():
        wanted = [name for name in names if not only or name in only or group in only]
        if wanted:
            found |= {name: row.as_dict() for name, row in run(wanted, say)}
    settings = load_settings(None, ["capture.kind=pattern", "model.name=demo"])
    checks = [
        {"name": row["fault"], "pass": row["passed"], **({"value": row["said"]} if row["said"] else {})}
        for row in found.values()
    ]
    results.write(
        path,
        "soak",
        command=results.command_line(),
        env=results.environment("cpu", load_before),
        config=results.demo_configuration(settings),
        protocol={
            "warmup_frames": 0,
            "timed_frames": sum(row["published"] for row in found.values()),
            "repeats": 1,
            "timer": "wall-clock-published",
            "input": "test pattern with a watermark",
            "source_fps": settings.capture.fps,
            "sink": "browser, recording",
            "includes": [*results.TIMED, "publish"],
        },
        results={"faults": found, "reliability": figures(found)},
        checks=checks,
        notes="Times count from the blow. gap is the longest from one published picture to the next in the time of a "
        "fault or the five seconds before; a stop is one of more than two intervals. searched are pictures that were "
        "decoded and correlated with the input's watermark; raw are those that carry it. The control shows raw "
        "pictures on purpose and is not counted among them.",
    )
    return path


def _kept(path: Path) -> dict[str, dict[str, Any]]:
    if not path.is_file():
        return {}
    before = json.loads(path.read_text(encoding="utf-8"))
    return dict(before["results"]["faults"]) if before["git"]["commit"] == results.commit() else {}


def figures(found: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """What the goals are about, over all rows."""
    broken = {name: row for name, row in found.items() if name != "control"}
    engine = [row for name, row in broken.items() if name in fault_engine.CASES]
    times = [row["recovered_s"] for row in engine if row["recovered_s"] is not None]
    figures: dict[str, Any] = {
        "faults": len(broken),
        "failed": sum(not row["passed"] for row in found.values()),
        "searched": sum(row["searched"] for row in broken.values()),
        "raw": sum(row["raw"] for row in broken.values()),
        "control_raw": found["control"]["raw"] if "control" in found else 0,
        "stops": sum(row["stops"] for row in found.values()),
        "gap_intervals": max((row["gap_intervals"] for row in found.values()), default=0.0),
    }
    if times and len(times) == len(engine):
        figures["engine_recovery_s"] = max(times)
    if "killed" in found and found["killed"]["slate_s"] is not None:
        figures["killed_slate_s"] = found["killed"]["slate_s"]
    if "obs-killed" in found and found["obs-killed"]["recovered_s"] is not None:
        figures["obs_link_s"] = found["obs-killed"]["recovered_s"]
    return figures
