"""Log files: that of the service, which rotates, and what a background service says on its own streams."""

from __future__ import annotations

import logging
import logging.handlers
from pathlib import Path
from typing import IO

import platformdirs

from streamv2v_obs.errors import StreamV2VError

LOG_FORMAT = "%(asctime)s %(levelname)-7s %(processName)s/%(threadName)s %(name)s: %(message)s"
_LIMIT = 5_000_000
_OLD_ONES = 3


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
