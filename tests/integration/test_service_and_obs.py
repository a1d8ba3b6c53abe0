"""The real service led by a real OBS: scenes change prompt and bank, and losing OBS stops no picture."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.conftest import Require
from tests.rigs.obs import PASSWORD, RealObs
from tests.rigs.obs30 import EITHER, either_obs
from tests.rigs.service import RunningService, Viewer, running_service

pytestmark = pytest.mark.obs

RULES = """[
    {scene: A, prompt: a pencil sketch, bank: restore},
    {scene: B, prompt: a blueprint, bank: reset, strength: 0.5},
    {scene: "C*", prompt: a sepia photograph, bank: keep},
    {scene: Pause, output: slate, bank: fade, steps: 1}]"""
PRESETS = "[{name: Neon, prompt: neon lights}, {name: Print, prompt: a blueprint, strength: 0.5, blend_s: 0.5}]"
LED_BY_OBS = (
    "capture.kind=pattern",
    "obs.enabled=true",
    "obs.password={env: OBS_PASSWORD}",
    f"obs.rules={RULES}",
    f"presets={PRESETS}",
)


@pytest.fixture(params=EITHER)
def obs(request: pytest.FixtureRequest, require: Require) -> Iterator[RealObs]:
    with either_obs(request.param, require) as running:
        yield running


@pytest.fixture
def service(obs: RealObs, tmp_path: Path) -> Iterator[RunningService]:
    with running_service(tmp_path, *LED_BY_OBS, environment={"OBS_PASSWORD": PASSWORD}) as running:
        running.until_on_air("TRANSLATED")
        yield running


def until_scene(service: RunningService, scene: str) -> dict[str, object]:
    service.until(lambda: service.engine()["scene"] == scene, f"scene {scene} is in force")
    return service.engine()


def tint(viewer: Viewer) -> float:
    """Blue minus red of the newest picture: blueprint far above zero, sepia far below, pencil near it."""
    red, _, blue = viewer.newest().mean
    return blue - red


def service_times(service: RunningService) -> tuple[float, float]:
    """CPU seconds that the service's own process, without the engine, has used: user and system."""
    used = psutil.Process(service.process.pid).cpu_times()
    return used.user, used.system


def test_scenes_change_prompt_and_bank_as_their_rules_say(obs: RealObs, service: RunningService) -> None:
    at_a = until_scene(service, "A")
    assert at_a["prompt"] == "a pencil sketch"
    service.until(lambda: service.engine()["bank_filled"], "the bank holds something")
    resets, restores = service.engine()["bank_resets"], service.engine()["bank_restores"]
    with Viewer(service) as viewer:
        service.until(lambda: bool(viewer.seen) and abs(tint(viewer)) < 12, "a pencil sketch is grey")

        obs.scene("B")
        at_b = until_scene(service, "B")
        assert (at_b["prompt"], at_b["strength"]) == ("a blueprint", 0.5)
        assert at_b["bank_resets"] == resets + 1
        assert at_b["scenes_stored"] == ["A"], "A's bank was kept to come back to"
        service.until(lambda: tint(viewer) > 20, "a blueprint is blue")

        obs.scene("A")
        back_at_a = until_scene(service, "A")
        assert (back_at_a["prompt"], back_at_a["strength"]) == ("a pencil sketch", 0.5), "what no rule sets stays"
        assert (back_at_a["bank_restores"], back_at_a["bank_resets"]) == (restores + 1, resets + 1)
        service.until(lambda: abs(tint(viewer)) < 12, "a pencil sketch again")

        obs.scene("C")
        at_c = until_scene(service, "C")
        assert at_c["prompt"] == "a sepia photograph"
        assert (at_c["bank_restores"], at_c["bank_resets"]) == (restores + 1, resets + 1), "kept"
        service.until(lambda: tint(viewer) < -20, "a sepia photograph is brown")

        changes = service.engine()["changes"]
        obs.scene("C")
        time.sleep(1)
        assert service.engine()["changes"] == changes, "the same scene again does nothing"

        obs.requests.broadcast({"streamv2v": {"preset": "Print"}})
        service.until(lambda: service.status()["preset"] == "Print", "the preset is in force")
        service.until(lambda: service.engine()["prompt"] == "a blueprint", "so is its prompt")
        service.until(lambda: tint(viewer) > 20, "a blueprint is blue")

        obs.requests.call("CreateScene", {"sceneName": "Pause"})
        obs.scene("Pause")
        service.until_on_air("SLATE")
        assert service.status()["publish"]["slate"]
        service.until(lambda: service.engine()["steps"] == 1, "the engine goes on, with one step")
        obs.scene("C")
        service.until_on_air("TRANSLATED")
        service.until(lambda: tint(viewer) < -20, "a sepia photograph again")
        assert service.status()["preset"] is None
    status = service.status()["obs"]
    assert (status["state"], status["scene"], status["rule"]) == ("connected", "C", "C*")
    assert service.stop() == 0
    assert PASSWORD not in service.said


