"""The thread "obs": holds the link to OBS, whatever becomes of it, and turns its events into commands."""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import replace
from typing import Literal, TypeAlias, TypeVar

from streamv2v_obs.commands import Change
from streamv2v_obs.errors import ConfigError, ObsError, ObsRefused, ObsUnreachable
from streamv2v_obs.obs.chores import Chore, do_due
from streamv2v_obs.obs.client import Events, Requests, no_is_an_answer, open_events, open_requests
from streamv2v_obs.obs.events import Connected, Disconnected, Event, ExitStarted, VirtualCameraSwitched, parse
from streamv2v_obs.obs.hearing import Hearing
from streamv2v_obs.obs.policy import State
from streamv2v_obs.obs.prompt_text import PromptText
from streamv2v_obs.obs.scenes import HEARTBEAT_S
from streamv2v_obs.obs.wishes import Steered
from streamv2v_obs.obs.write_back import SoundDelay, StatusText
from streamv2v_obs.settings import ObsSettings, Settings
from streamv2v_obs.stats import ObsStatus

log = logging.getLogger(__name__)

GOODBYE_S = 0.4
"""Longest wait for one answer while things are put back at the end; the service is given 2 s for all of its end."""
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
    """Applies what OBS says as long as it can be reached, and waits for it as long as it cannot.

    ``steered`` is called by its thread. Losing OBS asks nothing of it: what is in force stays in force. ``before``
    is the listener that this one takes over from, and that has ended: what it has heard is no news.
    """

    def __init__(self, settings: Settings, steered: Steered, before: ObsListener | None = None) -> None:
        self._settings = settings.obs
        self._after: ObsSettings | None = None  # those of the listener that takes over
        self._steered = steered
        self._thread = threading.Thread(target=self._run, name="obs", daemon=True)
        self._stopping = threading.Event()
        self._lock = threading.Lock()
        self._links: list[Requests | Events] = []  # guarded by _lock: open now, for stop to close
        self._status = ObsStatus()  # replaced as a whole, by the thread; read by any
        self._told: LinkState | None = None  # what was logged last; the thread's own, like what follows
        self._complaints: dict[str, str] = {}  # matter -> what cannot be done
        self._hearing = Hearing(settings, steered, self._complain)
        self._scenes = self._hearing.scenes
        if before is not None:
            self._hearing.take_over(before._hearing)
        going_on = () if before is None else _going_on(before._chores, before._settings, settings.obs)
        self._chores: tuple[Chore, ...] = _chores(settings, steered, going_on)

    def start(self) -> None:
        """Begin; once."""
        self._thread.start()

    def stop(self, after: ObsSettings | None = None) -> None:
        """Ask for the end; even a request to an OBS that is frozen is given up at once.

        ``after`` are the settings of a listener that takes over: what both set in OBS is not put back.
        """
        self._after = after
        self._stopping.set()
        with self._lock:
            links = list(self._links)
        for link in links:
            link.close()

    def join(self, timeout_s: float | None = None) -> None:
        """Wait for the end that ``stop`` asked for; it takes at most ``connection.CONNECT_S``."""
        if self._thread.ident is not None:
            self._thread.join(timeout_s)

    @property
    def state(self) -> State:
        """The scene and the rule in force; to be asked for once it has ended."""
        return self._scenes.state

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
        self._put_back()
        self._become("off")

    def _hold_link(self) -> None:
        """Connect and follow OBS until the link breaks (an ObsError) or ``stop`` is called."""
        try:
            with (
                closing(self._opened(open_requests(self._settings))) as requests,
                # Subscribed before the scene is asked for: no change can fall in between.
                closing(self._opened(open_events(self._settings))) as events,
            ):
                version, (scene, uuid) = requests.version(), requests.program()
                self._scenes.take(Connected(scene, str(version), uuid))
                self._hearing.begin(version)
                self._status = replace(self._status, virtual_camera=requests.virtual_camera())
                self._status = replace(self._status, version=str(version), connects=self._status.connects + 1)
                self._tell_scene()
                for chore in self._chores:
                    chore.begin(version, time.monotonic())
                self._become("connected", f"{self._settings.host}:{self._settings.port}, version {version}")
                self._follow(requests, events)
        finally:
            self._scenes.take(Disconnected())
            self._status = replace(self._status, virtual_camera=False)
            with self._lock:
                self._links.clear()

    def _put_back(self) -> None:
        going_on = () if self._after is None else _going_on(self._chores, self._settings, self._after)
        changed = [chore for chore in self._chores if chore.changed and chore not in going_on]
        if not changed or self._status.state != "connected":
            return
        # Not by the connection that was: ``stop`` closed it, since its thread may have waited for a frozen OBS.
        hasty = self._settings.model_copy(update={"timeout_s": GOODBYE_S})
        with suppress(ObsError), closing(open_requests(hasty)) as requests:
            for chore in changed:
                with no_is_an_answer():
                    chore.put_back(requests)

    def _opened(self, link: Link) -> Link:
        with self._lock:
            self._links.append(link)
        if self._stopping.is_set():
            link.close()
        return link

    def _follow(self, requests: Requests, events: Events) -> None:
        self._scenes.ask_at = time.monotonic() + HEARTBEAT_S
        while not self._stopping.is_set():
            self._hearing.look(requests)
            self._tell_scene()
            message = events.read(self._patience_s())
            event = parse(message) if message is not None else None
            if event is not None:
                self._hear(event, requests)
            if time.monotonic() >= self._scenes.ask_at:
                self._scenes.ask(requests)
            if not self._scenes.state.changing_collection:
                do_due(self._chores, requests, time.monotonic(), self._complain)

    def _hear(self, event: Event, requests: Requests) -> None:
        match event:
            case ExitStarted():
                if self._settings.stop_with_obs:
                    log.info("OBS: it was closed, and obs.stop_with_obs is true")
                    self._steered.stop()
                # OBS waits some seconds for clients that stay.
                raise ObsUnreachable("OBS was closed")
            case VirtualCameraSwitched(on):
                self._status = replace(self._status, virtual_camera=on)
            case _:
                for chore in self._chores:
                    chore.hear(event, time.monotonic())
                self._hearing.hear(event, requests)

    def _patience_s(self) -> float:
        dues = [] if self._scenes.state.changing_collection else [chore.due_at for chore in self._chores]
        return max(min([self._scenes.ask_at, *dues]) - time.monotonic(), 0.0)

    def _tell_scene(self) -> None:
        state = self._scenes.state
        rule = state.rule.scene if state.rule else None
        self._status = replace(self._status, scene=state.scene, rule=rule, note="; ".join(self._complaints.values()))

    def _complain(self, matter: str, line: str) -> None:
        """Say ``line`` in the log and in the status; an empty one ends the matter."""
        if line and self._complaints.get(matter) != line:
            log.warning("OBS: %s: %s", matter, line)
        self._complaints.pop(matter, None)
        if line:
            self._complaints[matter] = line

    def _become(self, state: LinkState, detail: str = "") -> None:
        self._status = replace(self._status, state=state, detail=detail)
        if state == "connecting" and not detail:
            return  # the first attempt; what becomes of it is worth a line
        if state != self._told:
            self._told = state
            log.log(_LEVELS[state], "OBS: %s%s", state, f": {detail}" if detail else "")


