"""The whole service over a long time: prompts and scenes change, and faults come by chance, from a seed."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import psutil

from streamv2v_obs.bench import fault_clients, fault_engine, results
from streamv2v_obs.bench.fault_stage import Row, Stage, base, stage
from streamv2v_obs.config import load_settings

if TYPE_CHECKING:
    from tests.rigs.obs import RealObs

Say = Callable[[str], None]

_LOOK_S = 1.0
_PROMPT_S, _SCENE_S, _FAULT_S = (6.0, 14.0), (4.0, 10.0), (25.0, 50.0)
"""Between two of them, at least and at most."""
_PROMPTS = ("a pencil sketch", "neon lights", "an oil painting", "a comic", "a blueprint", "a watercolor painting")
_GROWN_MIB, _DRIFT = 16.0, 1.10
_WARM_SHARE, _WARM_S = 0.1, 120.0
_FAULTS: tuple[Callable[[Stage], Row], ...] = (
    fault_engine.killed,
    fault_engine.stopped,
    fault_engine.hangs,
    fault_engine.sticky,
    fault_engine.out_of_memory,
    fault_clients.slow_client,
    fault_clients.silent_crowd,
    fault_clients.garbage,
)


@dataclass(frozen=True)
class Sample:
    """The state of both processes at one moment; the engine's figures are None while there is none."""

    at_s: float
    service_rss_mib: float
    service_threads: int
    service_descriptors: int
    engine_pid: int | None
    engine_rss_mib: float | None
    engine_threads: int | None
    engine_descriptors: int | None
    shared_memory: int
    published: int
    age_ms_p95: float | None
    well: bool
    """Translated, and nothing was broken for a while."""


@dataclass
class Soaked:
    """What was seen of a soak."""

    minutes: float
    seed: int
    samples: list[Sample] = field(default_factory=list)
    rows: list[Row] = field(default_factory=list)
    prompts: int = 0
    scenes: int = 0
    searched: int = 0
    raw: int = 0
    stops: int = 0


@contextmanager
def _obs(say: Say) -> Iterator[RealObs | None]:
    """A real OBS where one can be run."""
    try:
        from tests.rigs.obs import obs_obstacle, real_obs
    except ImportError as error:
        say(f"without OBS, which needs a checkout: {error}")
        yield None
        return
    if obstacle := obs_obstacle():
        say(f"without OBS: {obstacle}")
        yield None
        return
    with real_obs() as obs:
        yield obs


def soak(minutes: float, seed: int, say: Say) -> Soaked:
    """Run and break the service for so long."""
    chance = random.Random(seed)  # noqa: S311  chooses faults, guards nothing
    found = Soaked(minutes, seed)
    with _obs(say) as obs:
        link: dict[str, Any] = {}
        if obs is not None:
            rules = [{"scene": scene, "bank": "restore"} for scene in ("A", "B", "C")]
            link = {"enabled": True, "port": obs.port, "password": obs.password, "rules": rules}
        with stage(base(obs=link)) as opened:
            _run(opened, obs, found, chance, say)
    return found


def _run(opened: Stage, obs: RealObs | None, found: Soaked, chance: random.Random, say: Say) -> None:
    began_at = time.monotonic()
    ends_at = began_at + 60 * found.minutes
    due = {name: began_at + chance.uniform(*span) for name, span in _SPANS.items()}
    broken_at = began_at
    while (now := time.monotonic()) < ends_at:
        if now >= due["prompt"]:
            opened.post("prompt", prompt=chance.choice(_PROMPTS))
            found.prompts += 1
            due["prompt"] = now + chance.uniform(*_SPANS["prompt"])
        if obs is not None and now >= due["scene"]:
            obs.scene(chance.choice("ABC"))
            found.scenes += 1
            due["scene"] = now + chance.uniform(*_SPANS["scene"])
        if now >= due["fault"]:
            row = chance.choice(_FAULTS)(opened)
            say(f"{(now - began_at) / 60:5.1f} min  {row}")
            found.rows.append(row)
            broken_at = time.monotonic()
            due["fault"] = broken_at + chance.uniform(*_SPANS["fault"])
        # The windows of the service's own figures are five seconds long.
        found.samples.append(_sample(opened, began_at, well_for_s=time.monotonic() - broken_at))
        time.sleep(max(0.0, now + _LOOK_S - time.monotonic()))
    seen = opened.watch.window(began_at, time.monotonic())
    found.searched, found.raw, found.stops = seen.searched, seen.raw, seen.stops


_SPANS = {"prompt": _PROMPT_S, "scene": _SCENE_S, "fault": _FAULT_S}


def _sample(opened: Stage, began_at: float, well_for_s: float) -> Sample:
    status = opened.status
    service = psutil.Process(opened.process.pid)
    engine: tuple[int | None, float | None, int | None, int | None] = (None, None, None, None)
    pid = status["engine_pid"]
    if pid is not None:
        with suppress(psutil.Error):
            process = psutil.Process(pid)
            engine = (pid, process.memory_info().rss / 2**20, process.num_threads(), _descriptors(process))
    return Sample(
        round(time.monotonic() - began_at, 2),
        service.memory_info().rss / 2**20,
        service.num_threads(),
        _descriptors(service),
        *engine,
        shared_memory=_shared(service),
        published=status["publish"]["published"],
        age_ms_p95=status["publish"]["content_age_ms_p95"],
        well=status["publish"]["state"] == "TRANSLATED" and well_for_s > 6.0,
    )


