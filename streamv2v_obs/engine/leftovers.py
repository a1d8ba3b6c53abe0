"""Shared memory of a service that was killed with all its processes at once, whose next start removes it.

Usually Python's own helper, the resource tracker, does that when the service is gone; the system's way out of low
memory, or of a session's end, may take the helper too, and the memory would be held until the machine starts again.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from multiprocessing.shared_memory import SharedMemory
from pathlib import Path

log = logging.getLogger(__name__)

_FILE = "shared-memory.json"


def note(folder: Path, names: Sequence[str]) -> None:
    """Write down in ``folder``, which is private, what this service has made."""
    try:
        (folder / _FILE).write_text(json.dumps(list(names)), encoding="utf-8")
    except OSError as error:  # no reason not to start; what has to be written there says so itself
        log.warning("%s cannot be written, and after a kill memory may be left: %s", folder / _FILE, error.strerror)


def forget(folder: Path) -> None:
    """All of it has been removed in order."""
    (folder / _FILE).unlink(missing_ok=True)


def remove(folder: Path) -> None:
    """Remove what a service before this one left behind. Only for who holds the lock: it may not be alive."""
    try:
        names = json.loads((folder / _FILE).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return
    except (OSError, ValueError) as error:
        log.warning("%s cannot be read, so nothing is removed: %s", folder / _FILE, error)
        names = []
    for name in names if isinstance(names, list) else []:
        if not isinstance(name, str):
            continue
        try:
            memory = SharedMemory(name=name)
        except (OSError, ValueError):  # it was removed, as it mostly is
            continue
        memory.close()
        memory.unlink()
        log.info("removed shared memory that a killed service left: %s", name)
    forget(folder)
