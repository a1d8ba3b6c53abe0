"""The whole service over a long time: prompts and scenes change, and faults come by chance, from a seed."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import psutil

from streamv2v_obs.bench import fault_clients, fault_engine, fault_obs, results
from streamv2v_obs.bench.fault_stage import Row, Stage, base, stage
from streamv2v_obs.bench.soak_figures import Sample, Soaked, figures
from streamv2v_obs.config import load_settings
from streamv2v_obs.errors import StreamV2VError

if TYPE_CHECKING:
    from tests.rigs.obs import RealObs

Say = Callable[[str], None]
Fault = Callable[[Stage], Row]

_LOOK_S = 1.0
_SPANS = {"prompt": (6.0, 14.0), "scene": (4.0, 10.0), "fault": (25.0, 50.0)}
"""Seconds between two of them, at least and at most."""
_WELL_S = 6.0
"""The windows of the service's own figures are five seconds long."""
_PROMPTS = ("a pencil sketch", "neon lights", "an oil painting", "a comic", "a blueprint", "a watercolor painting")
_GROWN_MIB, _CHANGE = 16.0, 0.10
_SPARED = (1 / 3, 2 / 3)
"""Of the time: no fault ends the engine then, for one that is killed each minute would never grow."""
_ON_THE_ENGINE: tuple[Fault, ...] = (
    fault_engine.killed,
    fault_engine.stopped,
    fault_engine.hangs,
    fault_engine.sticky,
    fault_engine.out_of_memory,
)
_AROUND_IT: tuple[Fault, ...] = (
    fault_clients.slow_client,
    fault_clients.silent_crowd,
    fault_clients.crowd,
    fault_clients.garbage,
)


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
    """Run and break the service for so long. Ctrl-C ends it early, and so does the service: what was seen remains."""
    found = Soaked(minutes, seed)
    with _obs(say) as obs:
        link: dict[str, Any] = {}
        if obs is not None:
            found.obs = True
            rules = [{"scene": scene, "bank": "restore"} for scene in ("A", "B", "C")]
            link = {"enabled": True, "port": obs.port, "password": obs.password, "rules": rules}
        with stage(base(obs=link)) as opened:
            began_at = time.monotonic()
            try:
                _Soak(opened, obs, found, say).run(began_at)
            except (StreamV2VError, httpx.HTTPError, psutil.Error) as error:
                found.ended = f"{type(error).__name__}: {' '.join(str(error).split())}"
            except (KeyboardInterrupt, SystemExit):
                found.ended = "asked to end"
            if found.ended:
                found.minutes = round((time.monotonic() - began_at) / 60, 2)
                say(f"ended after {found.minutes} minutes: {found.ended}")
            seen = opened.watch.window(began_at, time.monotonic())
            found.searched, found.raw, found.stops = seen.searched, seen.raw, seen.stops
            found.told = [one for one in opened.watch.told if one.at >= began_at]
    return found


class _Soak:
    """One soak: what is due when, and what was asked for last."""

    def __init__(self, opened: Stage, obs: RealObs | None, found: Soaked, say: Say) -> None:
        self._opened, self._obs, self._found, self._say = opened, obs, found, say
        self._chance = random.Random(found.seed)  # noqa: S311  chooses faults, guards nothing
        self._prompt = ""

    def run(self, began_at: float) -> None:
        """To its end."""
        total_s = 60 * self._found.minutes
        due = {name: began_at + self._chance.uniform(*span) for name, span in _SPANS.items()}
        acts = {"prompt": self._change_prompt, "scene": self._change_scene}
        broken_at = began_at
        while (now := time.monotonic()) < began_at + total_s:
            for name, act in acts.items():
                if now >= due[name]:
                    act()
                    due[name] = now + self._chance.uniform(*_SPANS[name])
            if now >= due["fault"]:
                spared = _SPARED[0] <= (now - began_at) / total_s < _SPARED[1]
                row = self._break(spared)
                self._found.rows.append(row)
                self._say(f"{(now - began_at) / 60:5.1f} min  {row}")
                broken_at = time.monotonic()
                due["fault"] = broken_at + self._chance.uniform(*_SPANS["fault"])
            self._found.samples.append(_sample(self._opened, began_at, time.monotonic() - broken_at))
            time.sleep(max(0.0, now + _LOOK_S - time.monotonic()))

    def _change_prompt(self) -> None:
        self._prompt = self._chance.choice(_PROMPTS)
        self._opened.post("prompt", prompt=self._prompt)
        self._found.prompts += 1

    def _change_scene(self) -> None:
        if self._obs is not None:
            self._obs.scene(self._chance.choice("ABC"))
            self._found.scenes += 1

    def _break(self, spared: bool) -> Row:
        faults = [*_AROUND_IT, *(() if spared else _ON_THE_ENGINE)]
        if (obs := self._obs) is not None:
            faults += [
                lambda opened: fault_obs.killed(opened, obs, _nothing),
                lambda opened: fault_obs.frozen(opened, obs, _nothing),
            ]
        fault = self._chance.choice(faults)
        # A prompt on its way to an engine is in force in the next one, which its fault would hold against it.
        self._opened.wait(lambda: self._prompt in ("", (self._opened.status["engine"] or {}).get("prompt")))
        return fault(self._opened)


