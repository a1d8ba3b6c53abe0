"""Faults of the service process itself: ended at every stage of its start, and killed with memory left behind."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import psutil
import yaml

from streamv2v_obs.bench.fault_posix import interrupt_group
from streamv2v_obs.bench.fault_stage import Row, Stage, base, stage
from streamv2v_obs.control.endpoint import FOLDER_VARIABLE, Endpoint

_END_S = 2.0
_START_S = 60.0
_STAGES_S = (0.1, 0.5, 1.0, 2.0, 4.0, 6.0)
_SHARED = Path("/dev/shm")  # noqa: S108  what lies there is only looked at


def ended_at_every_stage() -> Row:
    """A polite end, from before anything is imported to after the first picture."""
    return _ended("SIGTERM", lambda process: process.terminate())


def ctrl_c_at_every_stage() -> Row:
    """As a terminal says it: to every process of the group at once, the engine and Python's helper among them."""
    return _ended("Ctrl-C", lambda process: interrupt_group(process.pid))


def _ended(how: str, end: Callable[[subprocess.Popen[bytes]], None]) -> Row:
    took: list[float] = []
    wrong: list[str] = []
    for after_s in _STAGES_S:
        with tempfile.TemporaryDirectory() as name, started(Path(name), base()) as process:
            time.sleep(after_s)
            left = psutil.Process(process.pid).children(recursive=True)
            memory = _memory_of(process.pid)
            began_at = time.monotonic()
            end(process)
            said, _ = process.communicate(timeout=30)
            took.append(time.monotonic() - began_at)
            _, alive = psutil.wait_procs(left, timeout=5)
            for child in alive:
                child.kill()
            if b"Traceback" in said or alive or any((_SHARED / one).exists() for one in memory):
                wrong.append(f"after {after_s:g} s: {len(alive)} processes left: {said.decode()[-200:]!r}")
    if max(took) > _END_S:
        wrong.append(f"it took {max(took):.1f} s to end, {_END_S:g} are allowed")
    return _row(
        f"{how} {', '.join(f'{at:g}' for at in _STAGES_S)} s after the start",
        f"ended within {max(took):.1f} s every time; no process, no shared memory left",
        None,
        "nothing",
        wrong,
    )


