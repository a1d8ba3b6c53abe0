"""The real service as a user starts it, watched for a while: its own figures, and what a viewer really saw."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import numpy as np
import psutil

from streamv2v_obs.bench import results
from streamv2v_obs.bench.results import TIMED
from streamv2v_obs.bench.running import Viewer as Viewer
from streamv2v_obs.bench.running import service as service
from streamv2v_obs.bench.running import until as until
from streamv2v_obs.bench.running import whole_picture as whole_picture
from streamv2v_obs.config import load_settings
from streamv2v_obs.settings import Settings

_GOAL_FPS = 15.0

Status = dict[str, Any]


@dataclass
class Watched:
    """What was seen of one run of the service; the lists hold one entry a second."""

    slate_s: float
    translated_s: float
    statuses: list[Status] = field(default_factory=list)
    at: list[float] = field(default_factory=list)
    changed_at: list[float] = field(default_factory=list)
    again: int = 0
    rss_mib: dict[str, float] = field(default_factory=dict)
    cpu_share: dict[str, float] = field(default_factory=dict)
    """Cores' worth of work over the whole time, of each process."""

    def per_second(self, part: Literal["publish", "engine"], name: str) -> list[float]:
        """How fast a counter of the status grew in each second."""
        counts = [status[part][name] for status in self.statuses]
        return [
            (after - before) / (end - begin)
            for (before, after), (begin, end) in zip(pairwise(counts), pairwise(self.at), strict=True)
        ]

    def grown(self, part: Literal["publish", "engine"], name: str) -> int:
        """How much a counter of the status grew from first to last."""
        return int(self.statuses[-1][part][name] - self.statuses[0][part][name])

    def levels(self, name: str) -> list[float]:
        """A figure of the publisher at every second."""
        return [float(status["publish"][name]) for status in self.statuses if status["publish"][name] is not None]


def watch(
    overrides: Sequence[str], seconds: int, warm_up_s: float, environment: Mapping[str, str] | None = None
) -> Watched:
    """Start the service, let it warm up, and look at it once a second for ``seconds``."""
    with (
        tempfile.TemporaryDirectory() as name,
        service(Path(name), overrides, environment=environment) as (process, client, began_at),
    ):
        folder = Path(name)

        def status() -> Status:
            return dict(client.get("/v1/status").raise_for_status().json())

        slate_at = until(lambda: status()["publish"]["published"] > 0, process, folder)
        translated_at = until(lambda: status()["publish"]["state"] == "TRANSLATED", process, folder)
        found = Watched(slate_at - began_at, translated_at - began_at)
        viewer = Viewer(client)
        viewer.start()
        try:
            time.sleep(warm_up_s)
            engine = status()["engine_pid"]
            parts = {"service": psutil.Process(process.pid), "engine": psutil.Process(engine)}
            for part in parts.values():
                part.cpu_percent()  # from here on
            again_before = viewer.again
            begin_at = time.monotonic()
            for second in range(seconds + 1):
                time.sleep(max(0.0, begin_at + second - time.monotonic()))
                # In the middle of the question: a slow answer must not look like a slow second.
                asked_at = time.monotonic()
                found.statuses.append(status())
                found.at.append((asked_at + time.monotonic()) / 2)
            for key, part in parts.items():
                found.cpu_share[key] = round(part.cpu_percent() / 100, 3)
                found.rss_mib[key] = round(part.memory_info().rss / 2**20, 1)
            found.again = viewer.again - again_before
            found.changed_at = [at for at in viewer.changed_at if found.at[0] <= at <= found.at[-1]]
        finally:
            viewer.stop()
    return found