def _descriptors(process: psutil.Process) -> int:
    return int(process.num_fds() if hasattr(process, "num_fds") else process.num_handles())


def _shared(process: psutil.Process) -> int:
    """Pieces of shared memory that the service has mapped."""
    return len({one.path for one in process.memory_maps() if "psm_" in one.path})


def figures(found: Soaked) -> dict[str, Any]:
    """Growth from the first sixth after warm-up to the last one, of the samples at which all was well."""
    warm_s = min(_WARM_S, 60 * found.minutes * _WARM_SHARE)
    well = [one for one in found.samples if one.well and one.at_s >= warm_s]
    share = max(1, len(well) // 6)
    first, last = well[:share], well[-share:]
    counts = [after.published - before.published for before, after in pairwise(found.samples)]
    spans = [after.at_s - before.at_s for before, after in pairwise(found.samples)]
    fps = [count / span for count, span in zip(counts, spans, strict=True) if span > 0]

    def grown(name: str) -> float:
        before, after = (np.median([getattr(one, name) for one in part]) for part in (first, last))
        return round(float(after - before), 2)

    ages = [float(np.median([one.age_ms_p95 for one in part if one.age_ms_p95 is not None])) for part in (first, last)]
    return {
        "minutes": found.minutes,
        "seed": found.seed,
        "prompts": found.prompts,
        "scenes": found.scenes,
        "faults": len(found.rows),
        "faults_failed": sum(not row.passed for row in found.rows),
        "engines": len({one.engine_pid for one in found.samples if one.engine_pid is not None}),
        "rss_grown_mib": {part: grown(f"{part}_rss_mib") for part in ("service", "engine")},
        "threads_grown": {part: grown(f"{part}_threads") for part in ("service", "engine")},
        "descriptors_grown": {part: grown(f"{part}_descriptors") for part in ("service", "engine")},
        "shared_memory": {"first": first[0].shared_memory, "last": last[-1].shared_memory},
        "latency_ms_p95": {"first": round(ages[0], 1), "last": round(ages[1], 1)},
        "latency_drift": round(ages[1] / ages[0], 4),
        "fps_p1": round(float(np.percentile(fps, 1)), 2),
        "searched": found.searched,
        "raw": found.raw,
        "stops": found.stops,
    }


def measure(minutes: float, seed: int, out: Path, say: Say) -> Path:
    """Soak, and write what was seen."""
    load_before = results.load_now()
    seen = soak(minutes, seed, say)
    found = figures(seen)
    settings = load_settings(None, ["capture.kind=pattern", "model.name=demo"])
    parts = ("service", "engine")
    checks = [
        *(
            results.check(f"MiB grown, {part}", _GROWN_MIB, found["rss_grown_mib"][part], at_most=True)
            for part in parts
        ),
        *(results.check(f"threads more, {part}", 0, found["threads_grown"][part], at_most=True) for part in parts),
        *(
            results.check(f"descriptors more, {part}", 0, found["descriptors_grown"][part], at_most=True)
            for part in parts
        ),
        results.check("latency p95, last part over first", _DRIFT, found["latency_drift"], at_most=True),
        results.check("raw pictures", 0, found["raw"], at_most=True),
        results.check("stops of more than two intervals", 0, found["stops"], at_most=True),
    ]
    path = out / "soak_service.json"
    series = [
        {
            "at_s": one.at_s,
            "service_rss_mib": round(one.service_rss_mib, 1),
            "engine_rss_mib": None if one.engine_rss_mib is None else round(one.engine_rss_mib, 1),
            "age_ms_p95": one.age_ms_p95,
        }
        for one in seen.samples[:: max(1, len(seen.samples) // 200)]
    ]
    results.write(
        path,
        "soak",
        command=results.command_line(),
        env=results.environment("cpu", load_before),
        config=results.demo_configuration(settings),
        protocol={
            "warmup_frames": 0,
            "timed_frames": seen.samples[-1].published - seen.samples[0].published,
            "repeats": 1,
            "timer": "wall-clock-published",
            "input": "test pattern with a watermark, prompts and scenes changing, faults by chance",
            "source_fps": settings.capture.fps,
            "sink": "browser",
            "includes": [*results.TIMED, "publish"],
        },
        results={"soak": found, "series": series, "rows": [row.as_dict() for row in seen.rows]},
        checks=checks,
        notes="grown: the median of the last sixth of samples less that of the first, after a tenth of the time (two "
        "minutes at most) of warm-up, of samples at which pictures were translated and nothing had been broken for "
        "six seconds. fps_p1: published pictures in the slowest hundredth of the seconds.",
    )
    grown = found["rss_grown_mib"]
    say(
        f"{minutes:g} minutes, {found['faults']} faults, {found['engines']} engines: {grown['service']} MiB more in "
        f"the service, {grown['engine']} in the engine; {found['raw']} raw of {found['searched']}, "
        f"{found['stops']} stops"
    )
    return path