def _nothing(opened: Stage) -> str:
    """These scenes' rules set nothing that could be looked at from here."""
    return ""


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
        age_ms_p95=status["publish"]["content_age_ms_p95"],
        well=status["publish"]["state"] == "TRANSLATED" and well_for_s > _WELL_S,
    )


def _descriptors(process: psutil.Process) -> int:
    return int(process.num_fds() if hasattr(process, "num_fds") else process.num_handles())


def _shared(process: psutil.Process) -> int:
    """Pieces of shared memory that the service has mapped; 0 where the system does not tell."""
    try:
        return len({one.path for one in process.memory_maps() if "psm_" in one.path})
    except (psutil.Error, AttributeError):
        return 0


def checks(found: dict[str, Any]) -> list[dict[str, Any]]:
    """What a soak has to hold, by its figures."""
    parts, life = ("service", "engine"), found["engine_life"]
    limits: list[tuple[str, float, float]] = [
        *((f"MiB grown, {part}", _GROWN_MIB, found["rss_grown_mib"][part]) for part in parts),
        ("MiB grown, the engine that lived longest", _GROWN_MIB, life["rss_grown_mib"]),
        *((f"threads more, {part}", 0, found["threads_grown"][part]) for part in parts),
        *((f"descriptors more, {part}", 0, found["descriptors_grown"][part]) for part in parts),
        ("pieces of shared memory more", 0, found["shared_memory_grown"]),
        ("latency p95, change from the first part to the last", _CHANGE, found["latency_change"]),
        ("faults with anything that was not as promised", 0, found["faults_failed"]),
        ("raw pictures", 0, found["raw"]),
        ("stops of more than two intervals", 0, found["stops"]),
    ]
    judged = [results.check(name, limit, value, at_most=True) for name, limit, value in limits]
    return [*judged, {"name": "it ran to its end", "pass": not found["ended"], "value": found["ended"]}]


def measure(minutes: float, seed: int, out: Path, say: Say) -> Path:
    """Soak, and write what was seen. Raises StreamV2VError if it ended before there was anything to compare."""
    load_before = results.load_now()
    seen = soak(minutes, seed, say)
    found = figures(seen)
    settings = load_settings(None, ["capture.kind=pattern", "model.name=demo"])
    judged = checks(found)
    path = out / "soak_service.json"
    series = [
        {
            "at_s": one.at_s,
            "service_rss_mib": round(one.service_rss_mib, 1),
            "service_threads": one.service_threads,
            "service_descriptors": one.service_descriptors,
            "engine_pid": one.engine_pid,
            "engine_rss_mib": None if one.engine_rss_mib is None else round(one.engine_rss_mib, 1),
            "age_ms_p95": one.age_ms_p95,
        }
        for one in seen.samples[:: max(1, len(seen.samples) // 300)]
    ]
    results.write(
        path,
        "soak",
        command=results.command_line(),
        env=results.environment("cpu", load_before),
        config=results.demo_configuration(settings),
        protocol={
            "warmup_frames": 0,
            "timed_frames": seen.told[-1].published - seen.told[0].published,
            "repeats": 1,
            "timer": "wall-clock-published",
            "input": "test pattern with a watermark, prompts and scenes changing, faults by chance",
            "source_fps": settings.capture.fps,
            "sink": "browser",
            "includes": [*results.TIMED, "publish"],
        },
        results={"soak": found, "series": series, "rows": [row.as_dict() for row in seen.rows]},
        checks=judged,
        notes="grown: the median of the last sixth of the time less that of the first, after a tenth of the time (two "
        "minutes at most) of warm-up, of samples, one a second, at which pictures were translated and nothing had "
        "been broken for six seconds. latency_ms_p95: the means, over the middle half of these two parts, of the "
        "95 % of each five seconds. engine_life: the same of the one engine that lived longest; in the second third "
        "of the time no fault ends the engine. fps_p1: published pictures in the slowest hundredth of all seconds.",
    )
    for one in judged:
        if not one["pass"]:
            say(f"MISSED {one['name']}: {one['value']} (at most {one.get('limit', 0):g})")
    grown = found["rss_grown_mib"]
    say(
        f"{found['minutes']:g} minutes, {found['faults']} faults, {found['engines']} engines: {grown['service']} MiB "
        f"more in the service, {grown['engine']} in the engine; {found['raw']} raw of {found['searched']}, "
        f"{found['stops']} stops"
    )
    return path
