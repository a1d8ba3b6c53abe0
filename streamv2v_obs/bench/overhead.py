"""What the service adds to translating: delay, memory and work, with a real screen and a model that keeps pace."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import psutil

from streamv2v_obs.bench import results
from streamv2v_obs.bench.live import Watched, configuration, figures, watch
from streamv2v_obs.bench.results import TIMED
from streamv2v_obs.bench.subject import Say
from streamv2v_obs.config import load_settings
from streamv2v_obs.errors import StreamV2VError
from streamv2v_obs.settings import Settings

SIDE, FPS = 512, 30
_KEEPS_PACE = 0.98
_DELAY_MS, _MEMORY_MIB, _SHARE = 12, 60, 0.06

# A picture of 128x128 and one step: the demo model then takes a third of the time that there is for a picture, and
# the service has a core's worth of room, as it has beside a GPU. Captured and published is 512x512.
_CHEAP = (
    *(f"capture.region=[64, 64, {SIDE}, {SIDE}]", "capture.kind=screen", f"capture.fps={FPS}"),
    *("model.name=demo", "model.width=128", "model.height=128", "translator.steps=1"),
    *(f"publish.width={SIDE}", f"publish.height={SIDE}", f"publish.fps={FPS}", "publish.outputs=[browser]"),
)


def outputs_alone_mib(settings: Settings) -> float:
    """Resident memory of a process that imports, opens and feeds the same outputs and does nothing else."""
    command = [sys.executable, "-m", "streamv2v_obs.bench.outputs_alone", settings.publish.model_dump_json()]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None  # noqa: S101 - asked for
        if process.stdout.readline() != "shown\n":
            raise StreamV2VError("the outputs alone did not come up")
        return float(psutil.Process(process.pid).memory_info().rss / 2**20)


def python_mib() -> float:
    """Resident memory of a Python that has imported nothing."""
    command = [sys.executable, "-c", "print(flush=True); input()"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None  # noqa: S101 - asked for
        assert process.stdout is not None  # noqa: S101 - asked for
        process.stdout.readline()
        found = float(psutil.Process(process.pid).memory_info().rss / 2**20)
        process.stdin.write("\n")
        return found


def delays_ms(seen: Watched) -> list[float]:
    """Age of the picture shown less the time of translating it, each second: both are medians over five seconds."""
    return [
        status["publish"]["content_age_ms_p50"] - status["engine"]["translate_ms_p50"]
        for status in seen.statuses
        if status["publish"]["content_age_ms_p50"] is not None and status["engine"]["translate_ms_p50"] is not None
    ]


def measure(out: Path, seconds: int, warm_up_s: float, overrides: Sequence[str], say: Say) -> Path:
    """Watch the service over a screen with a moving window; write ``out``/overhead.json."""
    # They lie with the tests, and only a checkout has them.
    from tests.rigs.x_window import moving_window
    from tests.rigs.xvfb import xvfb

    load_before = results.load_now()
    changes = [*_CHEAP, *overrides]
    settings = load_settings(None, changes)
    with xvfb(640, 640) as display, moving_window(display.name):
        here = {"DISPLAY": display.name, "WAYLAND_DISPLAY": "", "XDG_SESSION_TYPE": ""}
        seen = watch(changes, seconds, warm_up_s, here)
    found = figures(seen)
    alone, bare = outputs_alone_mib(settings), python_mib()
    service, engine = found["processes"]["service"], seen.statuses[-1]["engine"]
    found["overhead"] = {
        "delay_ms": results.spread(delays_ms(seen)),
        "translate_ms": results.spread([status["engine"]["translate_ms_p50"] for status in seen.statuses]),
        "memory_mib": round(service["rss_mib"] - alone, 1),
        "outputs_alone_mib": round(alone, 1),
        "python_mib": round(bare, 1),
        "cpu_share": service["cpu_share"],
    }
    told = found["overhead"]
    least = _KEEPS_PACE * FPS
    path = out / "overhead.json"
    results.write(
        path,
        "latency",
        command=results.command_line(),
        env=results.environment(engine["device"], load_before),
        config=configuration(settings, engine),
        protocol={
            "warmup_frames": seen.statuses[0]["engine"]["translated"],
            "timed_frames": found["frames"]["processed"],
            "repeats": 1,
            "timer": "wall-clock-published",
            "input": f"{engine['source']}, a window moving on it; published {SIDE}x{SIDE}",
            "source_fps": settings.capture.fps,
            "sink": "browser, one viewer",
            "includes": [*TIMED, "publish"],
        },
        results=found,
        checks=[
            results.check("translated pictures a second: the model keeps pace", least, found["translated_fps"]),
            results.check("new pictures published a second", least, found["distinct_fps"]),
            results.check("delay beside translating, median, ms", _DELAY_MS, told["delay_ms"]["p50"], at_most=True),
            results.check("memory beside Python and outputs, MiB", _MEMORY_MIB, told["memory_mib"], at_most=True),
            results.check("share of a core", _SHARE, told["cpu_share"], at_most=True),
        ],
        notes="delay_ms: the age of the picture on the air (from the moment before the screen is read to the tick "
        "that publishes it; pictures shown again count again) less the time of the translator's step, medians over "
        "five seconds, looked at once a second. memory_mib: resident memory of the service's process less that of one "
        "that imports, opens and feeds the same outputs and does nothing else. cpu_share: of one core, the service's "
        "process, with a viewer of the stream.",
    )
    say(
        f"{told['delay_ms']['p50']:.1f} ms beside {told['translate_ms']['p50']:.1f} ms of translating, at "
        f"{found['translated_fps']} pictures a second; {told['memory_mib']} MiB more than its outputs alone "
        f"({told['outputs_alone_mib']}); {told['cpu_share']} of a core"
    )
    return path
