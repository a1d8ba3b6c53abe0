"""A text source as the prompt: typed letter by letter it is one prompt, whether OBS tells each letter or is polled."""

from __future__ import annotations

import math
from typing import Any

import pytest

from streamv2v_obs.errors import ObsError
from streamv2v_obs.obs.client import ObsVersion
from streamv2v_obs.obs.events import InputRenamed, InputSettingsChanged
from streamv2v_obs.obs.prompt_text import LIMIT, PAUSE_S, POLL_S, PromptText

TOLD, POLLED = ObsVersion("30.2.3", "5.5.2"), ObsVersion("29.0.2", "5.1.0")


class FakeObs:
    """A fake of the request client: one text source, whose text changes by a timetable; time is what the test says."""

    def __init__(self, version: ObsVersion, **settings: Any) -> None:
        self.version = version
        self.name = "Words"
        self.kind = "text_ft2_source_v2"
        self.settings = settings
        self.used: list[str] = []
        self.asked = 0
        self.now = 100.0
        self.chore = PromptText("Words", self.used.append)
        self.chore.begin(version, self.now)

    def call(self, request: str, data: dict[str, Any]) -> dict[str, Any]:
        self.asked += 1
        if data["inputName"] != self.name:
            raise ObsError("No source was found")
        return {"inputKind": self.kind, "inputSettings": self.settings}

    def type(self, text: str) -> None:
        self.settings = {**self.settings, "text": text}
        if self.version is TOLD:
            self.chore.hear(InputSettingsChanged(self.name, self.settings), self.now)
            self.chore.hear(InputSettingsChanged("Other", {"text": "another source"}), self.now)

    def run(self, seconds: float) -> None:
        until = self.now + seconds
        while self.chore.due_at <= until:
            self.now = max(self.now, self.chore.due_at)
            self.chore.do(self, self.now)  # type: ignore[arg-type]
        self.now = until


@pytest.mark.parametrize("version", [TOLD, POLLED], ids=["told", "polled"])
@pytest.mark.parametrize("every_s", [0.01, 0.15, PAUSE_S - 0.01])
def test_letter_by_letter_is_one_prompt(version: ObsVersion, every_s: float) -> None:
    obs = FakeObs(version)
    obs.run(3)
    assert obs.used == []
    for end in range(1, 20):
        obs.type("a lake in autumn rain"[:end])
        obs.run(every_s)
    obs.type("a lake in autumn rain")
    obs.run(POLL_S + 2 * PAUSE_S)
    assert obs.used == ["a lake in autumn rain"]


@pytest.mark.parametrize("version", [TOLD, POLLED], ids=["told", "polled"])
def test_each_pause_is_a_prompt_and_the_same_text_none(version: ObsVersion) -> None:
    obs = FakeObs(version, text="first")
    obs.run(3)
    for text in ("second", " second\n", "", "second", "third"):
        obs.type(text)
        obs.run(3)
    assert obs.used == ["first", "second", "second", "third"], "emptied and typed again is meant again"
    obs.chore.begin(version, obs.now)  # a new connection
    obs.run(3)
    assert len(obs.used) == 4, "after a reconnect the same text is no news"
    obs.settings = {"text": "while it was gone"}
    obs.chore.begin(version, obs.now)
    obs.run(3)
    assert obs.used[4:] == ["while it was gone"]


def test_a_text_that_is_taken_back_in_time_was_never_meant() -> None:
    obs = FakeObs(TOLD, text="first")
    obs.run(3)
    obs.type("typo")
    obs.run(PAUSE_S / 2)
    obs.type("first")
    obs.run(3)
    assert obs.used == ["first"]


def test_obs_is_not_asked_for_what_it_tells() -> None:
    obs = FakeObs(TOLD, text="first")
    obs.run(100)
    assert obs.chore.due_at == math.inf
    assert obs.asked == 2


def test_a_renamed_source_is_followed() -> None:
    obs = FakeObs(TOLD, text="first")
    obs.run(1)
    obs.name = "New"
    obs.chore.hear(InputRenamed("Words", "New"), obs.now)
    obs.type("second")
    obs.run(1)
    assert obs.used == ["first", "second"]


def test_what_cannot_be_a_prompt_is_said_as_long_as_it_stands() -> None:
    obs = FakeObs(POLLED, text="x" * (LIMIT + 1))
    obs.run(0.1)
    for _ in range(2):
        obs.now += PAUSE_S
        with pytest.raises(ObsError, match=f"1001 characters; allowed: {LIMIT}"):
            obs.chore.do(obs, obs.now)  # type: ignore[arg-type]
    obs.type("short")
    obs.run(3)
    assert obs.used == ["short"]
    for change, said in (
        ({"kind": "image_source"}, "kind image_source; allowed: a text source"),
        ({"settings": {"from_file": True}}, "from a file"),
        ({"name": "Gone"}, "No source"),
    ):
        broken = FakeObs(POLLED)
        vars(broken).update(change)
        with pytest.raises(ObsError, match=said):
            broken.run(3)


@pytest.mark.parametrize(
    ("websocket", "newer"),
    [("5.4.0", True), ("5.5.2", True), ("6.0", True), ("5.10.1", True), ("5.3.9", False), ("5", False), ("?", False)],
)
def test_which_versions_tell(websocket: str, newer: bool) -> None:
    assert ObsVersion("x", websocket).at_least(5, 4) is newer
