"""Files and folders that only this user can read, on Linux and macOS."""

from __future__ import annotations

import os
import stat
import sys
import tempfile
from pathlib import Path

assert sys.platform != "win32"  # noqa: S101 - lets the type checker look at what only POSIX has


def private_folder(path: Path) -> None:
    """Make ``path`` a folder of mode 0700 that is ours; raises OSError where it is someone else's or a link."""
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    found = path.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
        raise PermissionError(f"{path} is not a folder of this user")
    if stat.S_IMODE(found.st_mode) & 0o077:
        path.chmod(0o700)


def write_private(path: Path, text: str) -> None:
    """Put ``text`` there in one step: the file has mode 0600 from its first moment and is never seen half-written."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")  # mkstemp creates with mode 0600
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def others_can_read(path: Path) -> bool:
    """Whether anyone but this user may open ``path``."""
    found = path.stat()
    return found.st_uid != os.getuid() or bool(stat.S_IMODE(found.st_mode) & 0o077)
