"""The last ten minutes of the status, a point a second, for the panel's plots."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from streamv2v_obs.stats import ServiceStatus
from streamv2v_obs.worker import Worker

log = logging.getLogger(__name__)

PERIOD_S = 1.0
POINTS = 600


@dataclass(frozen=True)
class Point:
    """Figures of one moment; None where there is nothing to measure."""

    uptime_s: float
    state: str
    publish_fps: float
    translate_fps: float | None
    capture_fps: float | None
    age_ms_p50: float | None
    age_ms_p95: float | None
    translate_ms_p50: float | None


def point(status: ServiceStatus) -> Point:
    """What of ``status`` is kept."""
    publish, engine = status.publish, status.engine
    return Point(
        status.uptime_s,
        publish.state,
        round(publish.fps, 2),
        None if engine is None else round(engine.translate_fps, 2),
        None if engine is None else round(engine.capture_fps, 2),
        publish.content_age_ms_p50,
        publish.content_age_ms_p95,
        None if engine is None else engine.translate_ms_p50,
    )


class History(Worker):
    """A thread "history" that asks for the status once a second; ``points`` may be called from any thread."""

    def __init__(self, status: Callable[[], ServiceStatus]) -> None:
        super().__init__("history")
        self._status = status
        self._lock = threading.Lock()
        self._points: deque[Point] = deque(maxlen=POINTS)  # guarded by _lock

    def points(self) -> tuple[Point, ...]:
        """The oldest first."""
        with self._lock:
            return tuple(self._points)

    def _run(self) -> None:
        due = time.monotonic()
        while not self._stop.is_set():
            try:
                found = point(self._status())
            except Exception:
                log.exception("no point of the history could be taken")
            else:
                with self._lock:
                    self._points.append(found)
            due = max(due + PERIOD_S, time.monotonic())
            self._stop.wait(due - time.monotonic())
