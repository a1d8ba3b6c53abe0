"""What takes minutes to make: made once, kept in the user's cache for all later runs, and what stands in its way."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import filelock
import platformdirs

CACHE = platformdirs.user_cache_path("streamv2v-obs-tests")
STEP_S = 300


@dataclass(frozen=True)
class Kept:
    """A folder of the cache. However many processes ask for it at a time, one makes it and the others wait."""

    name: str
    recipe: bytes
    """What it depends on: with another recipe it is another folder."""
    make: Callable[[Path, Path], None]
    """Called with a folder for what is needed on the way, and the one to fill. Raises RuntimeError if it cannot."""
    what: str
    """It, in a sentence."""
    how: str
    """The rest of a sentence that begins "... is made"; told where one of ``programs`` is not here."""
    programs: tuple[str, ...] = ()
    patience_s: float = 2 * STEP_S
    """For another process to make it."""
    cache: Path = CACHE

    @property
    def folder(self) -> Path:
        """Where it is kept, made or not."""
        return self.cache / f"{self.name}-{hashlib.sha256(self.recipe).hexdigest()[:16]}"

    @property
    def there(self) -> bool:
        """Whether it is made."""
        return (self.folder / "done").exists()

    def made(self) -> Path:
        """Its folder; made first, unless it is kept already. Raises what ``make`` raises, or filelock.Timeout."""
        folder = self.folder
        folder.parent.mkdir(parents=True, exist_ok=True)
        with filelock.FileLock(f"{folder}.lock", timeout=self.patience_s):
            if not self.there:
                # Beside it: a move within a file system is all or nothing, so who is killed leaves no half of it here.
                work = folder.with_name(f"{folder.name}.making")
                filled = work / "filled"
                try:
                    for left in (folder, work):
                        shutil.rmtree(left, ignore_errors=True)
                    filled.mkdir(parents=True)
                    self.make(work, filled)
                    (filled / "done").touch()
                    filled.rename(folder)
                finally:
                    shutil.rmtree(work, ignore_errors=True)
        return folder

    def obstacle(self, instead: str = "") -> str:
        """Why it is not there, after an attempt to make it, or ``instead`` of one; empty if it is."""
        if self.there:
            return ""
        if missing := [program for program in self.programs if shutil.which(program) is None]:
            return f"{self.what} is made {self.how}; not here: {', '.join(missing)}"
        if instead:
            return instead
        try:
            self.made()
        except (RuntimeError, filelock.Timeout) as error:
            return f"{self.what} could not be made: {error}"
        return ""


def run(*command: str, cwd: Path | None = None, timeout_s: float = STEP_S) -> str:
    """What a step of the making prints; raises RuntimeError if it fails or takes too long."""
    try:
        done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=timeout_s)
    except subprocess.TimeoutExpired as error:
        raise RuntimeError(str(error)) from None
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)} ended with {done.returncode}: {(done.stdout + done.stderr)[-3000:]}")
    return done.stdout
