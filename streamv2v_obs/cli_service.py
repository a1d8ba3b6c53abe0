"""Commands that begin and end the service: run, start, stop, logs."""

from __future__ import annotations

import gc
import logging
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from streamv2v_obs.cli_log import LOG_FORMAT, log_path, open_streams, rotating_log, stream_log, streams_path
from streamv2v_obs.cli_output import Config, Json, Set, config_path, print_json, say
from streamv2v_obs.config import load_settings
from streamv2v_obs.errors import OUR_BUG, NotRunning, StreamV2VError
from streamv2v_obs.settings import Settings
from streamv2v_obs.settings_file import SettingsFile

if TYPE_CHECKING:
    import psutil

if sys.platform == "win32":
    from streamv2v_obs.cli_daemon_windows import on_end_signals, spawn_detached
else:
    from streamv2v_obs.cli_daemon_posix import on_end_signals, spawn_detached

log = logging.getLogger(__name__)

_START_S = 30.0
_STOP_S = 4.0
_KILL_S = 2.0


def register(app: typer.Typer) -> None:
    """Add the commands of this file."""
    app.command()(run)
    app.command()(start)
    app.command()(stop)
    app.command()(logs)


def run(
    config: Config = None,
    overrides: Set = None,
    # For `start` and `service install`: no link, which holds a key, and the log into its file.
    background: Annotated[bool, typer.Option("--background", hidden=True)] = False,
) -> None:
    """Run the service here until Ctrl-C."""
    from streamv2v_obs.control.endpoint import InstanceLock, runtime_folder
    from streamv2v_obs.engine import leftovers

    asked = threading.Event()
    on_end_signals(lambda number: asked.set())
    file = SettingsFile(config_path(config), overrides or ())
    settings = file.load()
    handlers = [rotating_log() if background else stream_log()]
    logging.basicConfig(level=settings.log.level.upper(), format=LOG_FORMAT, handlers=handlers)
    for chatty in ("httpx", "httpcore"):  # they tell addresses, which carry keys
        logging.getLogger(chatty).setLevel(logging.WARNING)
    lock = InstanceLock()
    lock.acquire()
    folder = runtime_folder()
    try:
        leftovers.remove(folder)
        _serve(settings, file, asked, folder, link=not background)
    finally:
        leftovers.forget(folder)
        lock.release()


def _serve(settings: Settings, file: SettingsFile, asked: threading.Event, folder: Path, *, link: bool) -> None:
    from streamv2v_obs.engine import leftovers
    from streamv2v_obs.service import Service

    service = Service(settings, file)
    leftovers.note(folder, service.shared_memory)
    ended: list[StreamV2VError | None] = []

    def watch() -> None:
        ended.append(service.wait_ended())
        asked.set()

    # What is loaded by now stays to the end. A collection that walks all of it keeps every thread waiting, the beat of
    # the outputs, too, for longer than a frame's interval on a busy machine.
    gc.collect()
    gc.freeze()
    try:
        service.start()
        if link:
            say(f"panel: {service.panel_link}")
            say("end it with Ctrl-C; another panel link: streamv2v-obs open")
        threading.Thread(target=watch, name="run-watch", daemon=True).start()
        # In small waits: on Windows a longer one would keep Ctrl-C out.
        while not asked.wait(0.2):
            pass
    finally:
        service.stop()
        service.join(2.0)
    if ended and ended[0] is not None:
        raise ended[0]


def start(config: Config = None, overrides: Set = None, as_json: Json = False) -> None:
    """Start the service in the background."""
    from streamv2v_obs.control.client import ServiceClient
    from streamv2v_obs.control.endpoint import refuse_second, require_endpoint

    path = config_path(config)
    settings = load_settings(path, overrides or ())  # a mistake is told here, before anything is started
    refuse_second()
    command = [sys.executable, "-m", "streamv2v_obs", "run", "--background"]
    command += ["--config", str(path.resolve())] if path else []
    command += [part for override in overrides or () for part in ("--set", override)]
    with open_streams() as file:
        child = spawn_detached(command, file)
    try:
        _wait_answering(child, settings.obs.required)
    except SystemExit:  # Ctrl-C: who has not seen it begin does not expect it to go on
        child.terminate()
        raise
    endpoint = require_endpoint()
    link = ServiceClient(endpoint).get("/v1/link")["panel"]
    if as_json:
        print_json({"pid": endpoint.pid, "address": endpoint.address, "panel": link, "log": str(log_path())})
    else:
        say(f"running as process {endpoint.pid}; log: {log_path()}")
        say(f"panel: {link}")


