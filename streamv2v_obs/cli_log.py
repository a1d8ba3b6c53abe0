"""Where the service's log goes: a stream that holds nobody up, or a file that rotates."""

from __future__ import annotations

import io
import logging
import logging.handlers
import sys
import threading
import time
from collections import deque
from pathlib import Path
from typing import IO

import platformdirs

from streamv2v_obs.errors import StreamV2VError

LOG_FORMAT = "%(asctime)s %(levelname)-7s %(processName)s/%(threadName)s %(name)s: %(message)s"
_LIMIT = 5_000_000
_OLD_ONES = 3
_KEPT = 2000
"""Lines that wait for somebody to read them; what comes on top of them is counted and lost."""
_FLUSH_S = 0.5
_AGAIN_S = 0.05


def log_path() -> Path:
    """The log of the background service, and of crashes."""
    return Path(platformdirs.user_log_dir("streamv2v-obs", appauthor=False)) / "streamv2v-obs.log"


def streams_path() -> Path:
    """What the background service says outside its log, such as the error that ended it; begun anew at each start."""
    return log_path().with_suffix(".out")


def rotating_log() -> logging.Handler:
    """A handler for the service's log: a file that is put aside when it is large, the oldest of them thrown away.

    Raises StreamV2VError if it cannot be written.
    """
    path = log_path()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return logging.handlers.RotatingFileHandler(
            path, maxBytes=_LIMIT, backupCount=_OLD_ONES, encoding="utf-8", errors="backslashreplace"
        )
    except OSError as error:
        raise StreamV2VError(f"the log {path} cannot be written: {error.strerror}") from error


class UnreadStream(logging.Handler):
    """Lines to a stream, by a thread of its own: who reads them late or never holds up nobody who logs.

    A terminal that somebody paused, and a pipe that its other end forgot, block whoever writes to them. The thread
    that shows pictures logs, too. ``raw`` is without Python's buffer, whose lock a blocked write would keep, even at
    the interpreter's end.
    """

    def __init__(self, raw: io.RawIOBase, encoding: str) -> None:
        super().__init__()
        self._raw, self._encoding = raw, encoding
        self._changed = threading.Condition()
        self._lines: deque[str] = deque()  # guarded by _changed; the first is the one being written
        self._lost = 0  # guarded by _changed
        threading.Thread(target=self._run, name="log", daemon=True).start()

    def emit(self, record: logging.LogRecord) -> None:
        """Lay the line down."""
        try:
            line = self.format(record)
        except Exception:
            self.handleError(record)
            return
        with self._changed:
            if len(self._lines) < _KEPT:
                self._tell_lost()
                self._lines.append(line)
            else:
                self._lost += 1
            self._changed.notify_all()

    def flush(self) -> None:
        """Wait a moment until all is written."""
        with self._changed:
            self._changed.wait_for(lambda: not self._lines, _FLUSH_S)

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: bool(self._lines))
                line = self._lines[0]
            self._write(line)
            with self._changed:
                self._lines.popleft()
                if not self._lines:
                    self._tell_lost()
                self._changed.notify_all()

    def _tell_lost(self) -> None:
        if self._lost:
            self._lines.append(f"{self._lost} lines are missing here, as nobody read them")
            self._lost = 0

    def _write(self, line: str) -> None:
        data = memoryview(f"{line}\n".encode(self._encoding, "backslashreplace"))
        while data:
            try:
                written = self._raw.write(data)
            except (OSError, ValueError):  # the reader is gone, and nobody is left to be told
                return
            if not written:  # a stream that does not block and is full
                time.sleep(_AGAIN_S)
            data = data[written or 0 :]


def stream_log() -> logging.Handler:
    """A handler for standard error."""
    buffer = getattr(sys.stderr, "buffer", None)
    raw = getattr(buffer, "raw", buffer)  # with PYTHONUNBUFFERED there is nothing between
    # Without one: a program without a console, or a test that keeps what is said.
    return UnreadStream(raw, sys.stderr.encoding) if isinstance(raw, io.RawIOBase) else logging.StreamHandler()


def crash_log() -> str:
    """Send what is logged from here on to the log file too; returns where that is."""
    try:
        target, where = rotating_log(), str(log_path())
    except StreamV2VError as error:
        target, where = logging.StreamHandler(), f"the lines above ({error})"
    target.setFormatter(logging.Formatter(LOG_FORMAT))
    logging.getLogger().addHandler(target)
    return where


def open_streams() -> IO[bytes]:
    """The file of ``streams_path``, empty."""
    path = streams_path()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return path.open("wb")
    except OSError as error:
        raise StreamV2VError(f"{path} cannot be written: {error.strerror}") from error
