"""Files and folders that only this user can read, on Windows.

No access list is written: everything lives below %LOCALAPPDATA%, whose inherited list already admits this user,
SYSTEM and administrators alone.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path


def private_folder(path: Path) -> None:
    """Make ``path`` a folder."""
    path.mkdir(parents=True, exist_ok=True)


def write_private(path: Path, text: str) -> None:
    """Put ``text`` there in one step; it is never seen half-written."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def others_can_read(path: Path) -> bool:
    """Whether anyone but this user may open ``path``; not asked here, the folder decides."""
    return False
