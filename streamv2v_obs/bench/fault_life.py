"""Faults of the service process itself: ended at every stage of its start, and killed with memory left behind."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import psutil
import yaml

from streamv2v_obs.bench.fault_stage import Row, base, stage
from streamv2v_obs.control.endpoint import FOLDER_VARIABLE, Endpoint

_END_S = 2.0
_START_S = 60.0
_STAGES_S = (0.1, 0.5, 1.0, 2.0, 4.0, 6.0)
_SHARED = Path("/dev/shm")  # noqa: S108  what lies there is only looked at


def ended_at_every_stage() -> Row:
    """A polite end, from before anything is imported to after the first picture."""
    took: list[float] = []
    wrong: list[str] = []
    for after_s in _STAGES_S:
        with tempfile.TemporaryDirectory() as name:
            config = Path(name) / "settings.yaml"
            config.write_text(yaml.safe_dump(base()), encoding="utf-8")
            words = [sys.executable, "-m", "streamv2v_obs", "run", "--config", str(config), "--set", "control.port=0"]
            surroundings = os.environ | {FOLDER_VARIABLE: str(Path(name) / "runtime")}
            process = subprocess.Popen(words, env=surroundings, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
            time.sleep(after_s)
            left = [*psutil.Process(process.pid).children(recursive=True)]
            memory = _memory_of(process.pid)
            began_at = time.monotonic()
            process.terminate()
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
        f"SIGTERM {', '.join(f'{at:g}' for at in _STAGES_S)} s after the start",
        f"ended within {max(took):.1f} s every time; no process, no shared memory left",
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
        # In the same runtime folder, where the file with the dead one's address still lies.
        stale = opened.folder / "runtime" / "service.json"
        wrong += [] if stale.is_file() else ["the file that is to be in the way is not there"]
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
        wrong += ["the new one did not come up"] if back_s is None else []
    return _row(
        "service killed (SIGKILL), and started anew",
        f"nothing until it is started; its engine had ended after {ended_s:.1f} s",
        back_s,
        "the output itself, until somebody starts it",
        wrong,
    )


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
    "service-killed": killed_and_started_anew,
}
