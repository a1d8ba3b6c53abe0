"""The listener to OBS with a fake in the place of the service, which needs a model: it remembers what it was told."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from streamv2v_obs.commands import Change
from streamv2v_obs.errors import ConfigError
from streamv2v_obs.obs.listener import ObsListener
from streamv2v_obs.presets import Presets
from streamv2v_obs.settings import ObsSettings, Preset, Settings
from streamv2v_obs.stats import EngineStatus, PublishStatus, ServiceStatus
from tests.rigs.obs import RealObs


class Heard:
    """A listener, and what it had done; in the place of the service, which needs a model."""

    def __init__(self, settings: ObsSettings, presets: tuple[Preset, ...] = ()) -> None:
        self.changes: list[Change] = []
        self.bypasses: list[bool] = []
        self.panics: list[bool] = []
        self.slates: list[bool] = []
        self.prepared: list[str] = []
        self.asked: list[tuple[str, str]] = []
        self.refuse_viewers = ""
        self.presets = Presets(presets)
        self.engine = EngineStatus()
        self.publish = PublishStatus()
        self.stopped = threading.Event()
        self.listener = ObsListener(Settings(obs=settings, presets=presets), self)

    def status(self) -> ServiceStatus:
        return ServiceStatus(
            "1", 2, 3.0, "http://here", engine=self.engine, publish=self.publish, engine_state="running"
        )

    def stop(self) -> None:
        self.stopped.set()
        self.listener.stop()  # as the service does

    def apply(self, change: Change) -> None:
        self.presets.note(change)
        self.changes.append(change)

    def set_bypass(self, on: bool) -> None:
        self.bypasses.append(on)

    def set_panic(self, on: bool) -> None:
        self.panics.append(on)

    def set_slate(self, on: bool) -> None:
        self.slates.append(on)

    def prepare(self, prompt: str) -> None:
        self.prepared.append(prompt)

    def viewer_asks(self, text: str, name: str) -> None:
        if self.refuse_viewers:
            raise ConfigError(self.refuse_viewers)
        self.asked.append((text, name))

    def until(self, reached: Callable[[], bool], within_s: float = 5.0) -> None:
        until = time.monotonic() + within_s
        while not reached():
            assert time.monotonic() < until, f"{self.listener.status()}, {self.changes}"
            time.sleep(0.005)

    def until_connected(self, times: int = 1, within_s: float = 10.0) -> None:
        def connected() -> bool:
            status = self.listener.status()
            return status.state == "connected" and status.connects >= times

        self.until(connected, within_s)

    def until_changed(self, scene: str) -> Change:
        self.until(lambda: bool(self.changes) and self.changes[-1].scene == scene)
        return self.changes[-1]


@contextmanager
def listening(settings: ObsSettings, presets: tuple[Preset, ...] = ()) -> Iterator[Heard]:
    """A listener that is asked to end with the block, and has to within 2 s whatever OBS does."""
    heard = Heard(settings, presets)
    heard.listener.start()
    try:
        yield heard
    finally:
        began_at = time.monotonic()
        heard.listener.stop()
        heard.listener.join(10)
        assert time.monotonic() - began_at < 2.0
        assert heard.listener.status().state in ("off", "refused")


def settle(obs: RealObs, quiet_s: float = 0.15) -> None:
    """Give what OBS still has to say the time to be said."""
    obs.requests.version()
    time.sleep(quiet_s)