@contextmanager
def started(folder: Path, settings: dict[str, Any], *overrides: str) -> Iterator[subprocess.Popen[bytes]]:
    """``run`` with a runtime folder in ``folder``, in a process group of its own; what it says is in its pipe."""
    config = folder / "settings.yaml"
    config.write_text(yaml.safe_dump(settings), encoding="utf-8")
    words = [sys.executable, "-m", "streamv2v_obs", "run", "--config", str(config)]
    words += [word for one in overrides or ("control.port=0",) for word in ("--set", one)]
    process = subprocess.Popen(
        words,
        env=os.environ | {FOLDER_VARIABLE: str(folder / "runtime")},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
            process.communicate()


def port_taken() -> Row:
    """Another program listens where the panel is to be."""
    wrong: list[str] = []
    with socket.create_server(("127.0.0.1", 0)) as other, tempfile.TemporaryDirectory() as name:
        port = int(other.getsockname()[1])
        began_at = time.monotonic()
        with started(Path(name), base(), f"control.port={port}") as process:
            said, _ = process.communicate(timeout=30)
            took_s = time.monotonic() - began_at
        if process.returncode != 2 or f"control.port = {port}".encode() not in said or b"Traceback" in said:
            wrong.append(f"exit code {process.returncode}: {said.decode()[-300:]!r}")
    return _row(
        "the panel's port is taken at the start",
        f"nothing: ended after {took_s:.1f} s with exit code 2, the port and the way out named",
        None,
        "nothing",
        wrong,
    )


def killed_and_started_anew() -> Row:
    """SIGKILL of the service: its engine must follow, and the next one must not care what was left."""
    wrong: list[str] = []
    with stage(base()) as opened:
        children = psutil.Process(opened.process.pid).children(recursive=True)
        memory = _memory_of(opened.process.pid)
        began_at = time.monotonic()
        opened.process.kill()
        opened.process.wait(10)
        _, alive = psutil.wait_procs(children, timeout=10)
        ended_s = time.monotonic() - began_at
        wrong += [f"{len(alive)} processes outlive it"] if alive else []
        time.sleep(0.5)
        left = [name for name in memory if (_SHARED / name).exists()]
        wrong += [f"shared memory is left: {', '.join(left)}"] if left else []
        back_s, more = _started_anew(opened)
    return _row(
        "service killed (SIGKILL), and started anew",
        f"nothing until it is started; its engine had ended after {ended_s:.1f} s",
        back_s,
        "the output itself, until somebody starts it",
        [*wrong, *more],
    )


def all_killed_and_started_anew() -> Row:
    """SIGKILL of all its processes at once, so that nobody is left to tidy up; the next one has to."""
    wrong: list[str] = []
    with stage(base()) as opened:
        outside = psutil.Process(opened.process.pid)
        family = [outside, *outside.children(recursive=True)]
        memory = _memory_of(outside.pid)
        for process in family:
            process.suspend()  # or the first to die would be noticed by the others
        for process in family:
            process.kill()
        opened.process.wait(10)
        psutil.wait_procs(family, timeout=10)
        held = sum((_SHARED / name).stat().st_blocks * 512 for name in memory if (_SHARED / name).exists())
        if _SHARED.is_dir() and not held:
            wrong.append("no shared memory was left, so nothing was tried")
        back_s, more = _started_anew(opened)
        left = [name for name in memory if (_SHARED / name).exists()]
        wrong += [f"shared memory is left: {', '.join(left)}"] if left else []
    return _row(
        "all its processes killed (SIGKILL) at once, and started anew",
        f"nothing until it is started; {held / 2**20:.1f} MiB of shared memory were left, and removed by the new one",
        back_s,
        "the output itself, until somebody starts it",
        [*wrong, *more],
    )


def _started_anew(opened: Stage) -> tuple[float | None, list[str]]:
    """Start it in the same runtime folder, where the file with the dead one's address still lies."""
    stale = opened.folder / "runtime" / "service.json"
    wrong = [] if stale.is_file() else ["the file that is to be in the way is not there"]
    process = subprocess.Popen(
        [sys.executable, "-m", "streamv2v_obs", "run", "--config", str(opened.config), "--set", "control.port=0"],
        env=os.environ | opened.environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        back_s = _until_translated(stale, process.pid)
    finally:
        process.terminate()
        process.wait(10)
    return back_s, [*wrong, *(["the new one did not come up"] if back_s is None else [])]


def _until_translated(endpoint: Path, pid: int) -> float | None:
    """Seconds until the service of that process shows a translated picture; None if it does not in time."""
    began_at = time.monotonic()
    while time.monotonic() - began_at < _START_S:
        time.sleep(0.1)
        try:
            found = Endpoint.model_validate_json(endpoint.read_text(encoding="utf-8"))
            if found.pid != pid:
                continue
            head = {"authorization": f"Bearer {found.token}"}
            status = httpx.get(f"{found.address}/v1/status", headers=head, trust_env=False).json()
        except (OSError, ValueError, httpx.HTTPError):
            continue
        if status["publish"]["state"] == "TRANSLATED":
            return round(time.monotonic() - began_at, 2)
    return None


def _memory_of(pid: int) -> set[str]:
    """Names of the shared memory that a process maps; nowhere but on Linux."""
    try:
        return {Path(one.path).name for one in psutil.Process(pid).memory_maps() if str(_SHARED / "psm_") in one.path}
    except (psutil.Error, AttributeError):
        return set()


def _row(fault: str, showed: str, recovered_s: float | None, lost: str, wrong: list[str]) -> Row:
    return Row(fault, showed, None, recovered_s, lost, 0.0, 0.0, 0, 0, 0, 0, 0.0, not wrong, "; ".join(wrong))


CASES: dict[str, Callable[[], Row]] = {
    "ended": ended_at_every_stage,
    "ctrl-c": ctrl_c_at_every_stage,
    "port-taken": port_taken,
    "service-killed": killed_and_started_anew,
    "all-killed": all_killed_and_started_anew,
}
