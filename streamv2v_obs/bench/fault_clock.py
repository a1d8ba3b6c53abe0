"""Faults of time: the machine's clock is set while the service runs, and the whole machine sleeps."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory

import psutil

from streamv2v_obs.bench.fault_stage import Row, Stage, base, stage

_LIBRARIES = ("/usr/lib/*/faketime/libfaketimeMT.so.1", "/usr/lib64/faketime/libfaketimeMT.so.1")
_SEEN_S = 1.5
"""The library looks at the file in which the clock's error stands once a second."""
_HOUR_S = 3600
_STEPS_S = (_HOUR_S, -2 * _HOUR_S, 0)
_SLEEP_S = 8.0
"""Longer than an engine may be silent."""
_NIGHT_S = 8 * _HOUR_S
_STAMP = re.compile(r"^(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d),\d{3} .*BYPASS off asked for$", re.MULTILINE)


def clock_is_set() -> Row:
    """An hour on, two hours back, and right again, as a bad time server would; the monotonic clock goes on."""
    with _clocked() as (opened, set_clock):
        wrong: list[str] = []

        def jump() -> None:
            for ahead_s in _STEPS_S:
                set_clock(ahead_s)
                time.sleep(2.0)
                wrong.extend(_not_taken(opened, ahead_s))

        before = opened.status
        return opened.strike(
            "the machine's clock is set an hour on, two hours back, and right",
            jump,
            lambda: opened.state == "TRANSLATED",
            lost="nothing",
            and_also=lambda: "; ".join([*wrong, *_restarted(before, opened)]),
        )


def machine_sleeps() -> Row:
    """All processes stand for a while, and the clock is eight hours on when they go on: as after a night."""
    with _clocked() as (opened, set_clock):
        awake_at: list[float] = []

        def sleep() -> None:
            outside = psutil.Process(opened.process.pid)
            family = [outside, *outside.children(recursive=True)]
            for process in family:
                process.suspend()
            set_clock(_NIGHT_S, wait=False)
            time.sleep(_SLEEP_S)
            for process in reversed(family):
                process.resume()
            awake_at.append(time.monotonic())

        before = opened.status
        return opened.strike(
            f"the machine sleeps (all processes stand for {_SLEEP_S:g} s, the clock is 8 h on)",
            sleep,
            lambda: opened.state == "TRANSLATED" and opened.status["publish"]["state_s"] > 1.0,
            lost="nothing; the same engine goes on",
            recovered=lambda: opened.watch.window(awake_at[0], time.monotonic()).entered_at("TRANSLATED", awake_at[0]),
            since=lambda: awake_at[0],
            stood_until=lambda: awake_at[0],
            and_also=lambda: "; ".join([*_not_taken(opened, _NIGHT_S), *_restarted(before, opened)]),
        )


CASES: dict[str, Callable[[], Row]] = {"clock": clock_is_set, "sleep": machine_sleeps}


def obstacle() -> str:
    """Why no clock can be set here for one service alone."""
    return "" if _library() else "install libfaketime"


def _library() -> str | None:
    return next((str(path) for pattern in _LIBRARIES for path in Path("/").glob(pattern[1:])), None)


@contextmanager
def _clocked() -> Iterator[tuple[Stage, Callable[..., None]]]:
    """A service, and what sets the clock that it and its engine see. Raises FileNotFoundError without libfaketime."""
    library = _library()
    if library is None:
        raise FileNotFoundError(obstacle())
    with TemporaryDirectory() as name:
        clock = Path(name) / "clock"

        def set_clock(ahead_s: int, *, wait: bool = True) -> None:
            part = clock.with_suffix(".new")
            part.write_text(f"{ahead_s:+d}\n", encoding="ascii")
            part.replace(clock)
            if wait:
                time.sleep(_SEEN_S)

        set_clock(0, wait=False)
        surroundings = {
            "LD_PRELOAD": library,
            "FAKETIME_TIMESTAMP_FILE": str(clock),
            "FAKETIME_CACHE_DURATION": "1",
            # No time server sets the monotonic clock.
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            # Its mend for old C libraries has Python's threads wait for each other for 100 ms, clock set or not.
            "FAKETIME_FORCE_MONOTONIC_FIX": "0",
        }
        with stage(base(), surroundings) as opened:
            yield opened, set_clock


def _not_taken(opened: Stage, ahead_s: int) -> list[str]:
    """Whether the service's own log, whose lines carry the time of day, has seen the clock jump; what if not."""
    opened.post("bypass", on=False)
    time.sleep(0.3)
    said = _STAMP.findall(opened.said)
    if not said:
        return ["the log does not tell the time"]
    off_s = (datetime.fromisoformat(said[-1]) - datetime.now()).total_seconds() - ahead_s
    return [f"the clock did not jump by {ahead_s} s: it is {off_s:.0f} s off"] if abs(off_s) > 10 else []


def _restarted(before: dict[str, object], opened: Stage) -> list[str]:
    after = opened.status
    same = all(before[name] == after[name] for name in ("engine_pid", "engine_restarts"))
    return [] if same else ["the engine was started anew"]
