"""The command line as a process of its own that nothing of the user's can reach, and what it leaves behind."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil

from tests.rigs.cli import Cli

_MARK = "STREAMV2V_RUNTIME_DIR"
_SHARED_MEMORY = Path("/dev/shm")
PATIENCE_S = 60.0


@dataclass(frozen=True)
class Ended:
    """A command that has ended."""

    code: int
    stdout: str
    stderr: str

    def refusal(self, code: int) -> str:
        """The one line after ``error: `` with which it ended; it must be the last one, and no traceback anywhere."""
        said = f"\n--- stdout\n{self.stdout}--- stderr\n{self.stderr}"
        assert self.code == code, f"exit code {self.code}, not {code}{said}"
        assert "Traceback" not in self.stdout + self.stderr, said
        lines = self.stderr.splitlines()
        assert [line for line in lines if line.startswith("error: ")] == lines[-1:], said
        return lines[-1].removeprefix("error: ")

    @property
    def json(self) -> dict[str, Any]:
        """The object on the last line of stdout."""
        return dict(json.loads(self.stdout.splitlines()[-1]))


class Program:
    """Runs commands with a home, a runtime folder and a working directory of their own, all below ``home``."""

    def __init__(self, home: Path, **environment: str) -> None:
        home.mkdir(parents=True, exist_ok=True)
        self.home = home
        below = {"XDG_CACHE_HOME": "cache", "XDG_DATA_HOME": "data", "XDG_RUNTIME_DIR": "runtime"}
        private = {name: str(home / folder) for name, folder in below.items()}
        kept = {k: v for k, v in Cli(home).environment.items() if k not in ("WAYLAND_DISPLAY", "XDG_SESSION_TYPE")}
        self.environment = kept | private | {"PYTHONUNBUFFERED": "1"} | environment
        self._segments: set[str] = set()

    def run(self, *arguments: str, timeout_s: float = 120) -> Ended:
        """Run one command to its end."""
        with self._watching():
            done = subprocess.run(
                [sys.executable, "-m", "streamv2v_obs", *arguments],
                capture_output=True,
                encoding="utf-8",
                env=self.environment,
                cwd=self.home,
                timeout=timeout_s,
            )
        return Ended(done.returncode, done.stdout, done.stderr)

    @contextmanager
    def running(self, *arguments: str, stderr: int | None = None) -> Iterator[subprocess.Popen[bytes]]:
        """The command while it runs; what it says is kept for ``ended``. Killed with its children after the block."""
        with (self.home / "stdout").open("wb") as out, (self.home / "stderr").open("wb") as err:
            process = subprocess.Popen(
                [sys.executable, "-m", "streamv2v_obs", *arguments],
                stdout=out,
                stderr=err if stderr is None else stderr,
                env=self.environment,
                cwd=self.home,
            )
        try:
            with self._watching():
                yield process
        finally:
            for left in self.processes():
                left.kill()
            process.kill()
            process.wait(10)

    def ended(self, process: subprocess.Popen[bytes], within_s: float = PATIENCE_S) -> Ended:
        """Wait for a command of ``running`` to end by itself."""
        code = process.wait(within_s)
        stdout, stderr = ((self.home / name).read_text("utf-8", "replace") for name in ("stdout", "stderr"))
        return Ended(code, stdout, stderr)

    def until_status(self, key: str, value: object, within_s: float = PATIENCE_S) -> dict[str, Any]:
        """Wait until the service's status holds ``value`` at the dotted ``key``; the status."""
        until = time.monotonic() + within_s
        status: dict[str, Any] = {}
        while time.monotonic() < until:
            status = self.status()
            found: Any = status
            for name in key.split("."):
                found = found.get(name) if isinstance(found, dict) else None
            if found == value:
                return status
            time.sleep(0.05)
        said = (self.home / "stderr").read_text("utf-8", "replace") if (self.home / "stderr").exists() else ""
        raise AssertionError(f"{key} did not become {value!r}: {status}\n{said[-3000:]}")

    def status(self) -> dict[str, Any]:
        """What the running service says of itself; empty while it does not."""
        path = self.home / "run" / "service.json"
        try:
            endpoint = json.loads(path.read_text(encoding="utf-8"))
            head = {"authorization": f"Bearer {endpoint['token']}"}
            return dict(httpx.get(f"{endpoint['address']}/v1/status", headers=head, trust_env=False).json())
        except (OSError, ValueError, httpx.HTTPError):
            return {}

    def processes(self) -> list[psutil.Process]:
        """Every living process that was started from here, whoever is its parent by now."""
        found = []
        for process in psutil.process_iter():
            try:
                ours = process.environ().get(_MARK) == self.environment[_MARK]
                if ours and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
            except psutil.Error:
                continue
        return found

    def left_behind(self) -> list[str]:
        """Processes, shared memory and endpoint files that outlived the commands; empty if all is well."""
        until = time.monotonic() + 5
        while True:
            left = [f"process {process.pid}: {' '.join(process.cmdline())}" for process in self.processes()]
            left += [f"shared memory {name}" for name in sorted(self._segments) if (_SHARED_MEMORY / name).exists()]
            left += [str(path) for path in self.home.rglob("service.json")]
            left += [str(path) for path in self.home.rglob("*.part")]
            # The helper that tidies up after a process may need a moment.
            if not left or time.monotonic() > until:
                return left
            time.sleep(0.1)

    @contextmanager
    def _watching(self) -> Iterator[None]:
        """Note which shared memory our processes map meanwhile: nothing in its name says whose it was."""
        done = threading.Event()

        def watch() -> None:
            while not done.wait(0.2):
                for process in self.processes():
                    self._segments |= _segments_of(process.pid)

        watcher = threading.Thread(target=watch, name="watch")
        watcher.start()
        try:
            yield
        finally:
            done.set()
            watcher.join()


def _segments_of(pid: int) -> set[str]:
    try:
        lines = Path(f"/proc/{pid}/maps").read_text(encoding="utf-8").splitlines()
    except OSError:
        return set()
    return {line.rpartition("/")[2] for line in lines if "/dev/shm/psm_" in line}
