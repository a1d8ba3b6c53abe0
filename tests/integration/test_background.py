"""The service in the background as a user drives it: start, steer, stop, and what is left behind (nothing)."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import pytest

from tests.rigs.cli import Cli

QUIET = ["--set", "capture={kind: pattern, fps: 5}", "--set", "control.port=0", "--set", "publish.outputs=[browser]"]
QUIET += ["--set", "model.backend=torch"]  # no graphs are converted here
NOT_HERE = "the service is not running"


@pytest.fixture
def cli(tmp_path: Path) -> Iterator[Cli]:
    found = Cli(tmp_path)
    yield found
    # A test that failed half-way must not leave a service to the next.
    subprocess.run([sys.executable, "-m", "streamv2v_obs", "stop"], env=found.environment, capture_output=True)


def shared_memory(pid: int) -> list[Path]:
    """Files of the shared memory that a process holds."""
    if sys.platform != "linux":
        return []
    maps = psutil.Process(pid).memory_maps()
    return [Path(m.path) for m in maps if m.path.startswith("/dev/shm/psm_")]


def family(pid: int) -> list[psutil.Process]:
    return [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]


def ended(processes: list[psutil.Process]) -> bool:
    until = time.monotonic() + 5
    while time.monotonic() < until:
        if not any(p.is_running() and p.status() != psutil.STATUS_ZOMBIE for p in processes):
            return True
        time.sleep(0.05)
    return False


def test_from_start_to_stop(cli: Cli) -> None:
    started = cli.json("start", *QUIET)
    memory = shared_memory(started["pid"])
    assert len(memory) > 1 or sys.platform != "linux"
    processes = family(started["pid"])
    assert httpx.get(started["panel"], trust_env=False).status_code == 303

    status = cli.json("status")
    assert status["pid"] == started["pid"]
    assert "on air" in cli("status").stdout
    assert cli.json("prompt", "a [red] fox: painted", "--strength", "0.5", "--bank", "reset")["accepted"] == {
        "prompt": "a [red] fox: painted",
        "strength": 0.5,
        "bank": "reset",
    }
    assert "strength = 2" in cli("prompt", "p", "--strength", "2", code=2).stderr
    assert "no bank is stored" in cli("bank", "restore", "--scene", "Nowhere", code=2).stderr
    cli("panic", "on")
    assert cli.json("status")["publish"]["panic"] is True
    cli("panic", "off")
    links = cli.json("open")
    assert httpx.get(links["view"], trust_env=False).status_code == 200
    assert "/view?key=" in cli("open").stdout

    second = cli("start", *QUIET, code=2).stderr
    assert f"already running as process {started['pid']} at {started['address']}" in second
    assert "already running" in cli("run", *QUIET, code=2).stderr
    assert cli.json("status")["pid"] == started["pid"]
    assert started["address"] in cli("doctor").stdout

    logs = cli("logs").stdout
    assert f"control at {started['address']}" in logs
    assert "key=" not in logs
    assert len(cli("logs", "-n", "2").stdout.splitlines()) == 2

    processes += [p for p in family(started["pid"]) if p not in processes]
    assert cli.json("stop") == {"pid": started["pid"], "forced": False}
    assert ended(processes)
    assert NOT_HERE in cli("status", code=2).stderr
    assert not list((cli.home / "run").glob("*.json"))
    assert [path for path in memory if path.exists()] == []


def test_start_tells_why_it_failed_and_with_what_code(cli: Cli) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = cli.json("start", *QUIET, "--set", f"control.port={port}", code=2)
    assert done["error"].startswith(f"control.port = {port}: cannot listen on 127.0.0.1")
    assert done["exit_code"] == 2
    assert NOT_HERE in cli("status", code=2).stderr


@pytest.fixture
def heard(number: int) -> Iterator[None]:
    """Under nohup SIGHUP is ignored, and rightly so by all that is started there: for one test it is not."""
    before = signal.getsignal(number)
    if before is signal.SIG_IGN:
        signal.signal(number, signal.SIG_DFL)
    yield
    signal.signal(number, before)


@pytest.mark.usefixtures("heard")
@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_run_in_order_even_while_someone_watches(cli: Cli, number: int) -> None:
    command = [sys.executable, "-u", "-m", "streamv2v_obs", "run", *QUIET]
    with subprocess.Popen(
        command, env=cli.environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, encoding="utf-8"
    ) as process:
        assert process.stdout is not None
        link = process.stdout.readline().removeprefix("panel: ").strip()
        with httpx.Client(trust_env=False, follow_redirects=True, timeout=30) as client:
            client.get(link)
            with client.stream("GET", link.partition("/open")[0] + "/v1/stream") as answer:
                next(answer.iter_raw())
                processes, memory = family(process.pid), shared_memory(process.pid)
                assert len(processes) > 1, "the engine has a process of its own"
                began_at = time.monotonic()
                process.send_signal(number)
                assert process.wait(20) == 0
                # Two seconds are promised; the rest is for a machine that does other things as well.
                assert time.monotonic() - began_at < 5
        assert ended(processes)
    assert not list((cli.home / "run").glob("*.json"))
    assert [path for path in memory if path.exists()] == []


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
def test_a_service_that_hangs_is_ended_by_force(cli: Cli) -> None:
    pid = cli.json("start", *QUIET)["pid"]
    processes, memory = family(pid), shared_memory(pid)
    psutil.Process(pid).suspend()
    assert "does not answer" in cli("status", code=2).stderr
    assert cli.json("stop") == {"pid": pid, "forced": True}
    assert ended(processes)
    assert [path for path in memory if path.exists()] == []


def test_after_a_kill_the_next_start_finds_its_way(cli: Cli) -> None:
    pid = cli.json("start", *QUIET)["pid"]
    processes = family(pid)
    psutil.Process(pid).kill()
    assert ended(processes), "the engine does not outlive the service"
    assert NOT_HERE in cli("status", code=2).stderr
    assert cli.json("start", *QUIET)["pid"] != pid
    cli("stop")