def _wait_answering(child: subprocess.Popen[bytes], needs_obs: bool) -> None:
    """Return once the service answers and has its source, and OBS if it needs that; raises its error if it ends."""
    from streamv2v_obs.control.client import ServiceClient
    from streamv2v_obs.control.endpoint import find_endpoint

    answers = False
    until = time.monotonic() + _START_S
    while time.monotonic() < until:
        code = child.poll()
        if code is not None:
            lines = streams_path().read_text(encoding="utf-8", errors="replace").splitlines()
            said = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
            error = StreamV2VError(said[-1] if said else f"the service ended with code {code}; see {log_path()}")
            error.exit_code = code if code > 0 else OUR_BUG
            raise error
        endpoint = find_endpoint()
        if endpoint is not None:
            try:
                status = ServiceClient(endpoint).get("/v1/status")
            except NotRunning:
                pass
            else:
                answers = True
                opened = status["engine"] is not None and status["engine"]["state"] != "opening"
                if opened and not (needs_obs and status["obs"]["state"] != "connected"):
                    return
        time.sleep(0.1)
    if answers:
        return  # a source that takes its time
    child.terminate()
    raise StreamV2VError(f"the service did not answer within {_START_S:.0f} s and was ended; see {log_path()}")


def stop(as_json: Json = False) -> None:
    """End the service."""
    import psutil

    from streamv2v_obs.control.client import ServiceClient
    from streamv2v_obs.control.endpoint import require_endpoint

    endpoint = require_endpoint()
    try:
        family = [psutil.Process(endpoint.pid), *psutil.Process(endpoint.pid).children(recursive=True)]
    except psutil.NoSuchProcess:
        family = []
    forced = False
    try:
        ServiceClient(endpoint).post("/v1/stop", {})
    except NotRunning as error:
        log.warning("%s", error)
        forced = True
    alive = family if forced else _wait_gone(family, _STOP_S)
    if alive:
        forced = True
        log.warning("%d processes did not end when asked, and are ended now", len(alive))
        _end(alive, psutil.Process.terminate)
        alive = _wait_gone(alive, _KILL_S)
        # One by one, the youngest child after the service: the oldest is Python's own, which gives back the shared
        # memory of those that could not, once they are gone.
        for process in [*alive[:1], *reversed(alive[1:])]:
            if process in alive:
                _end([process], psutil.Process.kill)
                alive = _wait_gone(alive, _KILL_S)
    if alive:
        raise StreamV2VError(f"process {alive[0].pid} cannot be ended")
    if as_json:
        print_json({"pid": endpoint.pid, "forced": forced})
    else:
        say("stopped")


def _end(processes: list[psutil.Process], how: Callable[[psutil.Process], None]) -> None:
    import psutil

    for process in processes:
        try:
            how(process)
        except psutil.NoSuchProcess:
            continue


def _wait_gone(family: list[psutil.Process], timeout_s: float) -> list[psutil.Process]:
    """Those of ``family`` that still run after ``timeout_s``."""
    until = time.monotonic() + timeout_s
    while family and time.monotonic() < until:
        family = [process for process in family if _runs(process)]
        time.sleep(0.05)
    return family


def _runs(process: psutil.Process) -> bool:
    import psutil

    try:
        # A zombie has ended; that nobody has asked after it is not its fault.
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def logs(
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with what is written from now on.")] = False,
    lines: Annotated[int, typer.Option("--lines", "-n", min=0, help="How many of the last lines.")] = 50,
) -> None:
    """Show the log of the background service."""
    path = log_path()
    if not path.is_file():
        raise NotRunning(f"{path}: there is no log yet; it begins with: streamv2v-obs start")
    asked = threading.Event()
    on_end_signals(lambda number: asked.set())
    data = path.read_bytes()
    _write(b"".join(data.splitlines(keepends=True)[-lines:] if lines else []))
    told = len(data)
    while follow and not asked.wait(0.2):
        if not path.is_file():
            continue  # being put aside
        if path.stat().st_size < told:
            told = 0  # a new one was begun
        with path.open("rb") as file:
            file.seek(told)
            data = file.read()
        _write(data)
        told += len(data)


def _write(said: bytes) -> None:
    sys.stdout.write(said.decode("utf-8", "replace"))
    sys.stdout.flush()
