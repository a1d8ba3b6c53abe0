"""``streamv2v-obs run`` as a process to be measured, and one who looks at its stream."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil

from streamv2v_obs.control.endpoint import FOLDER_VARIABLE, Endpoint
from streamv2v_obs.errors import StreamV2VError

_START_S = 120.0
_END_S = 10.0
_GLANCE_S = 0.02
_LENGTH = b"Content-Length: "


@contextmanager
def service(
    folder: Path,
    overrides: Sequence[str],
    *,
    config: Path | None = None,
    environment: Mapping[str, str] | None = None,
    streams: int | None = None,
) -> Iterator[tuple[subprocess.Popen[bytes], httpx.Client, float]]:
    """``streamv2v-obs run`` with its own runtime folder and a free port; what it says goes to ``folder``/said.log.

    Or to the descriptor ``streams``.

    Gives the process, a client with its token, and the instant at which it was started.
    """
    command = [sys.executable, "-m", "streamv2v_obs", "run", "--set", "control.port=0"]
    command += ["--config", str(config)] if config is not None else []
    for override in overrides:
        command += ["--set", override]
    runtime = folder / "runtime"
    began_at = time.monotonic()
    with (folder / "said.log").open("wb") as said:
        private = {FOLDER_VARIABLE: str(runtime), **(environment or {})}
        out = said if streams is None else streams
        process = subprocess.Popen(command, env=os.environ | private, stdout=out, stderr=out)
        try:
            found = runtime / "service.json"
            until(found.is_file, process, folder)
            endpoint = Endpoint.model_validate_json(found.read_text(encoding="utf-8"))
            head = {"authorization": f"Bearer {endpoint.token}"}
            with httpx.Client(base_url=endpoint.address, headers=head, trust_env=False, timeout=_END_S) as client:
                yield process, client, began_at
        finally:
            process.terminate()
            try:
                process.wait(_END_S)
            except subprocess.TimeoutExpired:
                for child in psutil.Process(process.pid).children(recursive=True):
                    child.kill()
                process.kill()
                process.wait(_END_S)


def until(reached: Callable[[], bool], process: subprocess.Popen[bytes], folder: Path) -> float:
    """Wait for ``reached``; the instant at which it was."""
    patient_until = time.monotonic() + _START_S
    while not reached():
        if process.poll() is not None or time.monotonic() > patient_until:
            said = (folder / "said.log").read_text(encoding="utf-8", errors="replace").strip().splitlines()
            raise StreamV2VError(f"the service did not come up: {said[-1] if said else 'it said nothing'}")
        time.sleep(_GLANCE_S)
    return time.monotonic()


class Viewer:
    """Reads ``/v1/stream`` in a thread of its own, as OBS's browser source does; decodes nothing."""

    def __init__(self, client: httpx.Client, *, keep: bool = False) -> None:
        self._client = client
        self._keep = keep
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="viewer", daemon=True)
        self.changed_at: list[float] = []
        """When each picture came that was not, byte for byte, the one before."""
        self.again = 0
        """Pictures that were the one before once more."""
        self.pictures: list[bytes] = []
        """If they are to be kept, those that came at ``changed_at``, as JPEG."""

    def start(self) -> None:
        """Begin to look."""
        self._thread.start()

    def stop(self) -> None:
        """Look away; returns when the connection is closed."""
        self._stop.set()
        self._thread.join(_END_S)

    def _watch(self) -> None:
        buffer, before = b"", b""
        with self._client.stream("GET", "/v1/stream", timeout=_END_S) as response:
            response.raise_for_status()
            for chunk in response.iter_raw():
                buffer += chunk
                while (jpeg := whole_picture(buffer)) is not None:
                    buffer = buffer[jpeg.stop :]
                    picture = jpeg.data
                    if picture == before:
                        self.again += 1
                    else:
                        self.changed_at.append(time.monotonic())
                        if self._keep:
                            self.pictures.append(picture)
                    before = picture
                if self._stop.is_set():
                    return


@dataclass(frozen=True)
class _Part:
    data: bytes
    stop: int


def whole_picture(buffer: bytes) -> _Part | None:
    """The first picture of a multipart stream, if all of it is there."""
    at = buffer.find(_LENGTH)
    end = buffer.find(b"\r\n\r\n", at)
    if at < 0 or end < 0:
        return None
    stop = end + 4 + int(buffer[at + len(_LENGTH) : end])
    return _Part(buffer[end + 4 : stop], stop) if len(buffer) >= stop else None
