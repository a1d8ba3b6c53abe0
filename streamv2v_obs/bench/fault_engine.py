"""Faults of the engine, and the control of the search: what a raw picture looks like to it."""

from __future__ import annotations

import time
from collections.abc import Callable

from streamv2v_obs.bench.fault_stage import Row, Stage

RECOVERY_S = 15.0
_CLOCK_S = 0.05
"""How well an instant is known: the way of a question to the service and back."""
_SHORT_HOLD_S = 1.0


def control(stage: Stage) -> Row:
    """BYPASS on and off again: the search must find raw pictures, and only then; both are said aloud in the log."""

    def came(raw: bool) -> Callable[[], bool]:
        return lambda: (newest := stage.watch.newest) is not None and newest.raw is raw

    def both() -> None:
        stage.post("bypass", on=True)
        stage.wait(lambda: stage.state == "BYPASS")
        time.sleep(1.0)
        # A viewer on a busy machine is late, and what he has not seen yet must not count for the next fault.
        stage.wait(came(raw=True))
        stage.post("bypass", on=False)

    def noted() -> str:
        missing = [line for line in ("BYPASS on asked for", "BYPASS off asked for") if line not in stage.said]
        return f"the log does not say: {', '.join(missing)}" if missing else ""

    row = stage.strike(
        "BYPASS on and off by hand (control of the search)",
        both,
        lambda: stage.state == "TRANSLATED" and came(raw=False)(),
        lost="nothing",
        raw_allowed=True,
        and_also=noted,
    )
    return row if row.raw else row.failed("the search did not find the raw pictures that were shown")


def killed(stage: Stage) -> Row:
    """SIGKILL, with the time of holding that is the default."""
    # Asked for beforehand: the answer's way is no part of the time to the slate.
    return _engine(stage, "engine killed (SIGKILL), hold_s 3", stage.engine().kill, hold_s=3.0)


def killed_with_a_short_hold(stage: Stage) -> Row:
    """SIGKILL again, with another time of holding, changed in the settings file of the running service."""
    stage.set("publish.hold_s", _SHORT_HOLD_S)
    time.sleep(1.5)  # the file is looked at twice a second
    row = _engine(stage, "engine killed (SIGKILL), hold_s 1", stage.engine().kill, hold_s=_SHORT_HOLD_S)
    stage.set("publish.hold_s", 3.0)
    time.sleep(1.5)
    return row


def stopped(stage: Stage) -> Row:
    """All threads of the engine stand, its pipe stays open."""
    return _engine(stage, "engine frozen (SIGSTOP)", stage.engine().suspend, hold_s=3.0)


def hangs(stage: Stage) -> Row:
    """Only the thread that translates stands."""
    return _engine(stage, "an inference that never returns", stage.injection.hang)


def sticky(stage: Stage) -> Row:
    """As a CUDA context after an illegal access: nothing but a new process helps."""
    return _engine(stage, "sticky GPU error", stage.injection.sticky_error)


def out_of_memory(stage: Stage) -> Row:
    """In the middle of a run."""
    return _engine(stage, "GPU out of memory in the middle", stage.injection.out_of_memory)


def out_of_memory_at_load(stage: Stage) -> Row:
    """An engine is killed, and the next one finds no room for the model; the one after it does."""

    def blow() -> None:
        stage.injection.out_of_memory_at_load()
        stage.engine().kill()
        stage.wait(lambda: "too small for the model" in stage.status["failure"])

    row = _engine(stage, "GPU out of memory while the model is loaded", blow)
    return row if "memory-at-load" not in stage.injection.left else row.failed("the model was not loaded anew")


CASES: dict[str, Callable[[Stage], Row]] = {
    "control": control,
    "killed": killed,
    "killed-short-hold": killed_with_a_short_hold,
    "stopped": stopped,
    "hangs": hangs,
    "sticky": sticky,
    "memory": out_of_memory,
    "memory-at-load": out_of_memory_at_load,
}


def _engine(stage: Stage, fault: str, blow: Callable[[], None], hold_s: float | None = None) -> Row:
    stage.wait(lambda: bool((stage.status["engine"] or {}).get("translated")))
    before = stage.status

    def well() -> bool:
        now = stage.status
        new = now["engine_pid"] != before["engine_pid"] and now["engine"] and now["engine"]["translated"] > 0
        return bool(new and now["publish"]["state"] == "TRANSLATED")

    def forgotten() -> str:
        engine = stage.status["engine"] or {}
        kept = {name: before["engine"][name] for name in ("prompt", "strength", "steps", "seed")}
        return "" if kept == {name: engine.get(name) for name in kept} else "prompt or seed are not in force again"

    return stage.strike(
        fault,
        blow,
        well,
        lost="new pictures until then, and the bank; prompt and seed are in force again",
        slate_within_s=None if hold_s is None else hold_s + _CLOCK_S,
        recovered_within_s=RECOVERY_S,
        and_also=forgotten,
    )
