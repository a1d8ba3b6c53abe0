"""The composition root: the process that shows pictures, is told what to do, and must not die."""

from __future__ import annotations

import logging
import os
import threading
import time

from streamv2v_obs import __version__, errors
from streamv2v_obs.commands import Bypass, Change, LogLevel, Prepare, WatchInput
from streamv2v_obs.control.hotkeys import Hotkeys
from streamv2v_obs.control.server import ControlServer
from streamv2v_obs.engine.child import EngineSpec
from streamv2v_obs.engine.process import EngineProcess
from streamv2v_obs.engine.slot import FrameSlot
from streamv2v_obs.errors import ObsRefused, ObsUnreachable, StreamV2VError
from streamv2v_obs.in_force import InForce
from streamv2v_obs.input_view import InputView
from streamv2v_obs.obs.listener import ObsListener
from streamv2v_obs.obs.viewers import Viewers
from streamv2v_obs.presets import Presets
from streamv2v_obs.publish.browser import BrowserSink
from streamv2v_obs.publish.outputs import open_sinks
from streamv2v_obs.publish.publisher import Publisher
from streamv2v_obs.publish.virtual_camera import conflict_with_obs
from streamv2v_obs.reload import Plan
from streamv2v_obs.settings import Settings
from streamv2v_obs.settings_file import SettingsFile
from streamv2v_obs.stats import EngineFailure, ObsStatus, ServiceStatus

log = logging.getLogger(__name__)

LARGEST_PICTURE = 2048 * 2048 * 3
"""Bytes of the largest picture the engine may send; memory is touched only as far as it is used."""

_OBS_PATIENCE_S = 10.0
_GLANCE_S = 0.2


