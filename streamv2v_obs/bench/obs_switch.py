"""How soon what OBS does is seen: scenes, custom events and banks brought back, in the real service's own pictures."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np

from streamv2v_obs.bench import live, results
from streamv2v_obs.bench.live import Status
from streamv2v_obs.bench.obs_figures import MIXED, Return, Told, figures
from streamv2v_obs.bench.obs_looks import Looks, decoded, distance
from streamv2v_obs.bench.obs_stage import Led, led, scenes, use_transition, with_password
from streamv2v_obs.bench.results import TIMED
from streamv2v_obs.config import load_settings
from streamv2v_obs.demo.photographs import HELD_OUT, square
from streamv2v_obs.errors import StreamV2VError
from streamv2v_obs.obs.client import Requests, open_requests

PROMPTS = ("a pencil drawing", "a blueprint")
FADE_MS = 300
_PHOTOGRAPH, _SIZE = HELD_OUT[-1], 256
_ALONE_S, _SETTLE_S, _STAY_S, _AWAY_S = 1.5, 1.0, 2.5, 0.8
_EVENT_MS = 100.0
"""Within this and one frame of the translator a custom event is to be in force."""


@dataclass(frozen=True)
class Leg:
    """One way of changing the prompt: to PROMPTS[n % 2] the n-th time; by a custom event where no scene is named."""

    key: str
    every_s: float
    scene: str | None = None
    transition: str = "cut_transition"

    def do(self, requests: Requests, number: int) -> None:
        """Change it."""
        if self.scene is None:
            requests.broadcast({"streamv2v": {"preset": 1 + number % 2}})
        else:
            requests.call("SetCurrentProgramScene", {"sceneName": _scene(self.scene, number)})


LEGS = (
    Leg("fade_start", 1.1, "start", "fade_transition"),
    Leg("fade_end", 1.1, "end", "fade_transition"),
    Leg("cut", 1.1, "end"),
    Leg("cut_keep", 1.1, "keep"),
    Leg("event", 1.1),
)
_RULES = {
    "start": {"when": "start", "bank": "reset"},
    "end": {"when": "end", "bank": "reset"},
    "keep": {"when": "end", "bank": "keep"},
    "restored": {"when": "end", "bank": "restore"},
}


def _scene(rule: str, number: int) -> str:
    return f"streamv2v bench {rule} {1 + number % 2}"


def _led_by_obs() -> dict[str, str]:
    rules = [{"scene": _scene(r, n), "prompt": PROMPTS[n], **how} for r, how in _RULES.items() for n in range(2)]
    presets = [{"name": f"Bench {n + 1}", "prompt": PROMPTS[n], "bank": "reset"} for n in range(2)]
    return {"obs.enabled": "true", "obs.rules": json.dumps(rules), "presets": json.dumps(presets)}


def alone(folder: Path, prompt: str, base: dict[str, str], overrides: Sequence[str]) -> list[bytes]:
    """All pictures of a service that knows this prompt alone: from its start, and after its bank was emptied."""
    with led(folder, base | {"translator.prompt": json.dumps(prompt)}, overrides) as service:
        for _ in range(2):
            time.sleep(_ALONE_S)
            service.post("bank", policy="reset")
        time.sleep(_ALONE_S)
    return service.viewer.pictures


def run(leg: Leg, times: int, requests: Requests) -> list[float]:
    """Change the prompt ``times`` times, at every place within a frame's time; the instants, and that of the end."""
    use_transition(requests, leg.transition, FADE_MS)
    leg.do(requests, 0)
    time.sleep(_SETTLE_S)
    instants = []
    for number in range(1, times + 1):
        instants.append(time.monotonic())
        leg.do(requests, number)
        time.sleep(leg.every_s + 0.0371 * (number % 7))
    return [*instants, time.monotonic()]


def told(leg: Leg, instants: Sequence[float], service: Led, looks: Looks) -> Told:
    """Judge every picture of a leg. Raises StreamV2VError where a change was never seen."""
    found, applied = Told(), service.applied_at()
    for number, (asked_at, until) in enumerate(pairwise(instants), 1):
        wanted, new_at = PROMPTS[number % 2], None
        for at, jpeg in service.between(asked_at, until):
            judged = looks.judge(jpeg)
            found.distances.append(judged.distance)
            if judged.prompt == wanted:
                new_at = new_at or at
            elif new_at is not None:
                found.back += 1
        applied_at = next((at for at in applied if asked_at <= at < until), None)
        if new_at is None or applied_at is None:
            raise StreamV2VError(f"{leg.key}, change {number}: no picture of {wanted!r} in {until - asked_at:.1f} s")
        found.picture_ms.append(1000 * (new_at - asked_at))
        found.applied_ms.append(1000 * (applied_at - asked_at))
    return found


