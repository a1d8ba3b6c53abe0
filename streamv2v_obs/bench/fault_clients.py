"""Faults that come from outside: clients that read badly, a settings file that is garbage, a second service."""

from __future__ import annotations

import os
import selectors
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

from streamv2v_obs.bench.fault_stage import Row, Stage

_WHILE_S = 6.0
_CROWD = 100
_PICTURES = 5000
"""Bytes that no refusal has."""
_GARBAGE = "capture: {kind: pattern\n\x00\x07 model: [\n"


def slow_client(stage: Stage) -> Row:
    """One that asks for the stream and reads a few bytes now and then."""
    with _sockets(stage, 1) as (sockets, ask):

        def read_slowly() -> None:
            ask()
            until = time.monotonic() + _WHILE_S
            while time.monotonic() < until:
                sockets[0].recv(64)
                time.sleep(0.2)

        return stage.strike(
            "a preview client that reads 320 bytes a second", read_slowly, _runs(stage), lost="nothing"
        )


def crowd(stage: Stage) -> Row:
    """A hundred at once, read as fast as it comes; those beyond what is allowed are told so."""
    stop = threading.Event()
    with _sockets(stage, _CROWD) as (sockets, ask):
        counts, begun = [0] * _CROWD, [b""] * _CROWD

        def drain() -> None:
            selector = selectors.DefaultSelector()
            for number, one in enumerate(sockets):
                one.setblocking(False)
                selector.register(one, selectors.EVENT_READ, number)
            while not stop.is_set():
                for key, _ in selector.select(0.1):
                    data = sockets[key.data].recv(1 << 16)
                    if not data:
                        selector.unregister(sockets[key.data])
                    begun[key.data] = begun[key.data] or data
                    counts[key.data] += len(data)

        reader = threading.Thread(target=drain, name="crowd")

        def come() -> None:
            ask()
            reader.start()
            time.sleep(_WHILE_S)

        try:
            row = stage.strike("100 preview clients at once", come, _runs(stage), lost="nothing")
        finally:
            stop.set()
            reader.join()
    shown = sum(count > _PICTURES for count in counts)
    refused = sum(b" 503 " in first[:20] for first in begun)
    row = replace(row, lost=f"{refused} of {_CROWD} clients, refused with 503" if refused else "nothing")
    silent = _CROWD - shown - refused
    return row.failed(f"{silent} of {_CROWD} clients got neither pictures nor a refusal") if silent else row


def silent_crowd(stage: Stage) -> Row:
    """A hundred that ask for the stream, never read a byte, and never close."""
    with _sockets(stage, _CROWD) as (_, ask):

        def come() -> None:
            ask()
            time.sleep(_WHILE_S)

        return stage.strike("100 preview clients that never read", come, _runs(stage), lost="nothing")


def garbage(stage: Stage) -> Row:
    """The settings file is overwritten with what is no YAML, and put right again."""
    right = stage.config.read_text(encoding="utf-8")

    def spoil() -> None:
        stage.write(_GARBAGE)
        stage.wait(lambda: "not valid YAML" in " ".join(stage.status["notices"]))
        stage.write(right)

    def well() -> bool:
        return "not valid YAML" not in " ".join(stage.status["notices"])

    row = stage.strike("settings file overwritten with garbage", spoil, well, lost="nothing")
    return row if "not valid YAML" in stage.said else row.failed("the log does not say so")


def second_instance(stage: Stage) -> Row:
    """``run`` once more for the same user."""
    ended: list[subprocess.CompletedProcess[str]] = []

    def run() -> None:
        ended.append(
            subprocess.run(
                [sys.executable, "-m", "streamv2v_obs", "run", "--config", str(stage.config)],
                env=os.environ | stage.environment,
                capture_output=True,
                encoding="utf-8",
                check=False,
            )
        )

    row = stage.strike("a second service of the same user", run, _runs(stage), lost="nothing")
    told = ended[0].returncode == 2 and "already running" in ended[0].stderr
    return row if told else row.failed(f"exit code {ended[0].returncode}: {ended[0].stderr[-200:]}")


CASES: dict[str, Callable[[Stage], Row]] = {
    "slow-client": slow_client,
    "100-clients": crowd,
    "100-silent-clients": silent_crowd,
    "garbage": garbage,
    "second-instance": second_instance,
}


def _runs(stage: Stage) -> Callable[[], bool]:
    return lambda: stage.state == "TRANSLATED"


@contextmanager
def _sockets(stage: Stage, number: int) -> Iterator[tuple[list[socket.socket], Callable[[], None]]]:
    """Connections of which nothing is read yet, and what asks for the stream on all of them."""
    host, port = str(stage.client.base_url.host), int(stage.client.base_url.port or 80)
    right = stage.client.headers["authorization"]
    head = f"GET /v1/stream HTTP/1.1\r\nHost: {host}:{port}\r\nAuthorization: {right}\r\n\r\n"
    opened: list[socket.socket] = []
    try:
        for _ in range(number):
            opened.append(socket.create_connection((host, port), timeout=10))

        def ask() -> None:
            for one in opened:
                one.sendall(head.encode())

        yield opened, ask
    finally:
        for one in opened:
            one.close()
