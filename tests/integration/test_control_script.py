"""The script for OBS inside a real OBS, with a real service, without one, and with one that hangs."""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Require
from tests.rigs.fake_obspython import SCRIPT
from tests.rigs.obs import RealObs
from tests.rigs.obs30 import EITHER, either_obs
from tests.rigs.service import RunningService, running_service

pytestmark = pytest.mark.obs

PORT = 8770
SETTINGS: dict[str, Any] = {
    "prompt_1": "a blueprint",
    "prompt_2": "a sepia photograph",
    "streamv2v_prompt_2": [{"key": "OBS_KEY_F9", "control": True}],
    "streamv2v_panic": [{"key": "OBS_KEY_F10"}],
    "streamv2v_preset_2": [{"key": "OBS_KEY_F8", "control": True}],
}
PRESETS = "[{name: Water, prompt: a watercolor}, {name: Neon, prompt: neon lights}]"
ABSENT = "streamv2v: the service is not running", "does not answer"
"""Which of the two depends on whether a look met its last moment; either is said once."""


@pytest.fixture(params=EITHER)
def which(request: pytest.FixtureRequest, require: Require) -> str:
    """Which OBS; for ``either_obs``."""
    require("obs", shutil.which("xdotool") is not None, "install xdotool")
    return str(request.param)


@pytest.fixture
def obs(which: str, require: Require, tmp_path: Path) -> Iterator[RealObs]:
    environment = {"STREAMV2V_RUNTIME_DIR": str(tmp_path / "runtime")}
    with either_obs(which, require, scripts=[(SCRIPT, SETTINGS)], environment=environment) as running:
        yield running


def trigger(obs: RealObs, hotkey: str) -> None:
    obs.requests.call("TriggerHotkeyByName", {"hotkeyName": hotkey})


def press(obs: RealObs, *keys: str) -> None:
    """Real keys, held for as long as a finger does; OBS looks at the keyboard 40 times a second."""
    for verb in ("keydown", "keyup"):
        subprocess.run(["xdotool", verb, *keys], env=obs.display.environment(), check=True)
        time.sleep(0.15)


def hotkeys(obs: RealObs) -> list[str]:
    return [name for name in obs.requests.call("GetHotkeyList")["hotkeys"] if name.startswith("streamv2v_")]


def times_absent(obs: RealObs) -> int:
    return sum(obs.said.count(line) for line in ABSENT)


def test_hotkeys_and_real_keys_steer_the_service(obs: RealObs, tmp_path: Path) -> None:
    assert len(hotkeys(obs)) == 18
    given = ("capture.kind=pattern", "translator.prompt=a pencil sketch", f"presets={PRESETS}")
    with running_service(tmp_path, *given) as service:
        service.until(lambda: service.engine().get("prompt") == "a pencil sketch", "the engine has loaded")
        service.until(lambda: "streamv2v: the service is at http" in obs.said, "the script finds the service")

        trigger(obs, "streamv2v_prompt_1")
        _until_prompt(service, "a blueprint")
        press(obs, "ctrl", "F9")
        _until_prompt(service, "a sepia photograph")
        press(obs, "ctrl", "F8")
        _until_prompt(service, "neon lights")
        assert service.status()["preset"] == "Neon"
        trigger(obs, "streamv2v_preset_next")
        _until_prompt(service, "a watercolor")
        press(obs, "F10")
        service.until(lambda: service.status()["publish"]["panic"], "panic is on", 10)
        trigger(obs, "streamv2v_panic_off")
        service.until(lambda: not service.status()["publish"]["panic"], "panic is released", 10)

        # Another scene collection unloads the script, the old one loads it again, with the keys that it saved.
        obs.requests.call("CreateSceneCollection", {"sceneCollectionName": "Other"})
        service.until(lambda: hotkeys(obs) == [], "the script is unloaded", 10)
        obs.requests.call("SetCurrentSceneCollection", {"sceneCollectionName": "Test"})
        service.until(lambda: len(hotkeys(obs)) == 18, "the script is loaded again", 10)
        trigger(obs, "streamv2v_prompt_1")
        _until_prompt(service, "a blueprint")
        press(obs, "ctrl", "F9")
        _until_prompt(service, "a sepia photograph")

        endpoint = service.endpoint()
        assert endpoint is not None
        absences = times_absent(obs)
        assert service.stop() == 0
        time.sleep(5)  # two looks and a half
    assert times_absent(obs) == absences + 1
    assert obs.stop() == 0
    assert endpoint["token"] not in obs.said
    assert "Traceback" not in obs.said


def _until_prompt(service: RunningService, prompt: str) -> None:
    service.until(lambda: service.engine()["prompt"] == prompt, f"{prompt} is in force", 10)


@pytest.mark.parametrize("hangs", [False, True], ids=["absent", "hung"])
def test_obs_runs_as_ever_while_nobody_answers(which: str, require: Require, hangs: bool) -> None:
    # In the private network of this OBS every port is free.
    settings = SETTINGS | ({"address": f"127.0.0.1:{PORT}", "token": "t" * 43} if hangs else {})
    with ExitStack() as open_until_the_end:
        obs = open_until_the_end.enter_context(either_obs(which, require, scripts=[(SCRIPT, settings)]))
        if hangs:  # it takes connections and never answers
            open_until_the_end.enter_context(socket.create_server(("127.0.0.1", PORT)))
        time.sleep(1)
        before = obs.requests.call("GetStats")
        slowest_s, until_at, presses = 0.0, time.monotonic() + 5, 0
        while time.monotonic() < until_at:
            began_at = time.monotonic()
            trigger(obs, f"streamv2v_prompt_{presses % 2 + 1}")
            trigger(obs, "streamv2v_panic")
            obs.scene("AB"[presses % 2])
            slowest_s = max(slowest_s, time.monotonic() - began_at)
            presses += 1
            time.sleep(0.1)
        after = obs.requests.call("GetStats")
        rendered = after["renderTotalFrames"] - before["renderTotalFrames"]
        lagged = after["renderSkippedFrames"] - before["renderSkippedFrames"]
        print(f"{presses} rounds, slowest {slowest_s * 1000:.0f} ms; {lagged} of {rendered} frames lagged")
        # The script waits 2 s for an answer: had OBS waited with it, it would show in both.
        assert slowest_s < 1.0
        assert rendered > 60
        assert lagged < rendered / 5
        began_at = time.monotonic()
        assert obs.stop() == 0
        assert time.monotonic() - began_at < 5.0
        lines = [line for line in obs.said.splitlines() if "streamv2v: " in line]
        assert len(lines) == 1
        assert any(line in lines[0] for line in ABSENT)
        assert "Traceback" not in obs.said