class Service:
    """Everything but the translator, put together. Its methods return at once and may be called from any thread.

    ``start`` opens the outputs and the control port (raises SinkLost, ConfigError), and only then spawns the
    engine; parts are stopped in reverse order by ``stop`` and waited for by ``join``. ``file`` is where
    ``settings`` come from, and is watched.
    """

    def __init__(self, settings: Settings, file: SettingsFile | None = None) -> None:
        self.setup = InForce(settings, file, self._take_up)
        self.presets = Presets(settings.presets)
        self._started_at = time.monotonic()
        self._ended = threading.Event()
        self._error: StreamV2VError | None = None
        self._stopping = threading.Event()
        self.browser = BrowserSink(settings.publish.browser.quality)
        self.viewers = Viewers(settings.obs.viewers, self.apply, self._prompt)
        self._bypassing = threading.Lock()
        self._output = FrameSlot.create(LARGEST_PICTURE)
        self._view = FrameSlot.create(LARGEST_PICTURE)
        self._input = InputView(self._view, settings.publish.browser.quality, self._ask_for_input)
        self.input_view: BrowserSink | None = self._input.pictures
        try:
            self._control = ControlServer(settings.control, self)
            try:
                outputs, self._notices = open_sinks(settings.publish, self.browser)
            except BaseException:
                self._control.join(0)
                raise
        except BaseException:
            self._close_slots()
            raise
        if settings.control.lan:
            self._notices.append("control.lan is true: the panel can be reached from the network, unencrypted")
            log.warning("%s", self._notices[-1])
        self._publisher = Publisher(settings.publish, self._output, outputs)
        spec = EngineSpec(settings, self._output.name, self._view.name, self._output.capacity)
        self._engine = EngineProcess(spec, self._give_up, self._publisher.say, self._returned)
        self._obs = ObsListener(settings, self) if settings.obs.enabled else None
        self._obs_reached = False
        self._hotkeys = Hotkeys(settings.control.hotkeys, self)

    @property
    def settings(self) -> Settings:
        """Those in force."""
        return self.setup.current

    @property
    def panel_link(self) -> str:
        """An address that opens the panel, once."""
        return self._control.new_link()

    @property
    def shared_memory(self) -> tuple[str, ...]:
        """The names of what it shares with the engine."""
        return self._output.name, self._view.name

    def start(self) -> None:
        """Outputs first, so that there is a slate from the first moment; the engine takes its time."""
        self._publisher.start()
        self._control.start()
        self._hotkeys.start()
        self._input.start()
        self._engine.start()
        self.viewers.start()
        if self._obs is not None:
            self._obs.start()
        self.setup.start()

    def stop(self) -> None:
        """Ask everything to end."""
        self._stopping.set()
        self.setup.stop()
        self.viewers.stop()
        self._hotkeys.stop()
        self._input.stop()
        if self._obs is not None:
            self._obs.stop()
        self._engine.stop()
        self._control.stop()
        self._ended.set()

    def join(self, timeout_s: float = 2.0) -> None:
        """Wait for everything to have ended, in reverse order of a picture's way."""
        until = time.monotonic() + timeout_s

        def left_s() -> float:
            return max(0.05, until - time.monotonic())

        self.setup.join(left_s())
        self.viewers.join(left_s())
        if self._obs is not None:
            self._obs.join(left_s())
        self._engine.join(left_s())
        # The outputs end last, so that the slate, not a frozen picture, is what is seen of the end.
        self._publisher.stop()
        self._publisher.join(left_s())
        self._control.join(left_s())
        self.browser.close()
        self._input.join(left_s())
        self._input.pictures.close()
        self._close_slots()

    def wait_ended(self, timeout_s: float | None = None) -> StreamV2VError | None:
        """Wait until the service was stopped or cannot go on; the error that ended it, if one did."""
        until = None if timeout_s is None else time.monotonic() + timeout_s
        while until is None or time.monotonic() < until:
            if self._ended.wait(_GLANCE_S):
                return self._error
            self._check_required_obs()
        return None

    # --- changes ---------------------------------------------------------------------------------------------

    def apply(self, change: Change) -> None:
        """Apply ``change`` between two frames."""
        self.presets.note(change)
        self._engine.post(change)

    def set_bypass(self, on: bool) -> None:
        """Both locks: the engine tags and sends captured pictures, and the publisher accepts that tag."""
        log.warning("BYPASS %s asked for", "on" if on else "off")
        # The publisher's lock is the first to close and the last to open. One at a time, or two callers could leave
        # one lock as the first asked for, and the other as the second did.
        with self._bypassing:
            if not on:
                self._publisher.set_bypass(False)
            self._engine.post(Bypass(on))
            if on:
                self._publisher.set_bypass(True)

    def set_panic(self, on: bool) -> None:
        """The slate at once, latched until released."""
        log.warning("PANIC %s", "on: the slate is shown" if on else "released")
        self._publisher.set_panic(on)
        if not on:
            # Whoever releases it wants to see pictures; a scene of an OBS that is gone could keep them for ever.
            self._publisher.set_slate(False)

    def set_slate(self, on: bool) -> None:
        """The slate for as long as a scene wants it; also ended by the release of a panic."""
        self._publisher.set_slate(on)

    def prepare(self, prompt: str) -> None:
        """Encode ``prompt`` ahead of the change that may bring it."""
        self._engine.post(Prepare(prompt))

    def viewer_asks(self, text: str, name: str) -> None:
        """A prompt that a viewer asks for. Raises ConfigError with what is wrong with it."""
        self.viewers.ask(text, name)

    def watch_input(self, on: bool) -> None:
        """Fill ``input_view`` with what is captured, or stop doing so; it stops by itself where nobody looks."""
        self._input.switch(on)

    @property
    def watches_input(self) -> bool:
        """Whether ``input_view`` is filled."""
        return self._input.on

    def status(self) -> ServiceStatus:
        """All there is to say."""
        failure = self._engine.failure
        listener = self._obs
        obs = ObsStatus() if listener is None else listener.status()
        publish = self._publisher.status()
        shared = obs.virtual_camera and any(output.kind == "camera" for output in publish.outputs)
        notices = [
            *self._notices,
            *self.setup.notices,
            *([keys] if (keys := self._hotkeys.notice) else []),
            *([conflict] if shared and (conflict := conflict_with_obs()) else []),
        ]
        return ServiceStatus(
            version=__version__,
            pid=os.getpid(),
            uptime_s=round(time.monotonic() - self._started_at, 1),
            address=self._control.address,
            publish=publish,
            engine=self._engine.status,
            engine_state=self._engine.state,
            engine_pid=self._engine.pid,
            engine_restarts=self._engine.restarts,
            failure=failure.message if failure is not None else "",
            preset=self.presets.current,
            notices=tuple(notices),
            watches_input=self.watches_input,
            obs=obs,
        )

    # --- other settings ------------------------------------------------------------------------------------------

    def _take_up(self, found: Plan, settings: Settings) -> None:
        """Go over to ``settings``, as planned; one at a time."""
        if "log.level" in found.live:
            logging.getLogger().setLevel(settings.log.level.upper())
            self._engine.post(LogLevel(settings.log.level))
        if "presets" in found.live:
            self.presets = self.presets.renewed(settings.presets)
        self._publisher.use(settings.publish.hold_s, settings.publish.slate)
        if found.change is not None:
            self.apply(found.change)
        self._engine.use(settings, renew=bool(found.engine))
        self.viewers.use(settings.obs.viewers)
        if found.differs("obs", "presets"):
            self._follow_obs_anew(settings)

    def _follow_obs_anew(self, settings: Settings) -> None:
        self._obs_reached = True  # it is required at the start only
        before = self._obs
        if before is not None:
            before.stop(settings.obs)
            before.join(_OBS_PATIENCE_S)
        if not settings.obs.enabled:
            self._obs = None
            if before is not None and before.state.bypassed:
                self.set_bypass(False)  # the rule that switched it on is not in force any more
            if before is not None and before.state.slated:
                self.set_slate(False)
            return
        self._obs = ObsListener(settings, self, before)
        if not self._stopping.is_set():
            self._obs.start()

    def _prompt(self) -> str | None:
        engine = self._engine.status
        return engine.prompt if engine is not None and engine.translated else None

    def _returned(self, failure: EngineFailure, settings: Settings) -> None:
        """The engine cannot begin with the settings taken up last, and goes on with these."""
        self.setup.go_back(settings, failure.message)

    # --- inside ----------------------------------------------------------------------------------------------

    def _give_up(self, failure: EngineFailure) -> bool:
        """Whether to try again after the engine failed before its first picture: not if the user has to act."""
        if failure.exit_code == errors.OUR_BUG:
            return True
        kind = getattr(errors, failure.kind, StreamV2VError)
        self._end(kind(failure.message))
        return False

    def _end(self, error: StreamV2VError) -> None:
        self._error = error
        self._ended.set()

    def _check_required_obs(self) -> None:
        obs = self._obs
        if not self.settings.obs.required or obs is None or self._obs_reached:
            return
        status = obs.status()
        if status.connects:
            self._obs_reached = True
            return
        if status.state == "refused":
            self._end(ObsRefused(status.detail))
        elif time.monotonic() - self._started_at > _OBS_PATIENCE_S:
            self._end(ObsUnreachable(f"{status.detail} (obs.required is true)"))

    def _ask_for_input(self, on: bool) -> None:
        self._engine.post(WatchInput(on))

    def _close_slots(self) -> None:
        self._output.close()
        self._view.close()
