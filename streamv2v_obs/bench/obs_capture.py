"""What capturing a source of a running OBS costs: pictures a second, the client's share of a core, and their delay."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np

from streamv2v_obs.bench import results
from streamv2v_obs.bench.obs_stage import with_password
from streamv2v_obs.capture.obs_source import ObsSource
from streamv2v_obs.config import load_settings
from streamv2v_obs.errors import ObsError, SourceLost, StreamV2VError
from streamv2v_obs.frames import Pixels
from streamv2v_obs.obs.client import Requests, open_requests
from streamv2v_obs.settings import ObsCapture, ObsSettings

_SIZE = 512
_SCENE, _PICTURE, _COLOUR = "streamv2v bench", "streamv2v bench picture", "streamv2v bench colour"
_GOAL_FPS, _GOAL_SHARE = 30.0, 0.25
_PACE = 31.0
"""Asked for, so that at least 30 come."""
_FASTEST = 240.0
_PATIENCE_S = 10.0


@dataclass
class Read:
    """What came of one source in a while."""

    seconds: float = 0.0
    cpu_s: float = 0.0
    """Of this whole process, all threads."""
    frame_ms: list[float] = field(default_factory=list)
    """From one picture to the next."""

    @property
    def fps(self) -> float:
        """Pictures a second."""
        return len(self.frame_ms) / self.seconds


@contextmanager
def sources(requests: Requests, folder: Path) -> Iterator[None]:
    """A scene on air with a detailed picture and a plain colour, both 512x512; all of it gone after the block."""
    before = requests.program_scene()
    picture = folder / "picture.png"
    cv2.imwrite(str(picture), detailed())
    size = {"width": _SIZE, "height": _SIZE}
    requests.call("CreateScene", {"sceneName": _SCENE})
    try:
        for name, kind, settings in (
            (_PICTURE, "image_source", {"file": str(picture)}),
            (_COLOUR, "color_source_v3", {"color": 0xFF000000, **size}),
        ):
            asked = {"sceneName": _SCENE, "inputName": name, "inputKind": kind, "inputSettings": settings}
            requests.call("CreateInput", asked)
        requests.call("SetCurrentProgramScene", {"sceneName": _SCENE})
        yield
    finally:
        with suppress(ObsError):
            requests.call("SetCurrentProgramScene", {"sceneName": before})
        for name in (_PICTURE, _COLOUR):
            with suppress(ObsError):
                requests.call("RemoveInput", {"inputName": name})
        with suppress(ObsError):
            requests.call("RemoveScene", {"sceneName": _SCENE})


def detailed() -> Pixels:
    """512x512 with edges and grain of every size, which costs a JPEG about what a game's picture does."""
    random = np.random.default_rng(0)
    picture = np.zeros((_SIZE, _SIZE, 3), np.float32)
    for cells in (4, 16, 64, 256):
        coarse = random.uniform(0, 255, (cells, cells, 3)).astype(np.float32)
        picture += cv2.resize(coarse, (_SIZE, _SIZE), interpolation=cv2.INTER_CUBIC) * (0.7 / np.sqrt(cells))
    return np.clip(picture, 0, 255).astype(np.uint8)


def opened(name: str, fps: float, obs: ObsSettings) -> ObsSource:
    """The source, as soon as OBS has drawn it once."""
    until = time.monotonic() + _PATIENCE_S
    while True:
        try:
            return ObsSource(ObsCapture(kind="obs", source=name, width=_SIZE, fps=fps), obs)
        except SourceLost:
            if time.monotonic() > until:
                raise
            time.sleep(0.1)


def read(fps: float, seconds: float, obs: ObsSettings) -> Read:
    """Capture the picture at this pace."""
    source = opened(_PICTURE, fps, obs)
    found = Read()
    try:
        if source.read().pixels.shape != (_SIZE, _SIZE, 3):
            raise StreamV2VError("OBS did not give the picture in its own size")
        began_at, cpu = time.perf_counter(), time.process_time()
        last = began_at
        while last - began_at < seconds:
            source.read()
            now = time.perf_counter()
            found.frame_ms.append(1000 * (now - last))
            last = now
        found.seconds, found.cpu_s = last - began_at, time.process_time() - cpu
    finally:
        source.close()
    return found


