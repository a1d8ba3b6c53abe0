"""What is written back into OBS: the status as a text, and the age of the picture as the delay of a sound."""

from __future__ import annotations

from collections.abc import Callable

from streamv2v_obs.obs.client import ObsVersion, Requests
from streamv2v_obs.obs.events import Event, InputRenamed
from streamv2v_obs.settings import AudioSync
from streamv2v_obs.stats import ServiceStatus

EVERY_S = 1.0
LEAST_CHANGE_MS = 20
"""A smaller change of the delay is not worth the click that it may make."""
_SMOOTHING = 0.3
"""Weight of the newest measurement, one a second."""
_SHORTEST_MS, _LONGEST_MS = -950, 20_000  # what OBS takes


class StatusText:
    """A chore that keeps a text source saying how the service is; it says that it has ended, too."""

    matter = "obs.status_text"

    def __init__(self, source: str, status: Callable[[], ServiceStatus]) -> None:
        self.due_at = 0.0
        self.changed = False
        self._source = source
        self._status = status
        self._shown: str | None = None

    def begin(self, version: ObsVersion, now: float) -> None:
        """A text that stands there from before a reconnect is not trusted."""
        self._shown = None
        self.due_at = now

    def hear(self, event: Event, now: float) -> None:
        """Follow the source to another name."""
        match event:
            case InputRenamed(old, new) if old == self._source:
                self._source = new

    def do(self, requests: Requests, now: float) -> None:
        """Write it where it differs from what stands there."""
        self._write(requests, status_text(self._status()))
        self.due_at = now + EVERY_S

    def put_back(self, requests: Requests) -> None:
        """The last word."""
        self._write(requests, "streamv2v: ended")

    def _write(self, requests: Requests, text: str) -> None:
        if text != self._shown:
            requests.call("SetInputSettings", {"inputName": self._source, "inputSettings": {"text": text}})
            self._shown = text
            self.changed = True


def status_text(status: ServiceStatus) -> str:
    """One line, of what changes seldom: numbers that never rest would be a restless text."""
    publish, engine = status.publish, status.engine
    if publish.panic:
        return "streamv2v: PANIC, slate until released"
    parts = [f"streamv2v: {publish.state.lower()}"]
    if publish.bypass:
        parts.append("RAW PICTURE ALLOWED")
    if status.engine_state != "running":
        parts.append(f"engine {status.engine_state}")
    elif status.preset:
        parts.append(status.preset)
    elif engine is not None:
        parts.append(engine.prompt)
    return " - ".join(parts)


class SoundDelay:
    """A chore that sets a sound's sync offset to the smoothed age of the picture shown, and back in the end.

    The age is that of the newest pictures as they leave for the outputs; a HOLD or a slate changes nothing.
    """

    matter = "obs.audio_sync"

    def __init__(self, settings: AudioSync, status: Callable[[], ServiceStatus]) -> None:
        self.due_at = 0.0
        self._input = settings.input
        self._extra_ms = settings.extra_ms
        self._status = status
        self._smooth_ms: float | None = None
        self._before_ms: int | None = None  # as it was when we came
        self._set_ms: int | None = None  # as it stands there, as far as we know
        self.changed = False

    def begin(self, version: ObsVersion, now: float) -> None:
        """Set it anew: an OBS that died may not have kept it. What it was before us is known from the first time."""
        self.due_at = now
        self._set_ms = None

    def hear(self, event: Event, now: float) -> None:
        """Follow the input to another name."""
        match event:
            case InputRenamed(old, new) if old == self._input:
                self._input = new

    def do(self, requests: Requests, now: float) -> None:
        """Measure, and set it if it has changed enough."""
        if self._before_ms is None:
            answer = requests.call("GetInputAudioSyncOffset", {"inputName": self._input})
            self._before_ms = round(float(answer.get("inputAudioSyncOffset", 0)))
        publish = self._status().publish
        wanted_ms = self.wanted_ms(publish.content_age_ms_p50 if publish.state in ("TRANSLATED", "BYPASS") else None)
        if wanted_ms is not None:
            self._set(requests, wanted_ms)
            self._set_ms, self.changed = wanted_ms, True
        self.due_at = now + EVERY_S

    def wanted_ms(self, age_ms: float | None) -> int | None:
        """The offset that is to be set after this measurement (None: there was none); None if it is right."""
        if age_ms is None:
            return None
        old = self._smooth_ms
        self._smooth_ms = age_ms if old is None else old + _SMOOTHING * (age_ms - old)
        wanted = min(_LONGEST_MS, max(_SHORTEST_MS, round(self._smooth_ms) + self._extra_ms))
        near = self._set_ms is not None and abs(wanted - self._set_ms) <= LEAST_CHANGE_MS
        return None if near else wanted

    def put_back(self, requests: Requests) -> None:
        """As it was before us."""
        if self._before_ms is not None:
            self._set(requests, self._before_ms)

    def _set(self, requests: Requests, offset_ms: int) -> None:
        offset = {"inputName": self._input, "inputAudioSyncOffset": offset_ms}
        requests.call("SetInputAudioSyncOffset", offset)