def returns(rule: str, times: int, requests: Requests, service: Led, looks: Looks) -> list[Return]:
    """Leave a scene for another and come back, ``times`` times, by a cut."""
    scene, away, found = Leg("", 0, rule), Leg("", 0, "end"), []
    use_transition(requests, "cut_transition", FADE_MS)
    scene.do(requests, 0)
    for _ in range(times):
        time.sleep(_STAY_S)
        left_at = time.monotonic()
        away.do(requests, 1)
        time.sleep(_AWAY_S)
        back_at = time.monotonic()
        scene.do(requests, 0)
        time.sleep(_SETTLE_S)
        last = decoded(service.between(0, left_at)[-1][1])
        came = [jpeg for _, jpeg in service.between(back_at, time.monotonic())]
        own = [distance(last, decoded(jpeg)) for jpeg in came if looks.judge(jpeg).prompt == PROMPTS[0]]
        if not own:
            raise StreamV2VError(f"{_scene(rule, 0)}: none of its pictures came back within {_SETTLE_S:g} s")
        # Only what differs from the picture before it is here: where the first stands still, it is all there is.
        found.append(Return(own[0], float(np.mean(own[1:] or own))))
    return found


def measure(path: Path, *, switches: int, rounds: int, overrides: Sequence[str], say: Callable[[str], None]) -> Path:
    """Lead the real service by the OBS that obs.host, port and password name, through scenes made for it."""
    load_before = results.load_now()
    overrides = with_password(overrides)
    settings = load_settings(None, overrides)
    requests = open_requests(settings.obs)
    try:
        version = requests.version()
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            photograph = folder / _PHOTOGRAPH
            cv2.imwrite(str(photograph), cv2.cvtColor(square(_PHOTOGRAPH, _SIZE), cv2.COLOR_RGB2BGR))
            still = {"kind": "image", "path": str(photograph)}
            base = {"model.name": "demo", "model.backend": "torch", "capture": json.dumps(still)}
            looks = Looks({p: alone(folder / f"alone {n}", p, base, overrides) for n, p in enumerate(PROMPTS)})
            names = [_scene(rule, number) for rule in _RULES for number in range(2)]
            legs: dict[str, Told] = {}
            frames_ms: list[float] = []
            engine: Status = {}
            with scenes(requests, names), led(folder / "led", base | _led_by_obs(), overrides) as service:
                service.until(lambda status: status["obs"]["state"] == "connected", "it is connected to OBS")
                for leg in LEGS:
                    instants = run(leg, switches, requests)
                    engine = service.status()["engine"]
                    frames_ms.append(engine["translate_ms_p50"])
                    legs[leg.key] = told(leg, instants, service, looks)
                restored = returns("restored", rounds, requests, service, looks)
                emptied = returns("end", rounds, requests, service, looks)
    finally:
        requests.close()
    found = figures(legs, looks.apart, float(np.median(frames_ms)), restored, emptied)
    mixed, event, restore = found["mixed"], found["event_less_a_frame_ms"], found["restore"]
    results.write(
        path,
        "latency",
        command=results.command_line(),
        env=results.environment(engine["device"], load_before),
        config=live.configuration(settings, engine),
        protocol={
            "warmup_frames": 0,
            "timed_frames": mixed["pictures"],
            "repeats": switches,
            "timer": "wall-clock-published",
            "input": f"photograph {_PHOTOGRAPH}, still; OBS {version}",
            "source_fps": settings.capture.fps,
            "sink": "browser",
            "includes": [*TIMED, "publish"],
        },
        results=found,
        checks=[
            results.check("pictures that mix two prompts", 0, mixed["mixed"], at_most=True),
            results.check("pictures of the prompt before, after one of the new", 0, mixed["back"], at_most=True),
            results.check("custom event in force, less a frame, 95 %, ms", _EVENT_MS, event["p95"], at_most=True),
            results.check("restored over reset (upper end)", 0.999, restore["ratio_ci95"][1], at_most=True),
        ],
        notes="latency_ms: from before OBS is asked to the first picture of the new prompt in a viewer's hand; "
        "applied_ms: to the change in the engine, by its log. start and end are a rule's `when`, with a fade of "
        f"{FADE_MS} ms; cut_keep keeps the bank, all others empty it. Every picture is held against all that a "
        "service makes which knows its prompt alone: furthest is the greatest mean difference of a colour, of 255, "
        f"and mixed counts those beyond {MIXED:g} of prompts_apart. restore: the same difference between a scene's "
        "last picture and those after coming back to it; first is the first one, then the mean of later ones "
        f"in {_SETTLE_S:g} s, each that differs from the one before it.",
    )
    for key, spread in found["latency_ms"].items():
        say(f"{key}: {spread['p50']:.0f} ms to the first new picture (95 %: {spread['p95']:.0f})")
    say(f"{mixed['mixed']} of {mixed['pictures']} pictures mix two prompts; restored over reset {restore['ratio']}")
    return path
