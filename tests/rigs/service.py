"""The real service in processes of its own, as a user starts it, and somebody who watches its stream."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import httpx
import numpy as np
import psutil

from streamv2v_obs.frames import Pixels

# Generous: they only tell a service that is stuck from one on a slow, busy machine.
FIRST_PICTURE_S = 90.0
PATIENCE_S = 60.0


@dataclass(frozen=True)
class Seen:
    """One picture of the stream, as a viewer got it."""

    at: float
    pixels: Pixels

    @property
    def saturation(self) -> float:
        """0 grey .. 255 pure colours, the median of the picture."""
        return float(np.median(cv2.cvtColor(self.pixels, cv2.COLOR_RGB2HSV)[..., 1]))

    @property
    def mean(self) -> tuple[float, float, float]:
        """Of red, green and blue."""
        red, green, blue = self.pixels.reshape(-1, 3).mean(0)
        return float(red), float(green), float(blue)


class RunningService:
    """``streamv2v-obs run`` with a private runtime folder; see ``running_service``."""

    def __init__(self, process: subprocess.Popen[bytes], folder: Path) -> None:
        self.process = process
        self.folder = folder
        self._client: httpx.Client | None = None

    @property
    def said(self) -> str:
        """Its log so far."""
        return (self.folder / "said.log").read_text(encoding="utf-8", errors="replace")

    def endpoint(self) -> dict[str, Any] | None:
        """Address, process and token, once it has said where it is."""
        found = list((self.folder / "runtime").rglob("service.json"))
        return dict(json.loads(found[0].read_text())) if found else None

    def client(self) -> httpx.Client:
        """Authorised requests to it."""
        if self._client is None:
            self.until(lambda: self.endpoint() is not None, "it says where it is")
            endpoint = self.endpoint()
            assert endpoint is not None
            head = {"authorization": f"Bearer {endpoint['token']}"}
            self._client = httpx.Client(base_url=endpoint["address"], headers=head, timeout=10)
        return self._client

    def status(self) -> dict[str, Any]:
        """What ``status`` says now."""
        return dict(self.client().get("/v1/status").raise_for_status().json())

    def engine(self) -> dict[str, Any]:
        """The engine's part of it; empty before it said anything."""
        return dict(self.status()["engine"] or {})

    def post(self, what: str, **body: object) -> None:
        """POST /v1/``what``."""
        self.client().post(f"/v1/{what}", json=body).raise_for_status()

    def until(self, reached: Callable[[], bool], what: str, within_s: float = PATIENCE_S) -> float:
        """Wait for ``reached``; how long it took, in seconds. Fails with the log if it does not come."""
        began_at = time.monotonic()
        while not reached():
            alive = self.process.poll() is None
            assert alive, f"the service ended (exit {self.process.returncode}) before {what}:\n{self.said[-3000:]}"
            waited_s = time.monotonic() - began_at
            assert waited_s < within_s, f"not within {within_s} s: {what}\n{self.said[-3000:]}"
            time.sleep(0.05)
        return time.monotonic() - began_at

    def until_on_air(self, state: str, within_s: float = FIRST_PICTURE_S) -> float:
        """Wait until the outputs show TRANSLATED, HOLD, SLATE or BYPASS."""
        return self.until(lambda: self.status()["publish"]["state"] == state, f"{state} is on the air", within_s)

    def children(self) -> list[psutil.Process]:
        """Its processes, itself not counted."""
        return list(psutil.Process(self.process.pid).children(recursive=True))

    def stop(self, within_s: float = 10.0) -> int:
        """SIGTERM, as a session's end sends it; the exit code."""
        self.process.terminate()
        return self.process.wait(within_s)

    def close(self) -> None:
        """Let go of the test's own connection."""
        if self._client is not None:
            self._client.close()


def still_running(processes: list[psutil.Process], within_s: float) -> list[psutil.Process]:
    """Those that have not ended by then; one that nobody has asked after (a zombie) has ended."""
    until = time.monotonic() + within_s
    while True:
        processes = [process for process in processes if _runs(process)]
        if not processes or time.monotonic() > until:
            return processes
        time.sleep(0.05)


def _runs(process: psutil.Process) -> bool:
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


@contextmanager
def running_service(
    folder: Path,
    *overrides: str,
    environment: dict[str, str] | None = None,
    start_new_session: bool = False,
    config: Path | None = None,
) -> Iterator[RunningService]:
    """``run --set ..`` for each override, on a free port; killed with all its children when the block ends."""
    runtime = folder / "runtime"
    runtime.mkdir(parents=True)
    private = {"STREAMV2V_RUNTIME_DIR": str(runtime), "XDG_CONFIG_HOME": str(folder), "PYTHONUNBUFFERED": "1"}
    command = [sys.executable, "-m", "streamv2v_obs", "run"]
    command += ["--config", str(config)] if config is not None else []
    # OpenVINO has its own tests; here it would be converting for the first test of each size of picture.
    for override in ("control.port=0", "model.backend=torch", *overrides):
        command += ["--set", override]
    with (folder / "said.log").open("wb") as said:
        process = subprocess.Popen(
            command,
            env=os.environ | private | (environment or {}),
            stdout=said,
            stderr=said,
            start_new_session=start_new_session,
        )
    service = RunningService(process, folder)
    try:
        yield service
    finally:
        service.close()
        if process.poll() is None:
            for child in service.children():
                child.kill()
            process.kill()
            process.wait(10)


class Viewer:
    """Watches ``/v1/stream`` as a browser does and keeps what it saw; use it in a ``with`` block."""

    def __init__(self, service: RunningService, keep: Callable[[Seen], bool] = lambda seen: True) -> None:
        self._service = service
        self._keep = keep
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="viewer")
        self.seen: list[Seen] = []
        self.count = 0
        self.longest_gap_s = 0.0

    def __enter__(self) -> Viewer:
        self._client = self._service.client()
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        self._thread.join(10)

    def newest(self) -> Seen:
        """The last picture seen."""
        return self.seen[-1]

    def _watch(self) -> None:
        buffer, last_at = b"", None
        with self._client.stream("GET", "/v1/stream", timeout=30) as response:
            for chunk in response.iter_raw():
                buffer += chunk
                while (begin := buffer.find(b"\xff\xd8")) >= 0 and (end := buffer.find(b"\xff\xd9", begin)) >= 0:
                    at = time.monotonic()
                    self.longest_gap_s = max(self.longest_gap_s, at - (last_at or at))
                    last_at = at
                    picture = cv2.imdecode(np.frombuffer(buffer[begin : end + 2], np.uint8), cv2.IMREAD_COLOR)
                    buffer = buffer[end + 2 :]
                    assert picture is not None, "a broken JPEG in the stream"
                    self.count += 1
                    seen = Seen(at, np.asarray(picture[..., ::-1], np.uint8))
                    if self._keep(seen):
                        self.seen.append(seen)
                if self._stop.is_set():
                    return
