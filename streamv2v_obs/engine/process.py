"""The engine process from the outside: spawned, watched, restarted within a budget, never waited for."""

from __future__ import annotations

import logging
import multiprocessing
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from multiprocessing.connection import Connection
from typing import Literal, TypeAlias

from streamv2v_obs.commands import Bypass, Change, Command, CommandBox, Stop, WatchInput
from streamv2v_obs.engine.child import EngineSpec, run_engine
from streamv2v_obs.errors import OUR_BUG
from streamv2v_obs.settings import Settings
from streamv2v_obs.stats import EngineFailure, EngineStatus

if sys.platform != "win32":
    from streamv2v_obs.engine.ctrl_c_posix import keep_from_children

log = logging.getLogger(__name__)

State: TypeAlias = Literal["starting", "running", "restarting", "waiting", "stopped"]

RESTARTS, BUDGET_S = 5, 60.0
"""So many restarts within so many seconds; then the engine stays down until the oldest of them has aged out."""
_DEATHS = 2
"""So often may an engine with new settings die without a word before they are given up: once may be chance."""

_SILENT_S = 6.0
_SILENT_FRAMES = 5
"""So many times the time of its slow frames an engine may be silent, where that is longer."""
_SILENT_WHILE_LOADING_S = 600.0
_LINES = {
    "opening": "Starting",
    "loading": "Loading the model",
    "running": "",
    "stalled": "Waiting for a picture to translate",
}
_STOP_S = 1.0
_TICK_S = 0.1
_ASLEEP_S = 1.0
"""So long between two looks, and it was this process that stood still: that the engine was silent says nothing."""


