"""The thread "obs": holds the link to OBS, whatever becomes of it, and turns its events into commands."""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from typing import Literal, TypeAlias, TypeVar

from streamv2v_obs.commands import Bypass, Change
from streamv2v_obs.errors import ObsError, ObsRefused, ObsUnreachable
from streamv2v_obs.obs.client import Events, Requests, open_events, open_requests
from streamv2v_obs.obs.events import (
    CollectionChanged,
    CollectionChanging,
    Connected,
    Disconnected,
    Event,
    ExitStarted,
    ProgramSceneChanged,
    ProgramSceneSeen,
    TransitionStarted,
    parse,
)
from streamv2v_obs.obs.policy import State, decide
from streamv2v_obs.settings import ObsSettings
from streamv2v_obs.stats import ObsStatus

log = logging.getLogger(__name__)

HEARTBEAT_S = 2.0
"""How often OBS is asked for its program scene, to notice that it is gone or that an event was lost."""
ASK_AGAIN_S = 0.05
"""For this long OBS may name the old scene at the start of a transition, or the preview when studio mode ends."""
COLLECTION_S = 30.0
"""Longest silence that a change of the scene collection is allowed."""
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.5, 5.0
"""Between two attempts to connect; below 10 s together with the longest attempt, so that OBS is back within that."""

Link = TypeVar("Link", Requests, Events)
LinkState: TypeAlias = Literal["off", "connecting", "connected", "refused"]
_LEVELS: dict[LinkState, int] = {
    "off": logging.INFO,
    "connecting": logging.WARNING,
    "connected": logging.INFO,
    "refused": logging.ERROR,
}