def _user_of(settings: Settings, steered: Steered) -> Callable[[str], None]:
    """What is done with the text of the text source."""
    viewers = settings.obs.viewers
    if viewers is None or not viewers.text:
        return lambda text: steered.apply(Change(prompt=text))

    def ask(text: str) -> None:
        try:
            steered.viewer_asks(text, "")
        except ConfigError as error:
            raise ObsError(str(error)) from error

    return ask


def _going_on(chores: tuple[Chore, ...], old: ObsSettings, new: ObsSettings) -> tuple[Chore, ...]:
    """Those of ``chores`` that ``new`` asks for, too, of the same OBS."""
    if (old.host, old.port) != (new.host, new.port) or not new.enabled:
        return ()
    keys = {chore: chore.matter.removeprefix("obs.") for chore in chores}
    return tuple(chore for chore, key in keys.items() if getattr(old, key) == getattr(new, key))


def _chores(settings: Settings, steered: Steered, going_on: tuple[Chore, ...]) -> tuple[Chore, ...]:
    known = {chore.matter: chore for chore in going_on}
    chores: list[Chore] = []
    if settings.obs.prompt_text is not None:
        use = _user_of(settings, steered)
        words = known.get(PromptText.matter)
        if isinstance(words, PromptText):
            words.use = use
        chores.append(words or PromptText(settings.obs.prompt_text, use))
    if settings.obs.status_text is not None:
        chores.append(known.get(StatusText.matter) or StatusText(settings.obs.status_text, steered.status))
    if settings.obs.audio_sync is not None:
        chores.append(known.get(SoundDelay.matter) or SoundDelay(settings.obs.audio_sync, steered.status))
    return tuple(chores)
