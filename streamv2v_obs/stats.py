"""What the running parts report of themselves, and the small meters they measure it with."""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal


class Meter:
    """Rate and spread of something that happens again and again, over the last ``window_s`` seconds."""

    def __init__(self, window_s: float = 5.0, clock: Callable[[], float] = time.monotonic) -> None:
        self._window_s = window_s
        self._clock = clock
        self._lock = threading.Lock()
        self._seen: deque[tuple[float, float]] = deque()  # (when, value), guarded by _lock
        self.total = 0

    def add(self, value: float = 0.0) -> None:
        """It happened now, with this value (a duration in ms, say)."""
        with self._lock:
            now = self._clock()
            self._seen.append((now, value))
            self.total += 1
            self._forget(now)

    def _forget(self, now: float) -> None:
        while self._seen and self._seen[0][0] < now - self._window_s:
            self._seen.popleft()

    def rate(self) -> float:
        """Times a second, over the window."""
        with self._lock:
            now = self._clock()
            self._forget(now)
            if len(self._seen) < 2:
                return 0.0
            span = max(now, self._seen[-1][0]) - self._seen[0][0]
            return (len(self._seen) - 1) / span if span > 0 else 0.0

    def percentile(self, q: float) -> float:
        """The value that a share ``q`` (0..1) of the window's values does not exceed; nan without any."""
        with self._lock:
            self._forget(self._clock())
            values = sorted(value for _, value in self._seen)
        if not values:
            return math.nan
        return values[min(len(values) - 1, math.ceil(q * len(values)) - 1 if q > 0 else 0)]


@dataclass(frozen=True)
class ScheduleChoice:
    """What ``schedule: auto`` chose, why, and for which pictures."""

    steps: int
    width: int
    height: int
    source_fps: float
    schedule: Literal["stream", "sequential"]
    reason: str


@dataclass(frozen=True)
class EngineStatus:
    """What the engine process says of itself, twice a second."""

    state: Literal["opening", "loading", "running", "stalled"] = "opening"
    model: str = ""
    device: str = ""
    dtype: str = ""
    backend: str = ""
    attention: str = ""
    schedule: str = ""
    schedule_reason: str = ""
    schedules: tuple[ScheduleChoice, ...] = ()
    path: str = ""
    width: int = 0
    height: int = 0
    prompt: str = ""
    strength: float = 0.0
    steps: int = 0
    seed: int = 0
    style: str | None = None
    scene: str | None = None
    bank: str = ""
    bank_filled: bool = False
    bank_updates: int = 0
    bank_bytes: int = 0
    bank_resets: int = 0
    bank_restores: int = 0
    scenes_stored: tuple[str, ...] = ()
    changes: int = 0
    source: str = ""
    capture_fps: float = 0.0
    captured: int = 0
    dropped: int = 0
    skipped_still: int = 0
    translated: int = 0
    translate_fps: float = 0.0
    translate_ms_p50: float | None = None
    translate_ms_p95: float | None = None
    bypass: bool = False
    note: str = ""


@dataclass(frozen=True)
class EngineFailure:
    """The engine's last word: which of our errors ended it."""

    kind: str
    message: str
    exit_code: int


@dataclass(frozen=True)
class OutputStatus:
    """One place where pictures go."""

    kind: str
    detail: str
    ok: bool
    sent: int = 0
    dropped: int = 0


@dataclass(frozen=True)
class PublishStatus:
    """What the publishing thread says of itself."""

    state: Literal["TRANSLATED", "HOLD", "SLATE", "BYPASS"] = "SLATE"
    state_s: float = 0.0
    """For how long."""
    panic: bool = False
    slate: bool = False
    """The rule of the scene on air wants the slate."""
    bypass: bool = False
    fps: float = 0.0
    published: int = 0
    repeated: int = 0
    late: int = 0
    unseen: int = 0
    refused: int = 0
    content_age_ms_p50: float | None = None
    content_age_ms_p95: float | None = None
    content_age_ms_p99: float | None = None
    jitter_ms_p99: float | None = None
    gap_ms_max: float | None = None
    """The longest time from one published picture to the next, of the last five seconds."""
    stops: int = 0
    """How often it was more than two intervals, since the start."""
    outputs: tuple[OutputStatus, ...] = ()


@dataclass(frozen=True)
class ObsStatus:
    """What the OBS link says of itself."""

    state: Literal["off", "connecting", "connected", "refused"] = "off"
    detail: str = ""
    version: str = ""
    scene: str | None = None
    rule: str | None = None
    connects: int = 0
    virtual_camera: bool = False
    """OBS's own is on."""
    note: str = ""
    """What is asked for in OBS, or of it, and cannot be done; empty once it can."""


@dataclass(frozen=True)
class ServiceStatus:
    """All that ``status`` shows."""

    version: str
    pid: int
    uptime_s: float
    address: str
    publish: PublishStatus = field(default_factory=PublishStatus)
    engine: EngineStatus | None = None
    engine_state: Literal["starting", "running", "restarting", "waiting", "stopped"] = "starting"
    engine_pid: int | None = None
    engine_restarts: int = 0
    failure: str = ""
    obs: ObsStatus = field(default_factory=ObsStatus)
    preset: str | None = None
    notices: tuple[str, ...] = ()
    watches_input: bool = False
    """The view of the input is on: captured pictures come into the service's process, too."""