def test_pictures_go_on_without_obs_and_the_link_comes_back(obs: RealObs, service: RunningService) -> None:
    until_scene(service, "A")
    obs.scene("B")
    until_scene(service, "B")
    with Viewer(service) as viewer:
        service.until(lambda: viewer.count > 5, "pictures come")
        obs.freeze()
        lost = service.said.count("OBS: connecting")
        service.until(lambda: service.status()["obs"]["state"] == "connecting", "the silence is noticed", 10)
        seen, busy_s = viewer.count, sum(service_times(service))
        time.sleep(20)
        assert viewer.count > seen, "pictures go on"
        assert sum(service_times(service)) - busy_s < 6, "waiting for it is no work"
        obs.thaw()
        service.until(lambda: service.status()["obs"]["state"] == "connected", "it is heard again", 10)
        assert service.said.count("OBS: connecting") == lost + 1, "one line, not one for each attempt"
        obs.kill()
        service.until(lambda: service.status()["obs"]["state"] == "connecting", "the loss is noticed", 10)
        seen, translated = viewer.count, service.engine()["translated"]
        time.sleep(3)
        assert viewer.count > seen, "pictures go on"
        assert service.engine()["translated"] > translated
        assert service.engine()["prompt"] == "a blueprint", "what was in force stays in force"
        obs.restart()  # and comes up in scene A
        took_s = service.until(lambda: service.status()["obs"]["state"] == "connected", "the link is back", 10)
        print(f"link back after {took_s:.1f} s")
        assert until_scene(service, "A")["prompt"] == "a pencil sketch"
        assert viewer.longest_gap_s < 2
    assert PASSWORD not in service.said
    assert service.stop() == 0


def test_a_wrong_password_is_said_and_stops_nothing(obs: RealObs, tmp_path: Path) -> None:
    with running_service(tmp_path, *LED_BY_OBS, environment={"OBS_PASSWORD": "not this one"}) as service:
        service.until(lambda: service.status()["obs"]["state"] == "refused", "OBS refuses")
        assert "password" in service.status()["obs"]["detail"]
        service.until_on_air("TRANSLATED")
        assert service.said.count("not this one") == 0
        assert service.stop() == 0


def test_a_source_of_obs_is_translated(obs: RealObs, tmp_path: Path) -> None:
    overrides = ("capture.kind=obs", "capture.source=B colour", *LED_BY_OBS[2:3], "translator.prompt=a photo")
    with running_service(tmp_path, *overrides, environment={"OBS_PASSWORD": PASSWORD}) as service:
        service.until_on_air("TRANSLATED")
        with Viewer(service) as viewer:
            service.until(lambda: bool(viewer.seen), "a picture comes")
            red, green, blue = viewer.newest().mean
            assert green > red + 40, "the source is green"
            assert green > blue + 40
        assert service.stop() == 0