class EngineProcess:
    """Keeps one engine process alive. All methods return at once; the thread "engine-watch" does the work.

    ``on_failure`` is called (in that thread) with each failure that happened before any picture was translated;
    if it returns False no further attempt is made. ``say`` is told, for the slate, why there is no picture.
    """

    def __init__(
        self,
        spec: EngineSpec,
        on_failure: Callable[[EngineFailure], bool],
        say: Callable[[str], None],
        on_return: Callable[[EngineFailure, Settings], None] = lambda failure, settings: None,
    ) -> None:
        self._spec = spec
        self._say = say
        self._on_failure = on_failure
        self._on_return = on_return
        self._context = multiprocessing.get_context("spawn")
        self._stop = threading.Event()
        self._commands = CommandBox()
        self._lock = threading.Lock()
        self._in_force = Change()  # guarded by _lock: what a new engine has to be told
        self._bypass = False  # guarded by _lock
        self._watch_input = False  # guarded by _lock
        self.state: State = "starting"
        self.status: EngineStatus | None = None
        self.failure: EngineFailure | None = None
        self.restarts = 0
        self._worked = False  # guarded by _lock, like _spec and what follows
        self._before: EngineSpec | None = None  # what worked, while it is not known whether what is newer does
        self._deaths = 0  # guarded by _lock: of engines with these settings, before any of them has worked
        self._renew = threading.Event()
        self._child: multiprocessing.context.SpawnProcess | None = None
        self._thread = threading.Thread(target=self._run, name="engine-watch", daemon=True)

    @property
    def pid(self) -> int | None:
        """Of the engine process that runs now."""
        return self._child.pid if self._child is not None else None

    def start(self) -> None:
        """Spawn the first engine."""
        self._thread.start()

    def post(self, command: Command) -> None:
        """Send ``command`` between two frames; what it sets is set again in every later engine."""
        with self._lock:
            if isinstance(command, Change):
                lasting = command.over(self._in_force)
                self._in_force = replace(lasting, bank="keep", bank_of=None, save_as=None, blend_s=0.0)
            elif isinstance(command, Bypass):
                self._bypass = command.on
            elif isinstance(command, WatchInput):
                self._watch_input = command.on
        self._commands.post(command)

    def use(self, settings: Settings, *, renew: bool) -> None:
        """Take ``settings`` for every engine from the next one on; ``renew`` starts that at once.

        Settings that an engine cannot begin with are given up for those before, which ``on_return`` is told.
        """
        with self._lock:
            if renew and self._worked:
                self._before, self._worked = self._spec, False
            if renew:
                self._deaths = 0
                self._spec = replace(self._spec, schedules=())
            self._spec = replace(self._spec, settings=settings)
            style = self._in_force.style
            if style and style not in settings.model.styles:
                self._in_force = replace(self._in_force, style=None)
            if renew:
                self._renew.set()

    def stop(self) -> None:
        """Ask the engine and its watch to end."""
        self._stop.set()

    def join(self, timeout_s: float) -> None:
        """Wait for both."""
        if self._thread.ident is not None:
            self._thread.join(timeout_s)

    def _run(self) -> None:
        if sys.platform != "win32":  # there, a process that is starting cannot be kept from it
            keep_from_children()
        born: deque[float] = deque(maxlen=RESTARTS + 1)
        while not self._stop.is_set():
            now = time.monotonic()
            if len(born) > RESTARTS and now - born[0] < BUDGET_S:
                wait_s = BUDGET_S - (now - born[0])
                log.error("the engine ended %d times within a minute; next attempt in %.0f s", RESTARTS + 1, wait_s)
                self.state = "waiting"
                self._say("The engine failed again and again; the next attempt is within a minute")
                self._wait_for_renewal(wait_s)
                if self._renew.is_set():
                    born.clear()
                continue
            if born:
                self.restarts += 1
                self.state = "restarting"
            born.append(now)
            try:
                failure = self._one_life()
            except OSError as error:  # no memory, no process numbers: the outputs must not notice
                failure = EngineFailure("Unstarted", f"no engine process can be started: {error}", OUR_BUG)
            if self._stop.is_set():
                break
            if self._renew.is_set():
                self._renew.clear()
                born.clear()
                self.failure = None
                self.state = "restarting"
                continue
            self.failure = failure
            log.error("%s", failure.message)
            if self._returned(failure):
                born.clear()
                continue
            if not self._worked and not self._on_failure(failure):
                break
            self.state = "restarting"
            self._say("The engine is restarting")
        self.state = "stopped"

    def _wait_for_renewal(self, wait_s: float) -> None:
        until = time.monotonic() + wait_s
        while not self._stop.wait(_TICK_S) and not self._renew.is_set() and time.monotonic() < until:
            pass

    def _returned(self, failure: EngineFailure) -> bool:
        """Whether new settings are given up for those before, which worked: the user has to act, not we to retry."""
        with self._lock:
            before = self._before
            if before is None or self._worked:
                return False
            if failure.exit_code == OUR_BUG:
                # Also whatever the system killed, for its memory say.
                self._deaths += 1
                if self._deaths < _DEATHS:
                    return False
            self._spec, self._before, self._worked = before, None, True
        self.state = "restarting"
        self._on_return(failure, before.settings)
        return True

    def _one_life(self) -> EngineFailure:
        """Spawn an engine and stay with it to its end."""
        ours, theirs = self._context.Pipe()
        child = self._context.Process(target=run_engine, args=(theirs, self._spec_now()), name="engine", daemon=True)
        child.start()
        self._child = child
        theirs.close()
        with self._lock:
            self._commands.drain()
            if self._in_force != Change():
                self._commands.post(self._in_force)
            if self._bypass:
                self._commands.post(Bypass(True))
            if self._watch_input:
                self._commands.post(WatchInput(True))
        sender = threading.Thread(target=self._send, args=(ours, child), name="engine-commands", daemon=True)
        sender.start()
        try:
            return self._watch(ours, child)
        finally:
            if child.is_alive():
                child.kill()
            child.join()
            # Only now: a sender blocked by a full pipe is freed by the death of its reader.
            sender.join(_STOP_S)
            ours.close()
            self._child = None
            self.status = None  # what it said of itself is no longer so

    def _spec_now(self) -> EngineSpec:
        """The spec with the source in force: the one it began with may be a camera that nobody wants on any more."""
        with self._lock:
            source, spec, patient = self._in_force.source, self._spec, self._worked or self._before is not None
            self._renew.clear()  # this is what was asked for
        settings = spec.settings
        if source is not None:
            settings = settings.model_copy(update={"capture": source})
        return replace(spec, settings=settings, patient=patient)

    def _watch(self, pipe: Connection, child: multiprocessing.context.SpawnProcess) -> EngineFailure:
        heard_at = looked_at = time.monotonic()
        patience_s, slowest_ms = _SILENT_WHILE_LOADING_S, 0.0
        while True:
            asleep_s = time.monotonic() - looked_at
            looked_at += asleep_s
            if asleep_s > _ASLEEP_S:
                heard_at += asleep_s
            if self._stop.is_set():
                child.join(_STOP_S)
                return EngineFailure("Stopped", "the engine was told to end", 0)
            if self._renew.is_set():
                return EngineFailure("Renewed", "the engine is started anew with other settings", 0)
            try:
                if pipe.poll(_TICK_S):
                    message = pipe.recv()
                    if isinstance(message, logging.LogRecord):
                        # No sign of life: other threads of an engine that hangs may go on talking.
                        logging.getLogger(message.name).handle(message)
                        continue
                    heard_at = time.monotonic()
                    if isinstance(message, EngineFailure):
                        child.join(_STOP_S)
                        return message
                    if self.status is None or message.state != self.status.state:
                        self._say(_LINES[message.state])
                    self.status = message
                    self._keep_schedules(message)
                    slowest_ms = max(slowest_ms, message.translate_ms_p95 or 0.0)
                    patience_s = max(_SILENT_S, _SILENT_FRAMES * slowest_ms / 1000)
                    if message.state in ("opening", "loading"):
                        patience_s = _SILENT_WHILE_LOADING_S
                    if message.translated or message.bypass:
                        with self._lock:
                            if not self._renew.is_set():
                                self._worked, self._before = True, None
                        self.state = "running"
            except (OSError, EOFError):
                child.join(_STOP_S)
                return EngineFailure("Died", f"the engine process died (exit code {child.exitcode})", 70)
            now = time.monotonic()
            if now - looked_at > _ASLEEP_S:
                continue  # asleep within this very look
            silent_s = now - heard_at
            if silent_s > patience_s:
                return EngineFailure("Hung", f"the engine was silent for {silent_s:.0f} s and was ended", 70)

    def _keep_schedules(self, said: EngineStatus) -> None:
        """What the engine chose is in force in the next one: it may begin at a busier moment, and choose otherwise."""
        with self._lock:
            if said.schedules and not self._renew.is_set():
                self._spec = replace(self._spec, schedules=said.schedules)

    def _send(self, pipe: Connection, child: multiprocessing.context.SpawnProcess) -> None:
        """Send what is posted; a full pipe blocks this thread alone, and newer commands replace older ones."""
        told_to_stop = False
        while child.is_alive() and not told_to_stop:
            if self._stop.is_set():
                self._commands.post(Stop())
            for command in self._commands.drain():
                try:
                    pipe.send(command)
                except (OSError, EOFError, ValueError):
                    return
                told_to_stop = told_to_stop or isinstance(command, Stop)
            self._commands.wait(_TICK_S)
