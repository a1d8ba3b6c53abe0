"""Prompts of viewers: what is refused, who decides, how long one is shown, and that the streamer's comes back."""

from __future__ import annotations

import time
from typing import Any

import httpx
import pytest

from streamv2v_obs.commands import Change
from streamv2v_obs.config import load_settings
from streamv2v_obs.control.server import ControlServer
from streamv2v_obs.errors import ConfigError
from streamv2v_obs.obs.viewers import Queue, Viewers, blocked_in
from streamv2v_obs.obs.wishes import ViewerAsks, wishes_of
from streamv2v_obs.presets import Presets
from streamv2v_obs.settings import ControlSettings, Settings, ViewerSettings
from tests.rigs.fake_service import FakeService


def queue(**values: Any) -> Queue:
    given = {"approve": False, "cooldown_s": 10, "revert_s": 60, "blocked": ["slur"], "queue": 2, "length": 20}
    return Queue(ViewerSettings.model_validate(given | values))


@pytest.mark.parametrize(
    "text",
    ["slur", "a SLUR here", "s l u r", "s.l-u_r", "sl\u00fcr", "\uff53\uff4c\uff55\uff52", "5lur", "$lur", "xslurx"],
)
def test_a_blocked_word_is_found_in_every_disguise(text: str) -> None:
    assert blocked_in(text, ("slur",))
    with pytest.raises(ConfigError, match="a word that is blocked") as caught:
        queue().ask(text, "anna", 0.0)
    assert text not in str(caught.value), "a refusal is read aloud by chat bots"


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("what the he11", "hell"),
        ("he!!", "hell"),
        ("HE||", "hell"),
        ("heIl", "hell"),
        ("hell", "he11"),
        ("a p1g", "pig"),
        ("a pi6", "pig"),
        ("a pi9", "pig"),
        ("8a6", "bag"),
    ],
)
def test_digits_and_strokes_stand_for_every_letter_that_they_look_like(text: str, word: str) -> None:
    assert blocked_in(text, (word,))


