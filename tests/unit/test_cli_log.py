"""A log that nobody reads: it holds up nobody, loses what it must and says so, and lets the program end."""

from __future__ import annotations

import io
import logging
import os
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from streamv2v_obs import cli_log
from streamv2v_obs.cli_log import UnreadStream


@pytest.fixture
def pipe() -> Iterator[tuple[int, io.FileIO]]:
    """Both ends, the second as a raw stream."""
    reading, writing = os.pipe()
    with open(writing, "wb", buffering=0) as raw:  # noqa: PTH123  a descriptor has no path
        yield reading, raw
        os.close(reading)


def logger(handler: logging.Handler) -> logging.Logger:
    found = logging.Logger("unread")
    found.addHandler(handler)
    return found


def test_lines_come_in_order(pipe: tuple[int, io.FileIO]) -> None:
    reading, raw = pipe
    handler = UnreadStream(raw, "utf-8")
    log = logger(handler)
    for number in range(100):
        log.warning("line %d of ü", number)
    handler.flush()
    assert os.read(reading, 1 << 16).decode().splitlines() == [f"line {number} of ü" for number in range(100)]


def test_a_pipe_that_nobody_reads_holds_up_nobody(pipe: tuple[int, io.FileIO]) -> None:
    reading, raw = pipe
    handler = UnreadStream(raw, "utf-8")
    log = logger(handler)
    began_at = time.monotonic()
    for number in range(6000):
        log.warning("%05d %s", number, "x" * 94)
    assert time.monotonic() - began_at < 5, "and each write to the full pipe would take for ever"
    # Somebody reads again: what was kept comes in order, and where something is missing it is said how much.
    number = kept = 0
    with open(reading, "rb", closefd=False) as reader:
        while number < 6000:
            line = reader.readline().decode().rstrip()
            if line.endswith("x"):
                assert int(line[:5]) == number
                number, kept = number + 1, kept + 1
            else:
                number += int(line.removesuffix(" lines are missing here, as nobody read them"))
    assert number == 6000
    assert cli_log._KEPT <= kept < 6000
    log.warning("and on it goes")
    handler.flush()
    assert os.read(reading, 1 << 16) == b"and on it goes\n"


def test_a_reader_that_went_away_is_no_error(pipe: tuple[int, io.FileIO], capfd: pytest.CaptureFixture[str]) -> None:
    reading, raw = pipe
    handler = UnreadStream(raw, "utf-8")
    closed, open_again = os.pipe()
    os.dup2(closed, reading)  # the last reader of the first pipe is gone
    os.close(closed)
    os.close(open_again)
    logger(handler).warning("nobody")
    handler.flush()
    assert capfd.readouterr().err == ""


PROGRAM = """
import logging
from streamv2v_obs.cli_log import stream_log
logging.basicConfig(level="INFO", format="%%(message)s", handlers=[stream_log()])
for number in range(%d):
    logging.info("x" * 99)
"""


def test_the_last_lines_of_a_program_that_ends_are_written() -> None:
    found = subprocess.run([sys.executable, "-c", PROGRAM % 500], capture_output=True, timeout=60)
    assert found.returncode == 0
    assert found.stderr == (b"x" * 99 + b"\n") * 500


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_program_whose_pipe_is_full_ends_all_the_same(unbuffered: str) -> None:
    surroundings = os.environ | {"PYTHONUNBUFFERED": unbuffered}
    words = [sys.executable, "-c", PROGRAM % 1500]
    with subprocess.Popen(words, env=surroundings, stderr=subprocess.PIPE) as process:
        assert process.wait(30) == 0, "a blocked write must not keep it, nor crash it"
        assert process.stderr is not None
        assert len(process.stderr.read()) > 60_000, "all that went in"