def figures(seen: Watched) -> results.Section:
    """The schema's ``results`` of one run."""
    published = seen.per_second("publish", "published")
    ages = {name: seen.levels(f"content_age_ms_{name}") for name in ("p50", "p95", "p99")}
    intervals = [1000 * (after - before) for before, after in pairwise(seen.changed_at)]
    distinct = seen.grown("publish", "published") - seen.grown("publish", "repeated")
    elapsed_s = seen.at[-1] - seen.at[0]
    return {
        "fps_steady": round(float(np.median(published)), 2),
        "fps_min": round(min(published), 2),
        "fps_repeats": [round(fps, 2) for fps in published],
        "translated_fps": round(seen.grown("engine", "translated") / elapsed_s, 2),
        "distinct_fps": round(distinct / elapsed_s, 2),
        "frames": {
            "captured": seen.grown("engine", "captured"),
            "processed": seen.grown("engine", "translated"),
            "published": seen.grown("publish", "published"),
            "dropped": seen.grown("engine", "dropped"),
            "repeated": seen.grown("publish", "repeated"),
        },
        "viewer": {"changed": len(seen.changed_at), "again": seen.again},
        "latency_ms": {
            "content_age": {
                "n": seen.grown("publish", "published"),
                "p50": round(float(np.median(ages["p50"])), 1),
                "p95": max(ages["p95"]),
                "p99": max(ages["p99"]),
            },
            "algorithmic_frames": seen.statuses[-1]["engine"]["steps"] - 1,
        },
        "jitter_ms": {
            "interval": results.spread(intervals),
            "abs_dev_p99": max(seen.levels("jitter_ms_p99")),
            "longest_freeze": round(max(intervals), 1),
        },
        "startup": {"slate_s": round(seen.slate_s, 2), "first_frame_s": round(seen.translated_s, 2)},
        "memory": {"rss_mib": round(sum(seen.rss_mib.values()), 1)},
        "processes": {
            name: {"rss_mib": seen.rss_mib[name], "cpu_share": seen.cpu_share[name]} for name in seen.rss_mib
        },
    }


def configuration(settings: Settings, engine: Status) -> results.Section:
    """The schema's ``config``: what was asked for, and what the ``engine`` says that it uses."""
    return results.configuration(
        settings,
        model=engine["model"],
        dtype=engine["dtype"],
        schedule=engine["schedule"],
        width=engine["width"],
        height=engine["height"],
        backend=engine["backend"],
    )


def _checks(seen: Watched, found: results.Section) -> list[results.Section]:
    return [
        results.check("published frames a second, median", _GOAL_FPS, found["fps_steady"]),
        results.check("published frames a second, slowest second", _GOAL_FPS, found["fps_min"]),
        {
            "name": "a translated picture was on the air in every second",
            "pass": all(status["publish"]["state"] == "TRANSLATED" for status in seen.statuses),
        },
        results.check("restarts of the engine", 0, seen.statuses[-1]["engine_restarts"], at_most=True),
    ]


def measure(
    kind: Literal["pipeline", "jitter"],
    path: Path,
    *,
    seconds: int,
    warm_up_s: float,
    source: str,
    overrides: Sequence[str],
    say: Callable[[str], None],
) -> Path:
    """Watch the real service for a while and write what it and a viewer of its stream saw."""
    load_before = results.load_now()
    changes = [f"capture.kind={source}", *overrides]
    settings = load_settings(None, changes)
    seen = watch(changes, seconds, warm_up_s)
    found = figures(seen)
    engine = seen.statuses[-1]["engine"]
    results.write(
        path,
        kind,
        command=results.command_line(),
        env=results.environment(engine["device"], load_before),
        config=configuration(settings, engine),
        protocol={
            "warmup_frames": seen.statuses[0]["engine"]["translated"],
            "timed_frames": found["frames"]["processed"],
            "repeats": 1,
            "timer": "wall-clock-published",
            "input": engine["source"],
            "source_fps": settings.capture.fps,
            "sink": ", ".join(output["kind"] for output in seen.statuses[-1]["publish"]["outputs"]),
            "includes": [*TIMED, "publish"],
        },
        results=found,
        checks=_checks(seen, found),
        notes="fps are published pictures, repeats included, second by second; distinct_fps leaves the repeats out. "
        "content_age: the median of the service's five-second windows, and the worst window's p95 and p99. "
        "jitter_ms.interval is between pictures that differ, as they reached a viewer of the stream; abs_dev_p99 is "
        "the worst window's lateness of a tick. Times of startup count from the start of the process. cpu_share: 1 "
        "is one core.",
    )
    age, jitter = found["latency_ms"]["content_age"], found["jitter_ms"]["abs_dev_p99"]
    say(
        f"published {found['fps_steady']} fps (slowest second {found['fps_min']}), of which new "
        f"{found['distinct_fps']}; age of the picture {age['p50']} ms (95%: {age['p95']}); a beat is late by "
        f"{jitter} ms (99%); first picture after {found['startup']['first_frame_s']} s"
    )
    return path