@pytest.mark.parametrize("text", ["a lake", "slow rain", "blue river", "s"])
def test_other_words_are_not(text: str) -> None:
    assert not blocked_in(text, ("slur", "hell", "bag", ""))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "is empty"),
        (" \n ", "is empty"),
        ("x" * 21, "21 characters; allowed: 20"),
        ("a\x00b", "cannot be seen"),
        ("a\u202eb", "cannot be seen"),
        ("a\u200bb", "cannot be seen"),
    ],
)
def test_what_is_no_prompt_is_refused(text: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        queue().ask(text, "anna", 0.0)


def test_a_viewer_may_not_ask_again_at_once_and_others_may() -> None:
    q = queue(queue=5)
    q.ask("a lake", "anna", 0.0)
    with pytest.raises(ConfigError, match="allowed again in 7 s"):
        q.ask("a sea", " anna ", 3.0)
    q.ask("a sea", "bert", 3.0)
    q.ask("a sea", "anna", 10.0)


def test_the_queue_has_an_end() -> None:
    q = queue()
    q.ask("one", "a", 0.0)
    q.ask("two", "b", 0.0)
    with pytest.raises(ConfigError, match="2 prompts of viewers are waiting"):
        q.ask("three", "c", 0.0)


def test_turns_cooldown_and_return() -> None:
    q = queue()
    assert q.due("mine", 0.0) is None
    q.ask("one", "a", 0.0)
    q.ask("two", "b", 0.0)
    assert q.due("mine", 0.0) == "one"
    assert q.due("one", 9.9) is None, "not before the cooldown"
    assert q.due("one", 10.0) == "two"
    assert q.due("two", 69.9) is None
    assert q.due("two", 70.0) == "mine", "what the streamer had, not the viewer before"
    assert q.due("mine", 500.0) is None


def test_what_the_streamer_changes_meanwhile_stays() -> None:
    q = queue()
    q.ask("one", "a", 0.0)
    assert q.due("mine", 0.0) == "one"
    assert q.due("a new scene", 30.0) is None
    assert q.due("a new scene", 100.0) is None, "nothing older comes back over it"


def test_nothing_is_shown_that_the_streamer_has_not_approved() -> None:
    q = queue(approve=True)
    first, second = q.ask("one", "a", 0.0), q.ask("two", "b", 0.0)
    assert q.due("mine", 1.0) is None
    q.decide(second.number, approve=True)
    q.decide(first.number, approve=False)
    assert q.due("mine", 2.0) == "two"
    assert q.waiting == q.approved == []
    with pytest.raises(ConfigError, match="number = 9: no such prompt waits; waiting: none"):
        q.decide(9, approve=True)


def test_dropping_all_brings_the_streamers_prompt_back_at_once() -> None:
    q = queue()
    q.ask("one", "a", 0.0)
    q.ask("two", "b", 0.0)
    assert q.due("mine", 0.0) == "one"
    q.clear()
    assert q.due("one", 1.0) == "mine"


def test_a_custom_event_of_a_viewer_is_a_wish_and_nothing_else() -> None:
    def asked(data: object) -> object:
        return wishes_of({"streamv2v": data}, Settings(), Presets(()), None, lambda: ())

    assert asked({"viewer": {"prompt": " a lake ", "name": "anna"}}) == (ViewerAsks("a lake", "anna"),)
    with pytest.raises(ConfigError, match="viewer: stands alone, not with panic"):
        asked({"viewer": {"prompt": "x"}, "panic": False})
    with pytest.raises(ConfigError, match="viewer"):
        asked({"viewer": {"prompt": "x", "bypass": True}})


def test_settings_are_refused_clearly() -> None:
    with pytest.raises(ConfigError, match=r"obs\.viewers\.queue = 0: .*greater than or equal to 1"):
        load_settings(None, ["obs.viewers.queue=0"])
    with pytest.raises(ConfigError, match="so prompt_text has to name the text source"):
        load_settings(None, ["obs.viewers.text=true"])
    with pytest.raises(ConfigError, match=r"unknown key obs\.viewers\.lenght"):
        load_settings(None, ["obs.viewers.lenght=3"])


def test_the_thread_puts_a_prompt_in_force_and_the_one_before_back() -> None:
    prompt = ["mine"]
    told: list[Change] = []

    def apply(change: Change) -> None:
        told.append(change)
        prompt[0] = str(change.prompt)

    viewers = Viewers(ViewerSettings(approve=False, cooldown_s=0, revert_s=1), apply, lambda: prompt[0])
    viewers.start()
    try:
        viewers.ask("a lake", "anna")
        until = time.monotonic() + 10
        while len(told) < 2:
            assert time.monotonic() < until, told
            time.sleep(0.02)
        assert [change.prompt for change in told] == ["a lake", "mine"]
    finally:
        viewers.stop()
        viewers.join(5)


def test_the_streamer_decides_over_http() -> None:
    service = FakeService()
    server = ControlServer(ControlSettings(port=0), service)
    server.start()
    head = {"authorization": f"Bearer {server.auth.token}"}
    try:
        with httpx.Client(base_url=server.address, headers=head) as client:
            assert client.get("/v1/viewers").json()["on"] is False
            off = client.post("/v1/viewers", json={"clear": True})
            assert (off.status_code, "obs.viewers" in off.text) == (422, True)
            service.viewers.use(ViewerSettings(blocked=("slur",)))
            service.viewers.ask("a lake", "anna")
            service.viewers.ask("a sea", "bert")
            waiting = client.get("/v1/viewers").json()["waiting"]
            assert [(one["text"], one["name"]) for one in waiting] == [("a lake", "anna"), ("a sea", "bert")]
            assert client.post("/v1/viewers", json={"approve": waiting[1]["number"]}).status_code == 200
            assert client.post("/v1/viewers", json={"reject": waiting[0]["number"]}).status_code == 200
            told = client.get("/v1/viewers").json()
            assert (told["waiting"], [one["text"] for one in told["approved"]]) == ([], ["a sea"])
            for wrong in ({}, {"approve": 1, "reject": 1}, {"clear": False}, {"approve": 99}):
                assert client.post("/v1/viewers", json=wrong).status_code == 422, wrong
            assert httpx.post(f"{server.address}/v1/viewers", json={"clear": True}).status_code in (401, 403)
    finally:
        server.stop()
        server.join(5)
