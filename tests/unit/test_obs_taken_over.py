"""A listener with other settings goes on from what the one before has heard and written; neither has a link here."""

from __future__ import annotations

from typing import Any

import pytest

from streamv2v_obs.commands import Change
from streamv2v_obs.obs import listener as module
from streamv2v_obs.obs.client import ObsVersion
from streamv2v_obs.obs.events import Connected
from streamv2v_obs.obs.listener import ObsListener
from streamv2v_obs.obs.prompt_text import PAUSE_S
from streamv2v_obs.settings import ObsSettings, Preset, Settings
from streamv2v_obs.stats import ObsStatus, PublishStatus
from tests.rigs.obs_listener import Heard

PRESETS = ({"name": "Comic", "prompt": "a comic"},)
SET: dict[str, Any] = {
    "enabled": True,
    "prompt_text": "Words",
    "preset_items": True,
    "status_text": "Told",
    "audio_sync": {"input": "Mic"},
    "rules": [{"scene": "A", "prompt": "a"}, {"scene": "B", "prompt": "b"}],
}
OTHER_RULE = {"rules": [{"scene": "A", "prompt": "a"}, {"scene": "B", "prompt": "another"}]}


class FakeObs:
    """Has a scene with one shown item, a text and a sound, and remembers what was set."""

    def __init__(self) -> None:
        self.set: list[tuple[str, Any]] = []

    def call(self, request: str, data: dict[str, Any]) -> dict[str, Any]:
        if request.startswith("Set"):
            self.set.append((data["inputName"], data.get("inputAudioSyncOffset") or data["inputSettings"]["text"]))
        text = {"inputKind": "text_ft2_source_v2", "inputSettings": {"text": "typed an hour ago"}}
        return text if request == "GetInputSettings" else {"inputAudioSyncOffset": -40}

    def shown_items(self, scene: str) -> dict[int, str]:
        return {1: "Comic"}

    def close(self) -> None:
        pass


class Followed:
    """A listener without its thread, led through what it does with a link."""

    def __init__(self, obs: FakeObs, monkeypatch: pytest.MonkeyPatch) -> None:
        self.obs = obs
        self.heard = Heard(ObsSettings(), tuple(Preset.model_validate(preset) for preset in PRESETS))
        self.heard.publish = PublishStatus(state="TRANSLATED", content_age_ms_p50=250.0)
        self.listener: ObsListener | None = None
        self.now = 10.0
        monkeypatch.setattr(module, "open_requests", lambda settings: obs)

    def connect(self, **changed: Any) -> None:
        """Take over with ``SET`` but for ``changed``, connect to scene A, and do what is due."""
        settings = Settings.model_validate({"presets": PRESETS, "obs": SET | changed})
        if self.listener is not None:
            self.listener.stop(settings.obs)
            self.end()
        self.listener = listener = ObsListener(settings, self.heard, self.listener)
        listener._status = ObsStatus(state="connected")
        listener._scenes.take(Connected("A", "29"))
        listener._hearing.look(self.obs)  # type: ignore[arg-type]
        for chore in listener._chores:
            chore.begin(ObsVersion("29", "5.1.0"), self.now)
            chore.do(self.obs, self.now)  # type: ignore[arg-type]
            self.now += 2 * PAUSE_S
            chore.do(self.obs, self.now)  # type: ignore[arg-type]

    def end(self) -> None:
        assert self.listener is not None
        self.listener._put_back()

    def done(self) -> tuple[list[Change], list[tuple[str, Any]]]:
        """The changes, and what was set in OBS, since the last call."""
        found = list(self.heard.changes), list(self.obs.set)
        self.heard.changes.clear()
        self.obs.set.clear()
        return found


@pytest.fixture
def followed(monkeypatch: pytest.MonkeyPatch) -> Followed:
    found = Followed(FakeObs(), monkeypatch)
    found.connect()
    changes, written = found.done()
    assert [change.prompt for change in changes] == ["a", "a comic", "typed an hour ago"]
    assert [name for name, _ in written] == ["Told", "Mic"]
    return found


def test_a_rule_of_another_scene_moves_nothing(followed: Followed) -> None:
    followed.connect(**OTHER_RULE)
    changes, written = followed.done()
    assert changes == []
    assert ("Told", "streamv2v: ended") not in written
    assert ("Mic", -40) not in written
    followed.end()
    assert followed.done()[1] == [("Told", "streamv2v: ended"), ("Mic", -40)], "as it was before the first"


def test_a_rule_of_this_scene_is_applied_and_the_preset_shown_comes_over_it(followed: Followed) -> None:
    followed.connect(rules=[{"scene": "A", "prompt": "another"}])
    changes, _ = followed.done()
    assert [change.prompt for change in changes] == ["another", "a comic"], "the text in OBS is no news"


def test_items_are_looked_at_once_they_count(followed: Followed) -> None:
    followed.connect(preset_items=False)
    assert followed.done()[0] == []
    followed.connect()
    assert [change.prompt for change in followed.done()[0]] == ["a comic"]


@pytest.mark.parametrize("changed", [{"status_text": None}, {"status_text": "Elsewhere"}])
def test_what_is_not_asked_for_any_more_is_put_back_alone(followed: Followed, changed: dict[str, Any]) -> None:
    followed.connect(**changed)
    _, written = followed.done()
    assert written[0] == ("Told", "streamv2v: ended")
    assert ("Mic", -40) not in written


@pytest.mark.parametrize("changed", [{"port": 4456}, {"enabled": False}])
def test_in_an_obs_that_is_left_all_is_put_back(followed: Followed, changed: dict[str, Any]) -> None:
    followed.connect(**changed)
    assert followed.done()[1][:2] == [("Told", "streamv2v: ended"), ("Mic", -40)]


def test_another_text_source_is_read_and_the_same_one_goes_to_the_viewers(followed: Followed) -> None:
    followed.connect(viewers={"text": True})
    assert followed.done()[0] == []
    assert followed.heard.asked == []
    followed.connect(viewers={"text": True}, prompt_text="Other words")
    assert followed.heard.asked == [("typed an hour ago", "")]
