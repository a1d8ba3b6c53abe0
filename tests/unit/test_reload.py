"""From one set of settings to another while everything runs: who has to be started anew for what."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from streamv2v_obs.commands import Change
from streamv2v_obs.errors import ConfigError
from streamv2v_obs.in_force import InForce
from streamv2v_obs.obs.policy import State, carried_over, match_rule
from streamv2v_obs.presets import Presets, change_to, fill_in
from streamv2v_obs.reload import Plan, in_force, plan
from streamv2v_obs.settings import PatternCapture, Preset, SceneRule, Settings


def settings(**sections: Any) -> Settings:
    return Settings.model_validate(sections)


STYLES = {"ink": {"path": "ink.safetensors"}}


@pytest.mark.parametrize(
    ("new", "expected"),
    [
        ({}, Plan()),
        ({"translator": {"prompt": "p"}}, Plan(live=("translator.prompt",), change=Change(prompt="p"))),
        (
            {"translator": {"strength": 0.5, "seed": 3}},
            Plan(live=("translator.strength", "translator.seed"), change=Change(strength=0.5, seed=3)),
        ),
        ({"translator": {"steps": 4}}, Plan(live=("translator.steps",), change=Change(steps=4))),
        ({"translator": {"schedule": "sequential"}}, Plan(engine=("translator.schedule",))),
        ({"translator": {"bank": {"kind": "off"}}}, Plan(engine=("translator.bank.kind",))),
        ({"model": {"name": "demo"}}, Plan(engine=("model.name",))),
        (
            {"model": {"styles": STYLES, "style": "ink"}},
            Plan(engine=("model.styles.ink",), live=("model.style",), change=Change(style="ink")),
        ),
        ({"publish": {"hold_s": 1, "slate": "soon"}}, Plan(live=("publish.hold_s", "publish.slate"))),
        ({"publish": {"fps": 60, "camera": {"device": "x"}}}, Plan(service=("publish.fps", "publish.camera.device"))),
        ({"control": {"port": 1}}, Plan(service=("control.port",))),
        ({"log": {"level": "debug"}}, Plan(live=("log.level",))),
        ({"presets": [{"name": "A", "prompt": "a"}]}, Plan(live=("presets",))),
        ({"obs": {"enabled": True, "host": "there"}}, Plan(live=("obs.enabled", "obs.host"))),
        ({"obs": {"password": "x"}}, Plan(live=("obs.password",))),
        (
            {"capture": {"kind": "pattern"}},
            Plan(
                live=("capture.kind", "capture.width", "capture.height", "capture.watermark"),
                change=Change(source=PatternCapture(kind="pattern")),
            ),
        ),
        (
            {"obs": {"port": 4456, "rules": [{"scene": "A", "source": {"kind": "obs"}}]}},
            Plan(engine=("obs.port",), live=("obs.rules",)),
        ),
    ],
)
def test_each_key_has_its_place(new: dict[str, Any], expected: Plan) -> None:
    assert plan(Settings(), settings(**new)) == expected


def test_every_key_there_is_has_a_place() -> None:
    other = settings(
        capture={"kind": "pattern", "fps": 5, "fit": "letterbox"},
        log={"level": "error"},
        control={"port": 1, "host": "localhost"},
    )
    found = plan(Settings(), other)
    assert found.differs("capture", "log")
    assert not found.differs("obs")


def test_what_needs_a_new_service_stays_as_it_is() -> None:
    new = settings(publish={"fps": 60, "hold_s": 9}, control={"port": 1}, translator={"prompt": "p"})
    found = in_force(Settings(), new)
    assert (found.publish.fps, found.publish.hold_s, found.control.port) == (30, 9, 8770)
    assert found.translator.prompt == "p"
    assert plan(found, new).service == ("publish.fps", "control.port")
    assert plan(found, Settings()).service == ()


class FileThatSays:
    """A fake of the settings file: what it says is set by the test."""

    path = "config.yaml"

    def __init__(self) -> None:
        self.says: Settings | ConfigError = Settings()

    def load(self) -> Settings:
        if isinstance(self.says, ConfigError):
            raise self.says
        return self.says

    def stamp(self) -> None:
        return None


@pytest.fixture
def file() -> FileThatSays:
    return FileThatSays()


@pytest.fixture
def done() -> list[Plan]:
    return []


@pytest.fixture
def setup(file: FileThatSays, done: list[Plan]) -> InForce:
    return InForce(Settings(), file, lambda found, current: done.append(found))  # type: ignore[arg-type]


def test_what_was_chosen_by_hand_stays_until_the_file_says_otherwise(
    setup: InForce, file: FileThatSays, done: list[Plan]
) -> None:
    assert setup.choose({("translator", "steps"): 4}).live == ("translator.steps",)
    file.says = settings(translator={"prompt": "p"})
    setup.reload()
    assert done[-1].live == ("translator.prompt",)
    assert (setup.current.translator.steps, setup.current.translator.prompt) == (4, "p")
    file.says = settings(translator={"prompt": "p", "steps": 3})
    setup.reload()
    assert setup.current.translator.steps == 3
    with pytest.raises(ConfigError, match="distinct timesteps"):
        setup.choose({("translator", "strength"): 0.01})
    assert setup.current.translator.steps == 3


def test_presets_of_rules_act_after_a_reload_too(setup: InForce, file: FileThatSays) -> None:
    rules = [{"scene": "A", "preset": "Ink"}, {"scene": "B", "preset": "Ink", "strength": 0.6}]
    ink = {"name": "Ink", "prompt": "ink", "strength": 0.5, "bank": "reset"}
    file.says = settings(presets=[ink], obs={"rules": rules})
    for change in (setup.reload, lambda: setup.choose({("translator", "steps"): 4})):
        change()
        current = setup.current
        plain, own = fill_in(current.obs.all_rules, current.presets)
        assert (plain.prompt, plain.strength, plain.bank) == ("ink", 0.5, "reset")
        assert (own.prompt, own.strength, own.bank) == ("ink", 0.6, "reset")


def test_a_file_that_is_wrong_changes_nothing_and_is_said(
    setup: InForce, file: FileThatSays, done: list[Plan]
) -> None:
    file.says = ConfigError("config.yaml:3: unknown key prmpt")
    setup.reload()
    assert done == []
    assert list(setup.notices) == ["not reloaded, the old settings stay: config.yaml:3: unknown key prmpt"]
    file.says = settings(control={"port": 1}, obs={"rules": [{"scene": "A"}]})
    setup.reload()
    assert list(setup.notices) == [
        "obs.rules are not in force: obs.enabled is false",
        "settings: start the service anew for control.port",
    ]
    file.says = Settings()
    setup.reload()
    assert list(setup.notices) == []


def test_a_change_is_said_to_be_applied_once_it_is(caplog: pytest.LogCaptureFixture) -> None:
    said_before: list[str] = []

    def take_up(found: Plan, current: Settings) -> None:
        said_before.append(caplog.text)

    caplog.set_level("INFO")
    InForce(Settings(), None, take_up).choose({("translator", "prompt"): "chosen by hand"})
    assert said_before == [""]
    assert "settings: applied at once: translator.prompt" in caplog.text


def test_an_engine_that_went_back_is_said(setup: InForce, caplog: pytest.LogCaptureFixture) -> None:
    setup.choose({("model", "name"): "sd-turbo"})
    with caplog.at_level(logging.ERROR):
        setup.go_back(Settings(), "sd-turbo: 3 files missing")
    assert setup.current.model.name == "auto"
    assert "goes on with the ones before: sd-turbo: 3 files missing" in setup.notices[0]
    assert "3 files missing" in caplog.text


def test_a_scene_is_entered_anew_only_where_its_rule_is_another_one() -> None:
    old, new = SceneRule(scene="A", prompt="a"), SceneRule(scene="A", prompt="b")
    other = SceneRule(scene="B")
    state = State("A", old, bypassed=True, in_transition=True)
    assert carried_over(state, [old, other]) == State("A", old, bypassed=True)
    assert carried_over(state, [new]) == State(None, old, bypassed=True)
    assert carried_over(state, []) == State(None, old, bypassed=True)
    assert carried_over(State("C"), [old]) == State("C")
    assert carried_over(State(), [old]) == State()
    by_uuid = SceneRule(scene="0b1c2d3e-0000-0000-0000-000000000000")
    assert carried_over(State("A", by_uuid, slated=True), [by_uuid]) == State("A", by_uuid, slated=True)
    assert carried_over(State("A", by_uuid), [old]).scene is None
    assert match_rule([new], "A") == new


def test_the_preset_in_force_stays_so_if_it_is_still_there() -> None:
    one, two = Preset(name="A", prompt="a"), Preset(name="B", prompt="b")
    presets = Presets([one, two])
    presets.note(change_to(two))
    assert presets.renewed([two]).current == "B"
    assert presets.renewed([one]).current is None
    assert presets.renewed([two.model_copy(update={"prompt": "c"})]).current is None
    gone = presets.renewed([one])
    gone.note(change_to(two))  # called a moment before
    assert gone.current is None
