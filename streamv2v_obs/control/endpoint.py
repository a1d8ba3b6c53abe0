"""Where the running service is: its address, process and token, in one small file that only this user can read."""

from __future__ import annotations

import os
import sys
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path

import filelock
import platformdirs
from pydantic import BaseModel, ConfigDict, ValidationError

from streamv2v_obs.errors import AlreadyRunning, ConfigError, NotRunning

if sys.platform == "win32":
    from streamv2v_obs.control.private_windows import others_can_read, private_folder, write_private
else:
    from streamv2v_obs.control.private_posix import others_can_read, private_folder, write_private

APP = "streamv2v-obs"
_FILE = "service.json"
_PATIENCE_S = 0.3  # ``is_held`` of another command takes the lock for a moment
FOLDER_VARIABLE = "STREAMV2V_RUNTIME_DIR"
"""Names another folder for the lock and the endpoint file; two services need two folders and two ports."""


class Endpoint(BaseModel):
    """What the command line needs to talk to the service."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    address: str
    pid: int
    token: str


def runtime_folder() -> Path:
    """The folder for what lives as long as the service, private to this user; made if it is missing."""
    for folder in _candidates():
        try:
            private_folder(folder)
        except OSError:
            continue
        return folder
    raise ConfigError(
        f"no private folder can be made at any of {', '.join(map(str, _candidates()))}; "
        f"name one with the environment variable {FOLDER_VARIABLE}"
    )


def _candidates() -> Iterator[Path]:
    if chosen := os.environ.get(FOLDER_VARIABLE):
        yield Path(chosen)
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        runtime = Path(platformdirs.user_runtime_dir(APP, appauthor=False))
    if not _is_guessable(runtime):
        yield runtime
    yield Path(platformdirs.user_state_dir(APP, appauthor=False)) / "run"
    yield Path(platformdirs.user_cache_dir(APP, appauthor=False)) / "run"


def _is_guessable(runtime: Path) -> bool:
    """Whether platformdirs fell back to a name in the shared temporary folder, which anybody may have made before.

    Its warning cannot tell: it comes once in a process, and this is asked more often.
    """
    if sys.platform in ("win32", "darwin"):
        return False  # their temporary folders are the user's own
    given = os.environ.get("XDG_RUNTIME_DIR")
    return runtime.is_relative_to(tempfile.gettempdir()) and not (given and runtime.is_relative_to(given))


def publish_endpoint(address: str, token: str) -> Path:
    """Tell the command line that this process is the service; returns the file to unlink at the end."""
    path = runtime_folder() / _FILE
    write_private(path, Endpoint(address=address, pid=os.getpid(), token=token).model_dump_json() + "\n")
    return path


def find_endpoint() -> Endpoint | None:
    """The running service; None without one.

    The lock is the authority on what runs, for it ends with its process: a file that a killed service left counts
    as none, and whoever takes the lock removes it.
    """
    for folder in _candidates():
        path = folder / _FILE
        try:
            if others_can_read(path):
                raise ConfigError(f"{path}: others can read it or own it; remove it and restart the service")
            endpoint = Endpoint.model_validate_json(path.read_text(encoding="utf-8"))
        except (FileNotFoundError, NotADirectoryError):
            continue
        except (OSError, ValidationError) as error:
            raise ConfigError(f"{path}: cannot be read ({type(error).__name__}); remove it") from error
        if InstanceLock(folder).is_held():
            return endpoint
    return None


def require_endpoint() -> Endpoint:
    """The running service; raises NotRunning with the command that starts it."""
    endpoint = find_endpoint()
    if endpoint is None:
        raise NotRunning("the service is not running; start it with: streamv2v-obs start")
    return endpoint


class InstanceLock:
    """Held by the one service of this user; the system gives it back even if the process is killed."""

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder or runtime_folder()
        self._lock = filelock.FileLock(self._folder / "service.lock")

    def acquire(self) -> None:
        """Raises AlreadyRunning naming the process and the address of the service that holds it."""
        try:
            self._lock.acquire(timeout=_PATIENCE_S)
        except filelock.Timeout:
            raise AlreadyRunning(_already_running()) from None
        (self._folder / _FILE).unlink(missing_ok=True)

    def release(self) -> None:
        """Let the next service start."""
        self._lock.release()

    def is_held(self) -> bool:
        """Whether some service holds it now."""
        try:
            self._lock.acquire(timeout=0)
        except filelock.Timeout:
            return True
        self._lock.release()
        return False


def refuse_second() -> None:
    """Raise AlreadyRunning if a service holds the lock."""
    if InstanceLock().is_held():
        raise AlreadyRunning(_already_running())


def _already_running() -> str:
    endpoint = find_endpoint()
    where = f"as process {endpoint.pid} at {endpoint.address}" if endpoint else "(still starting or ending)"
    return f"the service is already running {where}; end it with: streamv2v-obs stop"
