"""The status as Prometheus reads it: figures and states, no prompt, no path, no name that a user gave."""

from __future__ import annotations

from collections.abc import Iterator
from typing import get_args, get_type_hints

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from streamv2v_obs.stats import ObsStatus, PublishStatus, ServiceStatus

MEDIA_TYPE = CONTENT_TYPE_LATEST
_PREFIX = "streamv2v_obs_"


class _Once(Collector):
    """One moment's figures."""

    def __init__(self, status: ServiceStatus) -> None:
        self._status = status

    def collect(self) -> Iterator[Metric]:
        """All families; what was not measured yet is left out."""
        status, publish, engine = self._status, self._status.publish, self._status.engine
        yield _gauge("uptime_seconds", "Since the service began.", status.uptime_s)
        yield _state("state", "What the outputs show.", publish.state, PublishStatus, "state")
        yield _state("engine_state", "Of the engine process.", status.engine_state, ServiceStatus, "engine_state")
        yield _state("obs_state", "Of the link to OBS.", status.obs.state, ObsStatus, "state")
        yield _gauge("panic", "1 while the slate is latched.", publish.panic)
        yield _gauge("bypass", "1 while captured pictures may be shown.", publish.bypass)
        yield _gauge("publish_fps", "Pictures shown a second, last 5 s.", publish.fps)
        yield _counter("published", "Pictures shown.", publish.published)
        yield _counter("repeated", "Pictures shown that show what the one before showed.", publish.repeated)
        yield _counter("late", "Beats that were skipped.", publish.late)
        yield _counter("unseen", "Translated pictures that were never shown.", publish.unseen)
        yield _counter("refused", "Pictures kept back because bypass was off.", publish.refused)
        yield from _quantiles(
            "content_age_seconds",
            "Age of the picture shown, last 5 s.",
            {0.5: publish.content_age_ms_p50, 0.95: publish.content_age_ms_p95, 0.99: publish.content_age_ms_p99},
        )
        yield _counter("engine_restarts", "Of the engine process.", status.engine_restarts)
        yield _counter("obs_connects", "Times that OBS was reached.", status.obs.connects)
        outputs = GaugeMetricFamily(_PREFIX + "output_ok", "1 where pictures go out.", labels=["output"])
        for output in publish.outputs:
            outputs.add_metric([output.kind], float(output.ok))
        yield outputs
        if engine is None:
            return
        yield _gauge("capture_fps", "Pictures captured a second, last 5 s.", engine.capture_fps)
        yield _gauge("translate_fps", "Pictures translated a second, last 5 s.", engine.translate_fps)
        # Counters of a process that may be started anew: a fall to 0 is what Prometheus takes for a restart.
        yield _counter("captured", "Pictures captured by this engine.", engine.captured)
        yield _counter("dropped", "Captured pictures that were never translated.", engine.dropped)
        yield _counter("translated", "Pictures translated by this engine.", engine.translated)
        yield from _quantiles(
            "translate_seconds",
            "Time that one translation takes, last 5 s.",
            {0.5: engine.translate_ms_p50, 0.95: engine.translate_ms_p95},
        )
        yield _gauge("bank_bytes", "Memory of the feature bank.", engine.bank_bytes)


def exposition(status: ServiceStatus) -> bytes:
    """``status`` in Prometheus's text format."""
    registry = CollectorRegistry()
    registry.register(_Once(status))
    return generate_latest(registry)


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(_PREFIX + name, text, value=float(value))


def _counter(name: str, text: str, value: float) -> Metric:
    return CounterMetricFamily(_PREFIX + name, text, value=float(value))


def _state(name: str, text: str, now: str, owner: type, attribute: str) -> Metric:
    family = GaugeMetricFamily(_PREFIX + name, text + " 1 for the one that is so.", labels=["state"])
    for state in get_args(get_type_hints(owner)[attribute]):
        family.add_metric([state], float(state == now))
    return family


def _quantiles(name: str, text: str, values_ms: dict[float, float | None]) -> Iterator[Metric]:
    known = {q: value for q, value in values_ms.items() if value is not None}
    if known:
        family = GaugeMetricFamily(_PREFIX + name, text, labels=["quantile"])
        for q, value in known.items():
            family.add_metric([str(q)], value / 1000)
        yield family
