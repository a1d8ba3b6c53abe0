"""Whether a preset's files are the ones that were checked once; knows nothing of torch."""

from __future__ import annotations

import hashlib
import json
import logging
from pathlib import Path
from typing import Any

from streamv2v_obs.errors import ModelLoadError
from streamv2v_obs.translator.presets import LOCK_NAME, Preset, download_command

log = logging.getLogger(__name__)


def sha256_of(path: Path) -> str:
    """The sha256 of a file, as 64 hex digits."""
    with path.open("rb") as file:
        digest = hashlib.sha256()
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def git_hash_of(path: Path) -> str:
    """The id under which git keeps a file; the hub states it for files that are not in its large-file storage."""
    content = path.read_bytes()
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()


def note(path: Path) -> dict[str, Any]:
    """What the lock says of a file."""
    stat = path.stat()
    return {"sha256": sha256_of(path), "size": stat.st_size, "modified_ns": stat.st_mtime_ns}


def write_lock(preset: Preset, folder: Path, entries: dict[str, dict[str, Any]]) -> None:
    """Write the lock file: commits, and of each file what ``note`` gave."""
    content = {
        "preset": preset.name,
        "commits": {repository.name: repository.revision for repository in preset.repositories},
        "files": entries,
    }
    (folder / LOCK_NAME).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def verify_preset(preset: Preset, folder: Path) -> None:
    """Raise ModelLoadError where a preset's file is not the one that was downloaded and verified.

    A file whose size and time are those of the lock is taken as unchanged: hashing gigabytes at each start of the
    engine would cost seconds. Files put there by hand have no lock: their weights are checked against presets.py,
    and a lock is written.
    """
    if not preset.repositories:
        return
    lock = folder / LOCK_NAME
    fix = f"delete it and run: {download_command(preset)}"
    noted: dict[str, Any] = {}
    if lock.is_file():
        try:
            noted = dict(json.loads(lock.read_text(encoding="utf-8"))["files"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ModelLoadError(f"{lock}: cannot be read ({error}); {fix}") from error
    entries: dict[str, dict[str, Any]] = {}
    for repository in preset.repositories:
        for file in repository.files:
            name = f"{repository.into}/{file.path}"
            path = folder / name
            stat = path.stat()
            old = noted.get(name)
            unchanged = old and old.get("size") == stat.st_size and old.get("modified_ns") == stat.st_mtime_ns
            # A lock of an older version of this program, which pinned another commit, vouches for nothing.
            if old and unchanged and file.sha256 in (None, old.get("sha256")):
                entries[name] = old
                continue
            expected = file.sha256 or (old or {}).get("sha256")
            entries[name] = note(path)
            if expected is not None and entries[name]["sha256"] != expected:
                raise ModelLoadError(f"{path}: is not the verified file (sha256 {entries[name]['sha256']}); {fix}")
    if entries != noted:
        try:
            write_lock(preset, folder, entries)
        except OSError as error:
            log.warning("%s: cannot be written (%s); the files will be hashed at each start", lock, error.strerror)
