"""The engine process from the inside: its entry, its pipe, its last word."""

from __future__ import annotations

import contextlib
import functools
import logging
import logging.handlers
import os
import signal
import sys
import threading
from dataclasses import dataclass
from multiprocessing.connection import Connection

import psutil

from streamv2v_obs.commands import CommandBox
from streamv2v_obs.engine.slot import FrameSlot
from streamv2v_obs.errors import OUR_BUG, StreamV2VError
from streamv2v_obs.settings import Settings
from streamv2v_obs.stats import EngineFailure, EngineStatus, ScheduleChoice

log = logging.getLogger(__name__)

_LAST_MOMENTS_S = 1.0
_NICE = 5
"""A third of the service's share of a core, where both want all of it."""


@dataclass(frozen=True)
class EngineSpec:
    """All that a new engine process is told at birth."""

    settings: Settings
    output: str
    view: str
    capacity: int
    patient: bool = False
    """A source that cannot be opened is waited for: an engine before this one has shown pictures of it."""
    schedules: tuple[ScheduleChoice, ...] = ()
    """What engines before this one chose, with the same settings."""


def run_engine(pipe: Connection, spec: EngineSpec) -> None:
    """Entry of the engine process; ends when told to, when the service is gone, or on an error, which it reports."""
    # Ctrl-C reaches every process of the terminal; the service decides in what order they end.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _give_way()
    pipe_lock = threading.Lock()
    # The service writes the log of both: only so does one process own the file, and see what the panel shows.
    logging.basicConfig(level=spec.settings.log.level.upper(), handlers=[_ToService(pipe, pipe_lock)])
    commands, stop = CommandBox(), threading.Event()
    threading.Thread(target=_listen, args=(pipe, commands, stop), name="pipe", daemon=True).start()
    output = FrameSlot.attach(spec.output, spec.capacity)
    view = FrameSlot.attach(spec.view, spec.capacity)
    try:
        _tell(pipe, pipe_lock, EngineStatus())  # before torch is imported, which takes seconds
        from streamv2v_obs.engine.loop import EngineLoop

        report = functools.partial(_tell, pipe, pipe_lock)
        loop = EngineLoop(
            spec.settings,
            output,
            view,
            commands,
            stop,
            report,
            patient=spec.patient,
            schedules=spec.schedules,
        )
        loop.run()
    except StreamV2VError as error:
        _tell(pipe, pipe_lock, EngineFailure(type(error).__name__, str(error), error.exit_code))
    except Exception as error:
        log.exception("the engine ends")
        text = " ".join(str(error).split())
        _tell(pipe, pipe_lock, EngineFailure(type(error).__name__, f"the engine ended: {text}", OUR_BUG))
    finally:
        output.close()
        view.close()
    logging.shutdown()
    # Worker threads of native libraries may never end by themselves; all that must be closed is closed by now.
    os._exit(0)


def _give_way() -> None:
    """Behind the service, wherever both want the processor: a late picture is held, a late beat is a stop."""
    if sys.platform == "win32":
        psutil.Process().nice(psutil.BELOW_NORMAL_PRIORITY_CLASS)
    else:
        psutil.Process().nice(max(_NICE, psutil.Process().nice()))


def _tell(pipe: Connection, lock: threading.Lock, message: EngineStatus | EngineFailure | logging.LogRecord) -> None:
    # Nobody who listens any more is no matter: the pipe's other end, when it breaks, ends this process.
    with lock, contextlib.suppress(OSError, EOFError):
        pipe.send(message)


class _ToService(logging.handlers.QueueHandler):
    """Sends records through the pipe instead of a queue."""

    def __init__(self, pipe: Connection, lock: threading.Lock) -> None:
        super().__init__(queue=None)  # type: ignore[arg-type]
        self.setFormatter(logging.Formatter())  # the message alone: the service's own says the rest
        self._send = functools.partial(_tell, pipe, lock)

    def enqueue(self, record: logging.LogRecord) -> None:
        """Send it, prepared for another process."""
        self._send(record)


def _listen(pipe: Connection, commands: CommandBox, stop: threading.Event) -> None:
    try:
        while True:
            commands.post(pipe.recv())
    except (OSError, EOFError):
        # The service is gone, perhaps killed. A main thread inside a long inference would outlive it.
        stop.set()
        threading.Timer(_LAST_MOMENTS_S, os._exit, (0,)).start()
