"""The log file of the background service, where crashes of any command go too."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import IO

import platformdirs

from streamv2v_obs.errors import StreamV2VError

LOG_FORMAT = "%(asctime)s %(levelname)-7s %(processName)s/%(threadName)s %(name)s: %(message)s"
_LIMIT = 5_000_000


def log_path() -> Path:
    """The log of the background service, and of crashes."""
    return Path(platformdirs.user_log_dir("streamv2v-obs", appauthor=False)) / "streamv2v-obs.log"


def crash_log() -> str:
    """Send what is logged from here on to the log file too; returns where that is."""
    path = log_path()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        target: logging.Handler = logging.FileHandler(path, encoding="utf-8")
    except OSError as error:
        target, where = logging.StreamHandler(), f"the lines above ({path} cannot be written: {error.strerror})"
    else:
        where = str(path)
    target.setFormatter(logging.Formatter(LOG_FORMAT))
    logging.getLogger().addHandler(target)
    return where


def open_log() -> IO[bytes]:
    """The log, to be written to at its end; one that has grown large is put aside first."""
    path = log_path()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists() and path.stat().st_size > _LIMIT:
            path.replace(path.with_suffix(".old.log"))
        file = path.open("ab")
    except OSError as error:
        raise StreamV2VError(f"the log {path} cannot be written: {error.strerror}") from error
    file.seek(0, os.SEEK_END)
    return file
