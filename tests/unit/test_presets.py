"""Presets: which one is meant, what is in force, and what a rule makes of one."""

from __future__ import annotations

import pytest

from streamv2v_obs.commands import Change
from streamv2v_obs.errors import ConfigError
from streamv2v_obs.presets import Presets, change_to, fill_in
from streamv2v_obs.settings import ObsSettings, Preset, Rule, SceneRule

A = Preset(name="A", prompt="a", strength=0.3, bank="reset")
B = Preset(name="B", prompt="b", seed=2)
C = Preset(name="C", prompt="c", style="ink")


def test_each_way_of_naming_one() -> None:
    presets = Presets((A, B, C))
    assert presets.named("B") == presets.numbered(2) == Change(prompt="b", seed=2, preset="B")
    for name in ("b", "", "D"):
        with pytest.raises(ConfigError, match="allowed: A, B, C"):
            presets.named(name)
    for number in (-1, 0, 4):
        with pytest.raises(ConfigError, match="none of that number"):
            presets.numbered(number)


def test_steps_go_round_and_count_from_each_other() -> None:
    assert Presets((A, B, C)).stepped(-1).preset == "C"
    presets = Presets((A, B, C))
    assert [presets.stepped(1).preset for _ in range(4)] == ["A", "B", "C", "A"]
    presets.note(presets.named("B"))
    assert presets.stepped(-1).preset == "A"
    with pytest.raises(ConfigError, match="hold none"):
        Presets(()).stepped(1)


@pytest.mark.parametrize(
    ("change", "current"),
    [
        (Change(), "B"),
        (Change(bank="reset"), "B"),
        (Change(scene="S", save_as="R"), "B"),
        (Change(prompt="x"), None),
        (Change(strength=0.5), None),
        (Change(seed=0), None),
        (Change(style=""), None),
        (change_to(A), "A"),
    ],
)
def test_what_is_in_force(change: Change, current: str | None) -> None:
    presets = Presets((A, B, C))
    assert presets.current is None
    presets.note(change_to(B))
    presets.note(change)
    assert presets.current == current
    assert presets.stepped(1).preset == ("B" if current == "A" else "C"), "the place in the row is kept"


def test_what_a_rule_sets_wins_over_its_preset() -> None:
    plain, own, other = fill_in(
        (
            SceneRule(scene="1", preset="A"),
            SceneRule(scene="2", preset="A", prompt="mine", bank="keep"),
            SceneRule(scene="3", prompt="p"),
        ),
        (A, B),
    )
    assert (plain.prompt, plain.strength, plain.bank, plain.preset) == ("a", 0.3, "reset", "A")
    assert (own.prompt, own.strength, own.bank) == ("mine", 0.3, "keep")
    assert other == SceneRule(scene="3", prompt="p")


def test_the_default_rule_may_call_a_preset_too() -> None:
    settings = ObsSettings(rules=(SceneRule(scene="1"),), default=Rule(preset="A", bank="keep"))
    default = fill_in(settings.all_rules, (A,))[-1]
    assert (default.scene, default.prompt, default.strength, default.bank) == ("*", "a", 0.3, "keep")
