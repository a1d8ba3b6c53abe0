"""What a custom event of OBS asks for, as a table: what is granted, in which order, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest

from streamv2v_obs.commands import Bypass, Change
from streamv2v_obs.errors import ConfigError
from streamv2v_obs.obs.wishes import ANSWER_KEY, Panic, PresetCall, Wish, wishes_of
from streamv2v_obs.presets import Presets
from streamv2v_obs.settings import Settings

SETTINGS = Settings.model_validate(
    {
        "model": {"styles": {"ink": {"path": "ink.safetensors"}}},
        "presets": [{"name": "Comic", "prompt": "a comic"}, {"name": "Oil", "prompt": "oil"}],
    }
)
OPEN = SETTINGS.model_copy(update={"obs": SETTINGS.obs.model_copy(update={"bypass_by_event": True})})


def asked(data: object, settings: Settings = SETTINGS, scene: str | None = "A") -> tuple[Wish, ...]:
    return wishes_of({"streamv2v": data}, settings, Presets(settings.presets), scene, lambda: ("A", "B"))


@pytest.mark.parametrize(
    ("data", "wishes"),
    [
        ({"prompt": "  a lake "}, (Change(prompt="a lake"),)),
        (
            {"prompt": "p", "strength": 1, "seed": 0, "style": "ink", "bank": "reset"},
            (Change("p", 1.0, 0, "ink", bank="reset"),),
        ),
        ({"style": ""}, (Change(style=""),)),
        ({"bank": "restore"}, (Change(bank="restore", bank_of="A"),)),
        ({"preset": "Comic"}, (PresetCall("Comic"),)),
        ({"preset": 2}, (PresetCall(2),)),
        ({"preset": "2"}, (PresetCall("2"),)),
        ({"preset": "next"}, (PresetCall("next"),)),
        ({"preset": "previous", "panic": False}, (PresetCall("previous"), Panic(False))),
        ({"preset": "Oil", "panic": True, "bypass": False}, (Panic(True), Bypass(False), PresetCall("Oil"))),
        ({"bypass": False}, (Bypass(False),)),
        ({"panic": True}, (Panic(True),)),
        ({"prompt": None, "panic": False}, (Panic(False),)),
    ],
)
def test_granted(data: dict[str, Any], wishes: tuple[Wish, ...]) -> None:
    assert asked(data) == wishes


def test_what_shows_raw_pictures_needs_a_setting_and_comes_after_all_else() -> None:
    with pytest.raises(ConfigError, match=r"obs\.bypass_by_event: true"):
        asked({"bypass": True, "prompt": "p"})
    assert asked({"bypass": True, "prompt": "p"}, OPEN) == (Change(prompt="p"), Bypass(True))


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ({}, "asks for nothing; allowed: prompt, strength"),
        ([], "is no object; allowed: prompt"),
        ("a lake", "is no object; allowed: prompt"),
        ({"promt": "p"}, "unknown key promt; allowed: prompt, strength"),
        # Found by tests.fuzz: a key of a chat bot's could have begun a new line of the log, and said anything in it.
        ({"a\nb\x1b[2J": "p"}, r"unknown key 'a\\nb\\x1b\[2J'; allowed: prompt"),
        ({"prompt": ""}, "prompt = ''"),
        ({"prompt": "   "}, "prompt = '   '"),
        ({"prompt": "x" * 1001}, "at most 1000"),
        ({"prompt": 5}, "prompt = 5"),
        ({"strength": "0.5"}, "strength = '0.5'"),
        ({"strength": 0}, "strength = 0: .*greater than 0"),
        ({"strength": 0.01}, "strength >= 0.04"),
        ({"seed": 1.5}, "seed = 1.5"),
        ({"style": "neon"}, "style = 'neon': not among model.styles; allowed: ink"),
        ({"preset": "Neon"}, "there is none of that name; allowed: Comic, Oil"),
        ({"preset": 3}, "there is none of that number"),
        ({"preset": True}, "preset = True"),
        ({"preset": "Comic", "strength": 0.5}, "goes with bypass and panic only, not with strength"),
        ({"bank": "drop"}, "bank = 'drop'"),
        ({"panic": "on"}, "panic = 'on'"),
        ({"panic": True, "prompt": 5}, "prompt = 5"),
    ],
)
def test_refused_in_one_line(data: object, said: str) -> None:
    with pytest.raises(ConfigError, match=said) as refused:
        asked(data)
    assert "\n" not in str(refused.value)
    assert len(str(refused.value)) < 500


def test_a_bank_that_is_not_stored_is_not_restored() -> None:
    for scene in ("C", None):
        with pytest.raises(ConfigError, match=r"no bank is stored for scene .*; stored: A, B"):
            asked({"bank": "restore"}, scene=scene)


def test_presets_without_any() -> None:
    for which in ("next", "previous", "Comic", 1):
        with pytest.raises(ConfigError, match="hold none"):
            asked({"preset": which}, Settings())


def test_asking_moves_nothing() -> None:
    presets = Presets(SETTINGS.presets)
    for _ in range(3):
        wishes_of({"streamv2v": {"preset": "next"}}, SETTINGS, presets, None, tuple)
    assert presets.stepped(1).preset == "Comic"


def test_what_is_not_for_us_and_our_own_refusals_are_no_wishes() -> None:
    refusal = {ANSWER_KEY: {"error": "e", "asked": {"prompt": 5}}}
    for data in ({}, {"other": 1}, refusal, refusal | {"streamv2v": {"prompt": 5}}):
        assert wishes_of(data, SETTINGS, Presets(()), None, tuple) == ()
