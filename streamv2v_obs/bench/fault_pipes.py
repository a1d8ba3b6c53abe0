"""Faults of pipes: one that the engine does not read, and one that whoever started the service does not."""

from __future__ import annotations

import os
import select
import time
from collections.abc import Callable

from streamv2v_obs.bench.fault_posix import small_pipe
from streamv2v_obs.bench.fault_stage import Row, Stage, base, stage

_PROMPTS = 600
"""Each is a message of almost a kilobyte, and the pipe takes some two hundred of them."""
_LONG = "a pencil sketch of " + "very " * 150
_ANSWER_S = 1.0
_LINES = 200
"""More than a small pipe holds of what BYPASS writes into the log."""


def engine_reads_nothing(stage: Stage) -> Row:
    """The engine stands, and far more prompts are sent than its pipe takes; the last one is to be in force."""
    last = "a pencil sketch, the last one"
    slowest: list[float] = []

    def blow() -> None:
        stage.engine().suspend()
        for number in range(_PROMPTS):
            began_at = time.monotonic()
            stage.post("prompt", prompt=f"{_LONG} {number}")
            slowest.append(time.monotonic() - began_at)
        stage.post("prompt", prompt=last)

    before = stage.status["engine_pid"]

    def well() -> bool:
        now = stage.status
        engine = now["engine"] or {}
        renewed = now["engine_pid"] not in (None, before) and bool(engine.get("translated"))
        return renewed and engine.get("prompt") == last and now["publish"]["state"] == "TRANSLATED"

    def answered() -> str:
        return "" if max(slowest) < _ANSWER_S else f"an answer took {max(slowest):.1f} s"

    return stage.strike(
        f"engine frozen while {_PROMPTS} prompts are sent (its pipe is full)",
        blow,
        well,
        lost="new pictures until then, and the bank; the last prompt is in force",
        and_also=answered,
    )


def nobody_reads_the_log() -> Row:
    """Standard output and error are a pipe that is full, and the engine is killed, of which there is much to say."""
    reading, writing = small_pipe()
    try:
        with stage(base(), streams=writing) as opened:
            for _ in range(_LINES):
                opened.post("bypass", on=False)
            _, writable, _ = select.select([], [writing], [], 0)
            before = opened.status["engine_pid"]

            def well() -> bool:
                now = opened.status
                renewed = now["engine_pid"] not in (None, before) and (now["engine"] or {}).get("translated")
                return bool(renewed) and now["publish"]["state"] == "TRANSLATED"

            return opened.strike(
                "nobody reads the service's log (its pipe is full), and the engine is killed",
                lambda: opened.engine().kill(),
                well,
                lost="new pictures until then, and the bank",
                and_also=lambda: "the pipe was not full" if writable else "",
            )
    finally:
        os.close(reading)
        os.close(writing)


CASES: dict[str, Callable[[], Row]] = {"unread-log": nobody_reads_the_log}
