"""The link to a real OBS: scenes become changes, and nothing that OBS does ends it."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from itertools import pairwise

import cv2
import numpy as np
import pytest

from streamv2v_obs.commands import Change
from streamv2v_obs.errors import ObsError, ObsRefused, ObsUnreachable
from streamv2v_obs.obs.client import open_events, open_requests
from streamv2v_obs.settings import BankPolicy, Rule, SceneRule
from tests.conftest import Require
from tests.rigs.obs import SCENES, RealObs
from tests.rigs.obs30 import EITHER, either_obs
from tests.rigs.obs_listener import listening, settle

pytestmark = pytest.mark.obs


@pytest.fixture(scope="module", params=EITHER)
def running(request: pytest.FixtureRequest, require: Require) -> Iterator[RealObs]:
    with either_obs(request.param, require) as obs:
        yield obs


@pytest.fixture
def obs(running: RealObs) -> RealObs:
    """The one OBS, on scene A, with Cut and without studio mode."""
    running.requests.call("SetStudioModeEnabled", {"studioModeEnabled": False})
    running.transition("Cut")
    running.scene("A")
    settle(running)
    return running


def test_the_present_scene_is_applied_on_connecting(obs: RealObs) -> None:
    rules = (SceneRule(scene="*", prompt="any"), SceneRule(scene="A", prompt="an a", seed=3))
    with listening(obs.settings(*rules)) as heard:
        heard.until_connected()
        assert heard.changes == [Change(prompt="an a", seed=3, scene="A")]
        status = heard.listener.status()
        assert (status.scene, status.rule, status.connects) == ("A", "A", 1)
        assert "websocket 5" in status.version
        obs.scene("C")
        assert heard.until_changed("C") == Change(prompt="any", scene="C")
        assert heard.listener.status().rule == "*"


@pytest.mark.parametrize("policy", ["keep", "reset", "restore"])
def test_a_b_a(obs: RealObs, policy: BankPolicy) -> None:
    rules = (SceneRule(scene="A", prompt="a", bank=policy), SceneRule(scene="B", prompt="b"))
    with listening(obs.settings(*rules)) as heard:
        heard.until_connected()
        obs.scene("B")
        heard.until_changed("B")
        obs.scene("A")
        heard.until_changed("A")
    assert heard.changes == [
        Change(prompt="a", bank=policy, scene="A"),
        Change(prompt="b", scene="B", save_as="A" if policy == "restore" else None),
        Change(prompt="a", bank=policy, scene="A"),
    ]


def test_a_scene_without_a_rule_changes_nothing(obs: RealObs) -> None:
    with listening(obs.settings(SceneRule(scene="A", prompt="a"))) as heard:
        heard.until_connected()
        obs.scene("B")
        heard.until(lambda: heard.listener.status().scene == "B")
        assert heard.changes == [Change(prompt="a", scene="A")]
        assert heard.listener.status().rule is None


def test_bypass_ends_with_its_scene(obs: RealObs) -> None:
    with listening(obs.settings(SceneRule(scene="B", output="bypass"), SceneRule(scene="A", prompt="a"))) as heard:
        heard.until_connected()
        for scene in ("B", "A", "B", "C"):
            obs.scene(scene)
            heard.until(lambda scene=scene: heard.listener.status().scene == scene)  # type: ignore[misc]
    assert heard.bypasses == [True, False, True, False]


def test_the_slate_of_a_scene_and_a_rule_for_all_others(obs: RealObs) -> None:
    settings = obs.settings(SceneRule(scene="B", output="slate")).model_copy(
        update={"default": Rule(prompt="d", bank="fade", blend_s=1)}
    )
    with listening(settings) as heard:
        heard.until_connected()
        for scene in ("B", "C", "B"):
            obs.scene(scene)
            heard.until(lambda scene=scene: heard.listener.status().scene == scene)  # type: ignore[misc]
    assert heard.slates == [True, False, True]
    other = Change(prompt="d", bank="fade", blend_s=1)
    assert heard.changes == [
        replace(other, scene="A"),
        Change(scene="B"),
        replace(other, scene="C"),
        Change(scene="B"),
    ]


def test_a_scene_named_by_its_uuid_keeps_its_rule_under_another_name(obs: RealObs) -> None:
    known = {scene["sceneName"]: scene.get("sceneUuid") for scene in obs.requests.call("GetSceneList")["scenes"]}
    uuid = known["B"] or "6f1c9c2e-0000-4000-8000-0123456789ab"
    with listening(obs.settings(SceneRule(scene=uuid, prompt="b"))) as heard:
        heard.until_connected()
        if not obs.requests.version().at_least(5, 4):
            heard.until(lambda: f"{uuid} stands for no scene" in heard.listener.status().note)
            return
        obs.scene("B")
        assert heard.until_changed("B") == Change(prompt="b", scene="B")
        obs.requests.call("SetSceneName", {"sceneName": "B", "newSceneName": "Another"})
        try:
            heard.until(lambda: heard.listener.status().scene == "Another")
            settle(obs)
            assert len(heard.changes) == 1
            assert heard.listener.status().rule == uuid
        finally:
            obs.requests.call("SetSceneName", {"sceneName": "Another", "newSceneName": "B"})


@pytest.mark.parametrize(("when", "early"), [("start", True), ("end", False)])
def test_a_fade_acts_at_its_start_or_its_end(obs: RealObs, when: str, early: bool) -> None:
    rule = SceneRule.model_validate({"scene": "B", "prompt": "b", "when": when})
    obs.transition("Fade", 1500)
    with listening(obs.settings(rule)) as heard:
        heard.until_connected()
        began_at = time.monotonic()
        obs.scene("B")
        heard.until_changed("B")
        took_s = time.monotonic() - began_at
        assert took_s < 1.2 if early else took_s > 1.3
        time.sleep(max(0.0, began_at + 1.8 - time.monotonic()))
        assert heard.changes == [Change(prompt="b", scene="B")], "once, not at both ends"


def test_a_cut_acts_once_with_when_start(obs: RealObs) -> None:
    with listening(obs.settings(SceneRule(scene="B", when="start", bank="reset"))) as heard:
        heard.until_connected()
        obs.scene("B")
        heard.until_changed("B")
        settle(obs)
        assert heard.changes == [Change(scene="B", bank="reset")]


def test_a_fade_that_is_taken_back_ends_where_it_began(obs: RealObs) -> None:
    obs.transition("Fade", 600)
    rules = (SceneRule(scene="A", prompt="a"), SceneRule(scene="B", prompt="b", when="start"))
    with listening(obs.settings(*rules)) as heard:
        heard.until_connected()
        obs.scene("B")
        heard.until_changed("B")
        obs.scene("A")
        heard.until_changed("A")
        settle(obs, 0.8)
        assert [change.scene for change in heard.changes] == ["A", "B", "A"]


@pytest.mark.parametrize("when", ["start", "end"])
def test_after_sixty_rapid_switches_the_last_one_is_in_force(obs: RealObs, when: str) -> None:
    rules = [SceneRule.model_validate({"scene": name, "prompt": name, "when": when}) for name in SCENES]
    with listening(obs.settings(*rules)) as heard:
        heard.until_connected()
        for number in range(60):
            obs.scene("ABC"[number % 3])
            time.sleep(0.01)
        obs.scene("B")
        settle(obs, 0.5)
        heard.until_changed("B")
        entered = [change.scene for change in heard.changes]
        assert all(one != next_one for one, next_one in pairwise(entered))
        assert heard.listener.status().connects == 1


def test_studio_mode_acts_on_the_take_only(obs: RealObs) -> None:
    rules = [SceneRule(scene=name, prompt=name, bank="reset") for name in SCENES]
    with listening(obs.settings(*rules)) as heard:
        heard.until_connected()
        obs.requests.call("SetStudioModeEnabled", {"studioModeEnabled": True})
        obs.preview("B")
        settle(obs)
        assert [change.scene for change in heard.changes] == ["A"]
        heard.until(lambda: heard.prepared == ["B"])
        obs.requests.call("TriggerStudioModeTransition")
        heard.until_changed("B")
        # Leaving it, OBS names the scene of the preview as if it were on air, and then the one that is.
        obs.preview("C")
        obs.requests.call("SetStudioModeEnabled", {"studioModeEnabled": False})
        settle(obs)
        assert [change.scene for change in heard.changes] == ["A", "B"]


def test_another_scene_collection_is_one_change_and_no_lost_link(obs: RealObs) -> None:
    rules = (SceneRule(scene="A", prompt="a"), SceneRule(scene="Scene", prompt="default"))
    with listening(obs.settings(*rules)) as heard:
        heard.until_connected()
        obs.requests.call("CreateSceneCollection", {"sceneCollectionName": "Other"})
        heard.until_changed("Scene")
        obs.requests.call("SetCurrentSceneCollection", {"sceneCollectionName": "Test"})
        heard.until_changed("A")
        settle(obs)
        assert [change.scene for change in heard.changes] == ["A", "Scene", "A"]
        assert heard.listener.status().connects == 1


@pytest.mark.parametrize("password", ["not it", ""])
def test_a_wrong_password_is_refused_and_not_tried_again(obs: RealObs, password: str) -> None:
    with listening(obs.settings(password=password)) as heard:
        heard.until(lambda: heard.listener.status().state == "refused")
        heard.listener.join(2)
        assert not heard.listener._thread.is_alive()
        assert "obs.password" in heard.listener.status().detail
    with pytest.raises(ObsRefused, match=r"obs\.password"):
        open_requests(obs.settings(password=password))


def test_a_password_that_was_changed_is_said_once_and_not_tried_again(
    obs: RealObs, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    before, after = obs.password, "another-one-that-no-log-may-show"
    try:
        with listening(obs.settings(SceneRule(scene="A", prompt="a"))) as heard:
            heard.until_connected()
            obs.stop()
            obs.change_password(after)
            obs.restart()
            heard.until(lambda: heard.listener.status().state == "refused", 15)
            settle(obs, 1.0)
            assert heard.changes == [Change(prompt="a", scene="A")], "what is in force stays in force"
            assert caplog.text.count("OBS: refused") == 1, "one line"
            assert before not in caplog.text
            assert after not in caplog.text
    finally:
        if obs.running:
            obs.stop()
        obs.change_password(before)
        obs.restart()


def test_no_password_is_ever_logged(
    obs: RealObs, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    wrong = "a-wrong-one-is-a-secret-too"
    for name in (None, "obsws_python", "obsws_python.baseclient", "obsws_python.baseclient.ObsClient", "websocket"):
        caplog.set_level(logging.DEBUG, logger=name)
    with listening(obs.settings(SceneRule(scene="*", prompt="p"))) as heard:
        heard.until_connected()
        obs.scene("B")
        heard.until_changed("B")
        connection = obs.requests._connection
        shown = [repr(heard.listener), repr(heard.listener.status()), repr(obs.requests), repr(vars(obs.requests))]
        shown += [repr(vars(connection)), repr(vars(connection._client)), repr(obs.settings())]
    with pytest.raises(ObsRefused) as refused:
        open_requests(obs.settings(password=wrong))
    shown += [str(refused.value), repr(refused.value.__cause__), caplog.text, *capfd.readouterr()]
    assert "connected" in caplog.text
    for text in shown:
        assert obs.password not in text
        assert wrong not in text


@pytest.mark.parametrize("scene", list(SCENES))
def test_a_screenshot_shows_the_colour_of_its_source(obs: RealObs, scene: str) -> None:
    jpeg = obs.requests.screenshot(f"{scene} colour", 64)
    picture = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)
    assert picture is not None
    assert picture.shape == (36, 64, 3)
    assert np.abs(picture.mean((0, 1))[::-1] - SCENES[scene]).max() < 4
    whole = cv2.imdecode(np.frombuffer(obs.requests.screenshot(scene), np.uint8), cv2.IMREAD_COLOR)
    assert whole is not None
    assert whole.shape == (180, 320, 3)


def test_a_source_that_is_not_there_is_told_and_the_connection_goes_on(obs: RealObs) -> None:
    with pytest.raises(ObsError, match="No source was found by the name of `nothing`") as told:
        obs.requests.screenshot("nothing", 64)
    assert not isinstance(told.value, ObsUnreachable | ObsRefused)
    assert obs.requests.program_scene() == "A"


def test_what_is_set_in_a_source_is_told_by_obs_from_websocket_5_4_on(obs: RealObs) -> None:
    version = tuple(int(part) for part in obs.requests.version().websocket.split("."))
    with closing(open_events(obs.settings())) as events:
        settings = {"inputName": "A colour", "inputSettings": {"width": 300}}
        obs.requests.call("SetInputSettings", settings)
        heard: list[str] = []
        until = time.monotonic() + (10 if version >= (5, 4) else 1)
        while "InputSettingsChanged" not in heard and time.monotonic() < until:
            heard.append(str((events.read(0.5) or {}).get("eventType")))
    assert ("InputSettingsChanged" in heard) == (version >= (5, 4)), version


def test_after_a_timeout_no_request_gets_the_answer_of_an_earlier_one(obs: RealObs) -> None:
    with closing(open_requests(obs.settings(timeout_s=0.5))) as requests:
        obs.freeze()
        try:
            with pytest.raises(ObsUnreachable, match=r"did not answer within 0\.5 s"):
                requests.version()
        finally:
            obs.thaw()
        time.sleep(0.3)
        with pytest.raises(ObsUnreachable, match="closed"):
            requests.program_scene()


def test_nobody_there_is_tried_until_somebody_is(obs: RealObs, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    obs.kill()
    try:
        with listening(obs.settings(SceneRule(scene="*", prompt="p"))) as heard:
            heard.until(lambda: "nothing listens" in heard.listener.status().detail)
            time.sleep(1.2)
            assert heard.listener.status().state == "connecting"
            assert caplog.text.count("nothing listens") == 1, "one line for a change of state, not one for each try"
            assert heard.changes == []
            obs.restart()
            heard.until_connected()
            heard.until(lambda: bool(heard.changes))
    finally:
        if not obs.running:
            obs.restart()


def test_obs_killed_and_started_again_is_back_within_ten_seconds(obs: RealObs) -> None:
    rules = (SceneRule(scene="A", prompt="a"), SceneRule(scene="B", prompt="b"))
    with listening(obs.settings(*rules)) as heard:
        heard.until_connected()
        obs.kill()
        heard.until(lambda: heard.listener.status().state == "connecting")
        assert [change.scene for change in heard.changes] == ["A"], "losing OBS changes nothing"
        obs.restart()
        began_at = time.monotonic()
        obs.scene("B")
        heard.until_connected(times=2)
        assert heard.until_changed("B") == Change(prompt="b", scene="B")
        assert time.monotonic() - began_at < 10


def test_obs_closed_in_order_does_not_wait_for_us(obs: RealObs) -> None:
    with listening(obs.settings(SceneRule(scene="*", prompt="p"))) as heard:
        heard.until_connected()
        obs.scene("B")
        heard.until_changed("B")
        began_at = time.monotonic()
        obs.stop()
        assert time.monotonic() - began_at < 4, "OBS waits 5 s for clients that stay"
        heard.until(lambda: heard.listener.status().state == "connecting")
        assert [change.scene for change in heard.changes] == ["A", "B"], "its scenes going away are no scenes on air"
        obs.restart()
        heard.until_connected(times=2)


def test_a_frozen_obs_is_noticed_and_the_same_scene_is_not_applied_again(obs: RealObs) -> None:
    with listening(obs.settings(SceneRule(scene="A", bank="reset"))) as heard:
        heard.until_connected()
        obs.freeze()
        try:
            heard.until(lambda: "did not answer" in heard.listener.status().detail, within_s=5)
        finally:
            obs.thaw()
        heard.until_connected(times=2)
        settle(obs)
        assert heard.changes == [Change(scene="A", bank="reset")]


def test_stopping_does_not_wait_for_a_frozen_obs(obs: RealObs) -> None:
    with listening(obs.settings(timeout_s=30)) as heard:
        heard.until_connected()
        obs.freeze()
        time.sleep(2.5)  # now it waits for the answer to its heartbeat
        heard.listener.stop()
        heard.listener.join(2)
        assert not heard.listener._thread.is_alive()
        obs.thaw()
