"""Cases of what is on the air, and who may ask for it: panic, bypass, the view of the input, viewers; and the log."""

from __future__ import annotations

import re

from playwright.sync_api import Locator, expect

from tests.browser.cases import Panel, case

ASKED = "Send the untranslated picture?"


def bypass(panel: Panel) -> Locator:
    return panel.controls.get_by_role("button", name=re.compile("Turn bypass o(n…|ff)"))


def wishes(panel: Panel) -> Locator:
    return panel.page.get_by_role("list", name="Viewers ask for").get_by_role("listitem")


def ask(panel: Panel, *prompts: str) -> None:
    """Viewers ask, through a chat bot that speaks to OBS."""
    panel.service.post("viewers", clear=True)
    for number, prompt in enumerate(prompts):
        panel.obs.requests.broadcast({"streamv2v": {"viewer": {"prompt": prompt, "name": f"viewer {number}"}}})
    panel.until(lambda: len(panel.told("viewers")["waiting"]) == len(prompts), "the wishes are heard")


@case(lambda panel: panel.page.get_by_role("button", name=re.compile("^(Panic|Release panic)$")))
def panic(panel: Panel, button: Locator) -> None:
    button.click()
    panel.service.until_on_air("SLATE")
    panel.open()
    panel.says("SLATE")
    expect(panel.page.get_by_text("panic: the slate is on air until released")).to_be_visible()
    expect(button).to_have_text("Release panic")
    button.press("Enter")
    panel.service.until_on_air("TRANSLATED")
    panel.open()
    panel.says("TRANSLATED")


@case(bypass)
def bypass_on_and_off(panel: Panel, button: Locator) -> None:
    button.press("Enter")
    dialog = panel.page.get_by_role("dialog", name=ASKED)
    dialog.get_by_role("button", name="Turn bypass on").press("Enter")
    panel.service.until_on_air("BYPASS")
    panel.open()
    panel.says("BYPASS")
    expect(button).to_have_text("Turn bypass off")
    button.click()
    panel.service.until_on_air("TRANSLATED")
    panel.open()
    panel.says("TRANSLATED")
    expect(button).to_have_text("Turn bypass on…")


@case(lambda panel: panel.page.get_by_role("dialog", name=ASKED).get_by_role("button"))
def bypass_is_asked_about(panel: Panel, buttons: Locator) -> None:
    dialog = panel.page.get_by_role("dialog", name=ASKED)
    cancel = dialog.get_by_role("button", name="Cancel")
    for answer in ("Enter", "Escape"):
        bypass(panel).click()
        expect(cancel).to_be_focused()
        panel.page.keyboard.press(answer)
        expect(dialog).to_be_hidden()
    panel.open()
    expect(dialog).to_be_hidden()
    bypass(panel).click()
    cancel.click()
    expect(dialog).to_be_hidden()
    assert not panel.service.status()["publish"]["bypass"]
    bypass(panel).click()
    panel.page.keyboard.press("Tab")
    panel.page.keyboard.press("Enter")
    panel.service.until_on_air("BYPASS")
    panel.service.post("bypass", on=False)
    panel.service.until_on_air("TRANSLATED")


@case(lambda panel: panel.pictures.get_by_role("button", name=re.compile("^(Show|Hide) input$")))
def the_input_is_behind_a_click(panel: Panel, button: Locator) -> None:
    def given() -> int:
        return panel.service.client().get("/v1/preview?view=input").status_code

    picture = panel.page.get_by_role("img", name="Live input")
    expect(picture).to_be_hidden()
    assert given() == 409
    button.click()
    expect(picture).to_be_visible()
    expect(button).to_have_text("Hide input")
    assert given() == 200
    button.click()
    expect(picture).to_be_hidden()
    panel.until(lambda: given() == 409, "it is not to be had")
    button.click()
    expect(picture).to_be_visible()
    panel.until(lambda: panel.service.status()["watches_input"], "the status says so")
    panel.page.wait_for_timeout(1500)
    expect(button).to_have_text("Hide input")
    panel.service.post("input", on=False)  # as the service does where nobody looks
    expect(button).to_have_text("Show input")
    expect(picture).to_be_hidden()
    button.click()
    expect(picture).to_be_visible()
    panel.open()
    expect(button).to_have_text("Show input")
    expect(picture).to_be_hidden()
    panel.until(lambda: given() == 409, "nobody who comes back finds it open")


@case(lambda panel: wishes(panel).get_by_role("button", name=re.compile("^Approve ")))
def a_viewer_is_allowed(panel: Panel, buttons: Locator) -> None:
    ask(panel, "a <b>lake</b>", "a sea")
    expect(wishes(panel)).to_have_text(["viewer 0: a <b>lake</b>ApproveReject", "viewer 1: a seaApproveReject"])
    panel.page.get_by_role("button", name="Approve a sea").click()
    panel.until_engine(prompt="a sea")
    panel.open()
    expect(panel.page.get_by_text("Shown: a sea")).to_be_visible()
    expect(panel.controls.get_by_role("textbox", name="Prompt")).to_have_value("a sea")
    expect(wishes(panel)).to_have_count(1)
    panel.service.post("viewers", clear=True)
    panel.until(lambda: panel.service.engine()["prompt"] != "a sea", "the prompt before is back")


@case(lambda panel: wishes(panel).get_by_role("button", name=re.compile("^Reject ")))
def a_viewer_is_refused(panel: Panel, buttons: Locator) -> None:
    ask(panel, "a swamp", "a moor")
    panel.page.get_by_role("button", name="Reject a swamp").click()
    panel.until(lambda: [one["text"] for one in panel.told("viewers")["waiting"]] == ["a moor"], "one is left")
    panel.open()
    expect(wishes(panel)).to_have_text(["viewer 1: a moorApproveReject"])


@case(lambda panel: panel.page.get_by_role("button", name="Drop all"))
def viewers_are_dropped(panel: Panel, button: Locator) -> None:
    before = panel.service.engine()["prompt"]
    ask(panel, "a cave", "a cliff")
    panel.page.get_by_role("button", name="Approve a cave").click()
    panel.until_engine(prompt="a cave")
    button.click()
    panel.until_engine(prompt=before)
    panel.until(lambda: panel.told("viewers")["waiting"] == [], "none waits")
    panel.open()
    expect(panel.page.get_by_text("Nothing of viewers is shown.")).to_be_visible()
    expect(wishes(panel)).to_have_count(0)


@case(lambda panel: panel.page.get_by_role("log", name="Log"))
def the_log_is_read_by_keyboard(panel: Panel, log: Locator) -> None:
    panel.service.post("prompt", seed=77)
    newest = log.locator("p").last
    expect(log).to_contain_text("asked to apply: seed 77")
    log.press("Home")
    expect(newest).not_to_be_in_viewport()
    log.press("End")
    expect(newest).to_be_in_viewport()
    panel.open()
    expect(log).to_contain_text("asked to apply: seed 77")
