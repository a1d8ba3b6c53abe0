"""JSON of obs-websocket becomes events, and nothing it sends becomes an exception."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from streamv2v_obs.obs import events
from streamv2v_obs.obs.events import Event, parse

TOLD: list[tuple[str, dict[str, Any], Event]] = [
    ("CurrentProgramSceneChanged", {"sceneName": "A"}, events.ProgramSceneChanged("A")),
    ("CurrentProgramSceneChanged", {"sceneName": "A", "sceneUuid": "1-2"}, events.ProgramSceneChanged("A", "1-2")),
    ("CurrentProgramSceneChanged", {"sceneName": "A"}, events.ProgramSceneChanged("A")),
    ("SceneTransitionStarted", {"transitionName": "Fade"}, events.TransitionStarted("Fade")),
    ("SceneTransitionEnded", {"transitionName": "Fade"}, events.TransitionEnded("Fade")),
    ("CurrentPreviewSceneChanged", {"sceneName": "A"}, events.PreviewSceneChanged("A")),
    ("StudioModeStateChanged", {"studioModeEnabled": True}, events.StudioModeChanged(True)),
    ("SceneNameChanged", {"oldSceneName": "A", "sceneName": "B"}, events.SceneRenamed("A", "B")),
    (
        "SceneListChanged",
        {"scenes": [{"sceneName": "A", "sceneIndex": 0}, {"sceneName": "B", "sceneIndex": 1}]},
        events.SceneListChanged(("A", "B")),
    ),
    ("CurrentSceneCollectionChanging", {"sceneCollectionName": "T"}, events.CollectionChanging("T")),
    ("CurrentSceneCollectionChanged", {"sceneCollectionName": "T"}, events.CollectionChanged("T")),
    ("InputCreated", {"inputName": "Cam", "inputKind": "v4l2_input"}, events.InputCreated("Cam")),
    ("InputRemoved", {"inputName": "Cam"}, events.InputRemoved("Cam")),
    ("InputNameChanged", {"oldInputName": "Cam", "inputName": "C"}, events.InputRenamed("Cam", "C")),
    (
        "InputSettingsChanged",
        {"inputName": "Words", "inputSettings": {"text": "a lake"}},
        events.InputSettingsChanged("Words", {"text": "a lake"}),
    ),
    (
        "SceneItemEnableStateChanged",
        {"sceneName": "A", "sceneItemId": 3, "sceneItemEnabled": True},
        events.ItemSwitched("A", 3, True),
    ),
    (
        "SourceFilterEnableStateChanged",
        {"sourceName": "Cam", "filterName": "Comic", "filterEnabled": False},
        events.FilterSwitched("Cam", "Comic", False),
    ),
    ("VirtualcamStateChanged", {"outputActive": True}, events.VirtualCameraSwitched(True)),
    ("ExitStarted", {}, events.ExitStarted()),
    ("CustomEvent", {"any": ["thing"]}, events.CustomEvent({"any": ["thing"]})),
]


@pytest.mark.parametrize(("name", "data", "event"), TOLD)
def test_each_event_is_read(name: str, data: dict[str, Any], event: Event) -> None:
    assert parse({"eventType": name, "eventIntent": 4, "eventData": data}) == event


def test_an_event_without_data_is_read() -> None:
    assert parse({"eventType": "ExitStarted"}) == events.ExitStarted()


def test_what_is_of_no_interest_is_no_event_and_no_complaint(caplog: pytest.LogCaptureFixture) -> None:
    assert parse({"eventType": "InputMuteStateChanged", "eventData": {"inputMuted": True}}) is None
    assert not caplog.records


@pytest.mark.parametrize(
    "message",
    [
        {},
        {"eventType": 5},
        {"eventType": "CurrentProgramSceneChanged"},
        {"eventType": "CurrentProgramSceneChanged", "eventData": {"sceneName": None}},
        {"eventType": "CurrentProgramSceneChanged", "eventData": ["A"]},
        {"eventType": "StudioModeStateChanged", "eventData": {"studioModeEnabled": "yes"}},
        {"eventType": "SceneListChanged", "eventData": {"scenes": [1]}},
        {"eventType": "SceneListChanged", "eventData": {"scenes": None}},
        {"eventType": "CustomEvent", "eventData": 7},
    ],
)
def test_a_malformed_event_is_logged_and_ignored(message: dict[str, Any], caplog: pytest.LogCaptureFixture) -> None:
    assert parse(message) is None
    assert [record.levelno for record in caplog.records] == [logging.WARNING]


KEYS = sorted({key for _, data, _ in TOLD for key in data})
PLAIN = st.none() | st.booleans() | st.integers() | st.text(max_size=5)
OBJECT = st.dictionaries(st.sampled_from(KEYS), PLAIN, max_size=3)
JSON = PLAIN | OBJECT | st.lists(PLAIN | OBJECT, max_size=2)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # the machine may be busy
@given(name=st.sampled_from([name for name, _, _ in TOLD]), data=JSON | st.dictionaries(st.sampled_from(KEYS), JSON))
def test_nothing_that_is_json_raises(name: str, data: Any) -> None:
    parse({"eventType": name, "eventData": data})
