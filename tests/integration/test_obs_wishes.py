"""What is asked for from inside a real OBS: custom events, items and filters named like presets."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest

from streamv2v_obs.commands import Change
from streamv2v_obs.obs.client import Events, open_events
from streamv2v_obs.presets import change_to
from streamv2v_obs.settings import Preset, SceneRule
from tests.conftest import Require
from tests.rigs.obs import RealObs
from tests.rigs.obs30 import EITHER, either_obs
from tests.rigs.obs_listener import listening, settle

pytestmark = pytest.mark.obs

COMIC = Preset(name="Comic", prompt="a comic", strength=0.5)
OIL = Preset(name="Oil", prompt="oil", bank="reset")
PRESETS = (COMIC, OIL)


@pytest.fixture(scope="module", params=EITHER)
def running(request: pytest.FixtureRequest, require: Require) -> Iterator[RealObs]:
    with either_obs(request.param, require) as obs:
        yield obs


@pytest.fixture
def obs(running: RealObs) -> RealObs:
    running.scene("A")
    settle(running)
    return running


def send(obs: RealObs, data: Any) -> None:
    obs.requests.broadcast({"streamv2v": data})


def read_refusal(events: Events, within_s: float = 10.0) -> dict[str, Any]:
    until = time.monotonic() + within_s
    while time.monotonic() < until:
        message = events.read(0.5)
        data = (message or {}).get("eventData") or {}
        if "streamv2v_refused" in data:
            return dict(data["streamv2v_refused"])
    raise AssertionError("no refusal came")


def test_custom_events_steer_and_what_cannot_be_done_is_told_to_all(obs: RealObs) -> None:
    with listening(obs.settings(SceneRule(scene="A", prompt="a")), PRESETS) as heard:
        heard.until_connected()
        with closing(open_events(obs.settings())) as others:
            send(obs, {"prompt": "a lake", "seed": 4})
            heard.until(lambda: Change(prompt="a lake", seed=4) in heard.changes)
            send(obs, {"preset": "next"})
            send(obs, {"preset": "next"})
            heard.until(lambda: heard.changes[-2:] == [change_to(COMIC), change_to(OIL)])
            send(obs, {"panic": True})
            send(obs, {"panic": False, "bypass": False})
            heard.until(lambda: (heard.panics, heard.bypasses) == ([True, False], [False]))

            changes = list(heard.changes)
            send(obs, {"prompt": "p", "bypass": True})
            refusal = read_refusal(others)
            assert "obs.bypass_by_event" in refusal["error"]
            assert refusal["asked"] == {"prompt": "p", "bypass": True}
            send(obs, {"prompt": "x" * 5000})
            refusal = read_refusal(others)
            assert "at most 1000" in refusal["error"]
            assert "asked" not in refusal, "what is that long is not sent back"
            heard.until(lambda: "at most 1000" in heard.listener.status().note)
            settle(obs)
            assert heard.changes == changes, "all of it or nothing"
            assert heard.bypasses == [False]
            # Neither the refusals nor anybody's answer to them came back as an order.
            obs.requests.broadcast({"streamv2v_refused": refusal, "streamv2v": {"prompt": "an echo"}})
            obs.requests.broadcast({"another": {"prompt": "not for us"}})
            send(obs, {"strength": 0.6})
            heard.until(lambda: heard.changes[-1] == Change(strength=0.6))
            assert heard.changes == [*changes, Change(strength=0.6)]
            heard.until(lambda: heard.listener.status().note == "")


def test_custom_events_may_be_switched_off(obs: RealObs) -> None:
    settings = obs.settings().model_copy(update={"custom_events": False})
    with listening(settings, PRESETS) as heard:
        heard.until_connected()
        send(obs, {"prompt": "a lake"})
        settle(obs)
        assert heard.changes == []
        assert heard.listener.status().connects == 1


def test_an_item_named_like_a_preset_calls_it(obs: RealObs) -> None:
    items: dict[tuple[str, str], int] = {}
    for scene, name in (("A", "Oil"), ("A", "Comic"), ("B", "Comic")):
        # The same source in two scenes is two items, as users have it.
        if (scene, name) == ("B", "Comic"):
            created = obs.requests.call("CreateSceneItem", {"sceneName": scene, "sourceName": name})
        else:
            colour = {"sceneName": scene, "inputName": name, "inputKind": "color_source_v3", "sceneItemEnabled": False}
            created = obs.requests.call("CreateInput", colour)
        items[scene, name] = created["sceneItemId"]

    def switch(scene: str, name: str, on: bool) -> None:
        asked = {"sceneName": scene, "sceneItemId": items[scene, name], "sceneItemEnabled": on}
        obs.requests.call("SetSceneItemEnabled", asked)

    switch("B", "Comic", False)
    settings = obs.settings(SceneRule(scene="B", prompt="b")).model_copy(update={"preset_items": True})
    try:
        with listening(settings, PRESETS) as heard:
            heard.until_connected()
            settle(obs)
            assert heard.changes == [], "none of them is on"
            switch("A", "Oil", True)
            heard.until(lambda: heard.changes == [change_to(OIL)])
            switch("A", "Comic", True)
            heard.until(lambda: heard.changes[1:] == [change_to(COMIC)])
            switch("A", "Comic", False)
            switch("B", "Comic", True)
            settle(obs)
            assert len(heard.changes) == 2, "off is no call, nor is what happens in a scene that is not on air"
            obs.scene("B")
            heard.until(lambda: heard.changes[2:] == [Change(prompt="b", scene="B"), change_to(COMIC)])
            obs.scene("C")
            heard.until(lambda: heard.listener.status().scene == "C")
            obs.scene("A")
            heard.until(lambda: heard.changes[4:] == [change_to(OIL)])
    finally:
        for name in ("Oil", "Comic"):
            obs.requests.call("RemoveInput", {"inputName": name})


def test_a_filter_named_like_a_preset_calls_it(obs: RealObs) -> None:
    source = {"sourceName": "A colour", "filterName": "Comic"}
    obs.requests.call("CreateSourceFilter", source | {"filterKind": "color_filter_v2"})
    try:
        with listening(obs.settings().model_copy(update={"preset_filters": True}), PRESETS) as heard:
            heard.until_connected()
            for on in (False, True):
                obs.requests.call("SetSourceFilterEnabled", source | {"filterEnabled": on})
            heard.until(lambda: bool(heard.changes))
            settle(obs)
            assert heard.changes == [change_to(COMIC)]
    finally:
        obs.requests.call("RemoveSourceFilter", source)


def test_a_text_typed_letter_by_letter_is_one_prompt(obs: RealObs) -> None:
    text = {"sceneName": "A", "inputName": "Words", "inputKind": "text_ft2_source_v2"}
    settings = obs.settings(SceneRule(scene="A", prompt="a")).model_copy(update={"prompt_text": "Words"})

    def say(words: str) -> None:
        obs.requests.call("SetInputSettings", {"inputName": "Words", "inputSettings": {"text": words}})

    with listening(settings) as heard:
        heard.until_connected()
        heard.until(lambda: "No source was found by the name of `Words`" in heard.listener.status().note)
        obs.requests.call("CreateInput", text)
        try:
            heard.until(lambda: heard.listener.status().note == "", 15)
            for end in range(1, 22):
                say("a lake in autumn rain"[:end])
                time.sleep(0.1)
            heard.until(lambda: len(heard.changes) > 1)
            say("a lake in autumn rain\n")
            settle(obs, 2.5)
            assert heard.changes == [Change(prompt="a", scene="A"), Change(prompt="a lake in autumn rain")]
            assert heard.listener.status().connects == 1
        finally:
            obs.requests.call("RemoveInput", {"inputName": "Words"})


def test_what_a_viewer_asks_for_is_handed_on_and_a_refusal_does_not_repeat_it(obs: RealObs) -> None:
    with listening(obs.settings(SceneRule(scene="A", prompt="a")), PRESETS) as heard:
        heard.until_connected()
        with closing(open_events(obs.settings())) as others:
            send(obs, {"viewer": {"prompt": "a lake", "name": "anna"}})
            heard.until(lambda: heard.asked == [("a lake", "anna")])
            heard.refuse_viewers = "a viewer's prompt holds a word that is blocked"
            send(obs, {"viewer": {"prompt": "something nasty", "name": "anna"}})
            assert read_refusal(others) == {"error": "a viewer's prompt holds a word that is blocked"}
            send(obs, {"viewer": {"prompt": "x"}, "bypass": True})
            assert "stands alone" in read_refusal(others)["error"]
        assert heard.bypasses == []