def delays(changes: int, obs: ObsSettings, requests: Requests) -> list[float]:
    """From asking OBS for another colour to the first picture of it in hand, in ms, ``changes`` times."""
    source = opened(_COLOUR, _FASTEST, obs)
    found = []
    try:
        for number in range(changes):
            light = number % 2 == 0
            time.sleep(0.05 + 0.0371 * (number % 7))  # at every place within OBS's own beat
            began_at = time.perf_counter()
            colour = {"color": 0xFFFFFFFF if light else 0xFF000000}
            requests.call("SetInputSettings", {"inputName": _COLOUR, "inputSettings": colour})
            while (source.read().pixels.mean() > 128) != light:
                if time.perf_counter() - began_at > _PATIENCE_S:
                    raise StreamV2VError(f"OBS did not show another colour within {_PATIENCE_S:g} s")
            found.append(1000 * (time.perf_counter() - began_at))
    finally:
        source.close()
    return found


def figures(paced: list[Read], fastest: Read, delay_ms: list[float]) -> results.Section:
    """The schema's ``results``."""
    seconds, cpu_s = sum(part.seconds for part in paced), sum(part.cpu_s for part in paced)
    frames = sum(len(part.frame_ms) for part in paced)
    return {
        "fps_steady": round(frames / seconds, 2),
        "fps_repeats": [round(part.fps, 2) for part in paced],
        "frame_ms": results.spread([ms for part in paced for ms in part.frame_ms]),
        "frames": {"captured": frames},
        "latency_ms": {"change_to_picture": results.spread(delay_ms)},
        "processes": {
            "client": {"cpu_share": round(cpu_s / seconds, 3), "cpu_ms_per_frame": round(1000 * cpu_s / frames, 2)}
        },
        "fastest": {"fps": round(fastest.fps, 1), "cpu_share": round(fastest.cpu_s / fastest.seconds, 3)},
    }


def measure(
    path: Path, *, seconds: float, repeats: int, changes: int, overrides: Sequence[str], say: Callable[[str], None]
) -> Path:
    """Capture 512x512 from the OBS that obs.host, port and password name, in a scene of its own made for it."""
    load_before = results.load_now()
    settings = load_settings(None, with_password(overrides))
    requests = open_requests(settings.obs)
    try:
        version = requests.version()
        with tempfile.TemporaryDirectory() as folder, sources(requests, Path(folder)):
            paced = [read(_PACE, seconds, settings.obs) for _ in range(repeats)]
            fastest = read(_FASTEST, seconds, settings.obs)
            delay_ms = delays(changes, settings.obs, requests)
    finally:
        requests.close()
    found = figures(paced, fastest, delay_ms)
    share = found["processes"]["client"]["cpu_share"]
    results.write(
        path,
        "latency",
        command=results.command_line(),
        env=results.environment("cpu", load_before),
        config=results.configuration(
            settings, model="demo", dtype="float32", schedule="stream", width=_SIZE, height=_SIZE
        ),
        protocol={
            "warmup_frames": 1,
            "timed_frames": found["frames"]["captured"],
            "repeats": repeats,
            "timer": "perf_counter+sync",
            "input": f"OBS {version}, image source {_SIZE}x{_SIZE}, as JPEG over the websocket",
            "source_fps": _PACE,
            "sink": "none",
            "includes": ["preprocess"],
            "excludes": ["translator", "OBS's own work"],
        },
        results=found,
        checks=[
            results.check("pictures a second at 512x512", _GOAL_FPS, found["fps_steady"]),
            results.check("share of a core that the client takes", _GOAL_SHARE, share, at_most=True),
        ],
        notes="No translator runs: config stands here because the schema asks for one. frame_ms is from one picture "
        f"to the next, asked for {_PACE:g} times a second; fastest is the same without a pace. change_to_picture is "
        "from asking OBS for another colour to its first picture, decoded. cpu_share: 1 is one core.",
    )
    delay = found["latency_ms"]["change_to_picture"]
    say(
        f"{found['fps_steady']} fps at {_SIZE}x{_SIZE} with {share} of a core, {found['fastest']['fps']} fps at most; "
        f"a change is there after {delay['p50']:.0f} ms (99%: {delay['p99']:.0f})"
    )
    return path
