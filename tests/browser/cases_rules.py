"""Cases of the scene rules: a field goes into the file, whose comments stay, acts in OBS's scene, and comes back."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from playwright.sync_api import Locator, expect

from tests.browser.cases import CASES, Case, Panel, case

ON_AIR = 0
"""Place of the rule for the scene that is on air."""


def save(panel: Panel) -> Locator:
    return panel.rules.get_by_role("button", name="Save")


def saved(panel: Panel, button: Locator) -> list[dict[str, Any]]:
    """Save; the rules in force then."""
    button.click()
    expect(button).to_be_disabled()
    for comment in ("# where it begins", "# the game", "password: {env: OBS_PASSWORD}"):
        assert comment in panel.file.read_text(encoding="utf-8")
    return list(panel.told("rules")["rules"])


def field(role: Any, label: str) -> Callable[[Panel], Locator]:
    return lambda panel: panel.rules.get_by_role(role, name=label, exact=True)


def has(key: str, role: Any, label: str, value: str, said: Any, acts: Callable[[Panel], bool]) -> None:
    """Make the case of one field: ``value`` is put in, ``said`` is in the rule then, and the service ``acts``."""

    def act(panel: Panel, fields: Locator) -> None:
        place = fields.nth(ON_AIR)
        before = place.input_value()
        assert before != value
        change(place, value)
        assert saved(panel, save(panel))[ON_AIR][key] == said
        assert f"{key}: {said}" in panel.file.read_text(encoding="utf-8").partition("# where it begins")[0]
        panel.until(lambda: acts(panel), f"{key} {said} in force")
        panel.open()
        expect(place).to_have_value(value)
        change(place, before)
        assert saved(panel, save(panel))[ON_AIR].get(key, "") == before
        panel.service.until_on_air("TRANSLATED")

    CASES[f"rule_{key}"] = Case(field(role, label), act)


def change(place: Locator, value: str) -> None:
    if place.evaluate("place => place.localName") == "select":
        place.select_option(value)
    else:
        place.fill(value)


def engine(key: str, value: Any) -> Callable[[Panel], bool]:
    return lambda panel: bool(panel.service.engine()[key] == value)


def linked(panel: Panel) -> bool:
    return bool(panel.service.status()["obs"]["rule"] == "A")


def on_slate(panel: Panel) -> bool:
    return bool(panel.service.status()["publish"]["state"] == "SLATE")


has("prompt", "textbox", "Prompt", "a fresco", "a fresco", engine("prompt", "a fresco"))
has("preset", "combobox", "Preset", "Blueprint", "Blueprint", engine("prompt", "a blueprint"))
has("strength", "spinbutton", "Strength", "0.33", 0.33, engine("strength", 0.33))
has("bank", "combobox", "Bank", "fade", "fade", linked)
has("when", "combobox", "When", "start", "start", linked)
has("blend_s", "spinbutton", "Blend, s", "1.5", 1.5, linked)
has("output", "combobox", "Shows", "slate", "slate", on_slate)


@case(field("textbox", "Scene"))
def rule_scene(panel: Panel, fields: Locator) -> None:
    expect(panel.page.get_by_text("OBS: A, rule A", exact=True)).to_be_visible()
    fields.nth(ON_AIR).fill("A*")
    assert saved(panel, save(panel))[ON_AIR]["scene"] == "A*"
    panel.until(lambda: panel.service.status()["obs"]["rule"] == "A*", "its rule is in force")
    panel.open()
    expect(fields.nth(ON_AIR)).to_have_value("A*")
    expect(panel.page.get_by_text("OBS: A, rule A*", exact=True)).to_be_visible()
    expect(panel.rules.get_by_role("listitem").nth(ON_AIR)).to_have_class("in-force")
    fields.nth(ON_AIR).fill("A")
    saved(panel, save(panel))


@case(lambda panel: panel.rules.get_by_role("button", name=re.compile("^Move .* up$")))
def rule_up(panel: Panel, buttons: Locator) -> None:
    expect(buttons.first).to_be_disabled()
    panel.rules.get_by_role("button", name="Move B up").click()
    assert [rule["scene"] for rule in saved(panel, save(panel))] == ["A", "B", "Game *"]
    panel.open()
    expect(field("textbox", "Scene")(panel).nth(1)).to_have_value("B")
    panel.rules.get_by_role("button", name="Move Game * up").click()
    assert [rule["scene"] for rule in saved(panel, save(panel))] == ["A", "Game *", "B"]


@case(save)
def rules_are_not_saved_by_themselves(panel: Panel, button: Locator) -> None:
    before = panel.file.read_text(encoding="utf-8")
    expect(button).to_be_disabled()
    scenes = field("textbox", "Scene")(panel)
    scenes.nth(1).fill("Played *")
    with panel.page.expect_response("**/v1/choices"):  # it has asked again meanwhile, and nothing is new
        pass
    expect(scenes.nth(1)).to_have_value("Played *")
    assert panel.file.read_text(encoding="utf-8") == before
    assert saved(panel, button)[1] == {"scene": "Played *", "preset": "Comic", "bank": "restore", "seed": 5}
    panel.open()
    expect(scenes.nth(1)).to_have_value("Played *")
    scenes.nth(1).fill("Game *")
    saved(panel, button)


@case(lambda panel: panel.rules.get_by_role("button", name="Discard"))
def rules_are_discarded(panel: Panel, button: Locator) -> None:
    before = panel.file.read_text(encoding="utf-8")
    prompts = field("textbox", "Prompt")(panel)
    expect(button).to_be_hidden()
    prompts.nth(1).fill("never")
    button.click()
    expect(prompts.nth(1)).to_have_value("")
    expect(save(panel)).to_be_disabled()
    expect(button).to_be_hidden()
    assert panel.file.read_text(encoding="utf-8") == before
    panel.open()
    expect(prompts.nth(1)).to_have_value("")


@case(lambda panel: panel.rules.get_by_role("button", name="Add a rule"))
def rule_added(panel: Panel, button: Locator) -> None:
    button.click()
    scenes = field("textbox", "Scene")(panel)
    expect(scenes).to_have_count(4)
    expect(scenes.nth(3)).to_be_focused()
    panel.page.keyboard.type("End")
    assert [rule["scene"] for rule in saved(panel, save(panel))] == ["A", "Game *", "B", "End"]
    panel.open()
    expect(scenes.nth(3)).to_have_value("End")


@case(lambda panel: panel.rules.get_by_role("button", name=re.compile("^Remove ")))
def rule_removed(panel: Panel, buttons: Locator) -> None:
    scenes = field("textbox", "Scene")(panel)
    expect(scenes.nth(1)).to_have_value("Game *")
    left = scenes.count() - 1
    buttons.last.click()
    assert len(saved(panel, save(panel))) == left
    panel.open()
    expect(scenes).to_have_count(left)