class ObsListener:
    """Applies the rules for scenes as long as OBS can be reached, and waits for it as long as it cannot.

    ``post`` and ``set_bypass`` are called by its thread and must not block. Losing OBS posts nothing: what is in
    force stays in force.
    """

    def __init__(
        self, settings: ObsSettings, post: Callable[[Change], None], set_bypass: Callable[[bool], None]
    ) -> None:
        self._settings = settings
        self._post = post
        self._set_bypass = set_bypass
        self._early = any(rule.when == "start" for rule in settings.rules)
        self._thread = threading.Thread(target=self._run, name="obs", daemon=True)
        self._stopping = threading.Event()
        self._lock = threading.Lock()
        self._links: list[Requests | Events] = []  # guarded by _lock: open now, for stop to close
        self._status = ObsStatus()  # replaced as a whole, by the thread; read by any
        self._told: LinkState | None = None  # what was logged last; the thread's own, like what follows
        self._state = State()
        self._ask_at = 0.0

    def start(self) -> None:
        """Begin; once."""
        self._thread.start()

    def stop(self) -> None:
        """Ask for the end; even a request to an OBS that is frozen is given up at once."""
        self._stopping.set()
        with self._lock:
            links = list(self._links)
        for link in links:
            link.close()

    def join(self, timeout_s: float | None = None) -> None:
        """Wait for the end that ``stop`` asked for; it takes at most ``client.CONNECT_S``."""
        if self._thread.ident is not None:
            self._thread.join(timeout_s)

    def status(self) -> ObsStatus:
        """How the link is, and which rule is in force."""
        return self._status

    # --- everything below runs in the thread ---

    def _run(self) -> None:
        failures = 0
        self._become("connecting")
        while not self._stopping.is_set():
            connects = self._status.connects
            try:
                self._hold_link()
            except ObsRefused as error:
                self._become("refused", str(error))
                return
            except ObsError as error:
                reason = str(error)
            except Exception as error:
                # Our bug. Without this the thread would be gone and nobody the wiser.
                log.exception("OBS: unexpected %s", type(error).__name__)
                reason = f"unexpected {type(error).__name__}"
            if self._stopping.is_set():
                break
            self._become("connecting", reason)
            failures = 0 if self._status.connects > connects else failures + 1
            pause_s = min(FIRST_PAUSE_S * 2**failures, LONGEST_PAUSE_S)
            self._stopping.wait(pause_s * random.uniform(0.6, 1.0))  # noqa: S311  spreads load, guards nothing
        self._become("off")

    def _hold_link(self) -> None:
        """Connect and follow OBS until the link breaks (an ObsError) or ``stop`` is called."""
        try:
            with (
                closing(self._opened(open_requests(self._settings))) as requests,
                # Subscribed before the scene is asked for: no change can fall in between.
                closing(self._opened(open_events(self._settings))) as events,
            ):
                version, scene = requests.version(), requests.program_scene()
                self._take(Connected(scene, str(version)))
                self._status = replace(self._status, version=str(version), connects=self._status.connects + 1)
                self._become("connected", f"{self._settings.host}:{self._settings.port}, version {version}")
                self._follow(requests, events)
        finally:
            self._take(Disconnected())
            with self._lock:
                self._links.clear()

    def _opened(self, link: Link) -> Link:
        with self._lock:
            self._links.append(link)
        if self._stopping.is_set():
            link.close()
        return link

    def _follow(self, requests: Requests, events: Events) -> None:
        self._ask_at = time.monotonic() + HEARTBEAT_S
        while not self._stopping.is_set():
            message = events.read(max(self._ask_at - time.monotonic(), 0.0))
            event = parse(message) if message is not None else None
            if event is not None:
                self._follow_event(event, requests)
            if time.monotonic() >= self._ask_at:
                self._ask(requests)

    def _follow_event(self, event: Event, requests: Requests) -> None:
        match event:
            case ProgramSceneChanged() if self._state.changing_collection:
                pass  # no requests now; CollectionChanged asks
            case ProgramSceneChanged(scene) if self._state.in_transition:
                # Fast switching leaves a trail of scenes that are over already. Only what is still so counts; what
                # came instead has an event of its own under way.
                if requests.program_scene() == scene:
                    self._take(event)
            case ProgramSceneChanged():
                # No transition led there. Leaving studio mode is told so: the scene of the preview first, which
                # even requests see for a moment, then the one that is on air. The truth is what is so a little later.
                self._ask_soon()
            case TransitionStarted():
                self._take(event)
                if self._early and not self._state.changing_collection:
                    before = self._state.scene
                    if self._ask(requests) == before:
                        self._ask_soon()
            case CollectionChanging():
                self._take(event)
                self._ask_at = time.monotonic() + COLLECTION_S
            case CollectionChanged():
                self._take(event)
                self._ask(requests)
            case ExitStarted():
                # OBS waits some seconds for clients that stay.
                raise ObsUnreachable("OBS was closed")
            case _:
                self._take(event)

    def _ask_soon(self) -> None:
        self._ask_at = min(self._ask_at, time.monotonic() + ASK_AGAIN_S)

    def _ask(self, requests: Requests) -> str:
        scene = requests.program_scene()
        self._ask_at = time.monotonic() + HEARTBEAT_S
        self._take(ProgramSceneSeen(scene))
        return scene

    def _take(self, event: Event) -> None:
        before = self._state.scene
        self._state, commands = decide(self._settings.rules, self._state, event)
        for command in commands:
            if isinstance(command, Bypass):
                self._set_bypass(command.on)
            else:
                self._post(command)
        rule = self._state.rule
        self._status = replace(self._status, scene=self._state.scene, rule=rule.scene if rule else None)
        if self._state.scene != before:
            log.info("OBS: scene %r, %s", self._state.scene, f"rule {rule.scene!r}" if rule else "no rule")

    def _become(self, state: LinkState, detail: str = "") -> None:
        self._status = replace(self._status, state=state, detail=detail)
        if state == "connecting" and not detail:
            return  # the first attempt; what becomes of it is worth a line
        if state != self._told:
            self._told = state
            log.log(_LEVELS[state], "OBS: %s%s", state, f": {detail}" if detail else "")
