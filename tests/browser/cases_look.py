"""Cases of what makes the picture: prompt, strength, seed, blend, style, feature bank, model, steps, presets."""

from __future__ import annotations

from playwright.sync_api import Locator, expect

from tests.browser.cases import Panel, case


def prompt(panel: Panel) -> Locator:
    return panel.controls.get_by_role("textbox", name="Prompt")


def apply(panel: Panel) -> Locator:
    return panel.controls.get_by_role("button", name="Apply", exact=True)


def engine(panel: Panel) -> Locator:
    return panel.controls.get_by_role("button", name="Use these")


@case(prompt)
def a_prompt_by_enter(panel: Panel, field: Locator) -> None:
    field.fill("neon lights")
    field.press("Enter")
    panel.until_engine(prompt="neon lights")
    panel.open()
    expect(field).to_have_value("neon lights")


@case(apply)
def a_prompt_by_its_button(panel: Panel, button: Locator) -> None:
    prompt(panel).fill("claymation")
    button.click()
    panel.until_engine(prompt="claymation")
    panel.open()
    expect(prompt(panel)).to_have_value("claymation")


@case(lambda panel: panel.page.get_by_role("list", name="Prompts used before").get_by_role("button"))
def prompts_used_before(panel: Panel, buttons: Locator) -> None:
    for text in ("anime, <i>first</i>", "pixel art"):
        prompt(panel).fill(text)
        prompt(panel).press("Enter")
        expect(buttons.first).to_have_text(text)
    panel.until_engine(prompt="pixel art")
    panel.open()
    buttons.nth(1).click()
    expect(prompt(panel)).to_have_value("anime, <i>first</i>")
    prompt(panel).press("Enter")
    panel.until_engine(prompt="anime, <i>first</i>")
    expect(buttons.nth(1)).to_have_text("pixel art")


@case(lambda panel: panel.controls.get_by_role("slider", name="Strength"))
def strength(panel: Panel, slider: Locator) -> None:
    slider.fill("0.6")
    slider.press("ArrowRight")
    expect(panel.page.locator("#strength-value")).to_have_text("0.61")
    apply(panel).click()
    panel.until_engine(strength=0.61)
    panel.open()
    expect(slider).to_have_value("0.61")
    expect(panel.page.locator("#strength-value")).to_have_text("0.61")


@case(lambda panel: panel.controls.get_by_role("spinbutton", name="Seed"))
def seed(panel: Panel, field: Locator) -> None:
    field.fill("9")
    apply(panel).click()
    panel.until_engine(seed=9)
    panel.open()
    expect(field).to_have_value("9")


@case(lambda panel: panel.controls.get_by_role("button", name="Another seed"))
def another_seed(panel: Panel, button: Locator) -> None:
    field = panel.controls.get_by_role("spinbutton", name="Seed")
    before = panel.service.engine()["seed"]
    expect(field).to_have_value(str(before))
    button.click()
    expect(field).not_to_have_value(str(before))
    drawn = field.input_value()
    apply(panel).click()
    panel.until_engine(seed=int(drawn))
    panel.open()
    expect(field).to_have_value(drawn)


@case(lambda panel: panel.controls.get_by_role("spinbutton", name="Blend, seconds"))
def blend(panel: Panel, field: Locator) -> None:
    field.fill("2.5")
    prompt(panel).fill("a sepia photograph")  # leaves the field, as a hand does
    panel.open()
    expect(field).to_have_value("2.5")
    prompt(panel).fill("stained glass")
    prompt(panel).press("Enter")
    panel.until_engine(prompt="stained glass")
    assert "asked to apply: prompt 'stained glass', blend_s 2.5" in panel.service.said
    field.fill("0")
    field.press("Tab")


@case(lambda panel: panel.controls.get_by_role("combobox", name="Style (LoRA)"))
def style(panel: Panel, choice: Locator) -> None:
    expect(choice).to_have_value("")
    choice.select_option("ink")
    apply(panel).click()
    panel.until_engine(style="ink")
    panel.open()
    expect(choice).to_have_value("ink")
    choice.select_option("none")
    apply(panel).click()
    panel.until_engine(style=None)


@case(lambda panel: panel.controls.get_by_role("checkbox", name="Begin with an empty bank"))
def begin_with_an_empty_bank(panel: Panel, box: Locator) -> None:
    resets = panel.service.engine()["bank_resets"]
    box.check()
    prompt(panel).fill("an oil painting")
    apply(panel).click()
    panel.until_engine(prompt="an oil painting", bank_resets=resets + 1)
    expect(box).not_to_be_checked()
    panel.open()
    expect(box).not_to_be_checked()  # once, or the next change would empty it without anybody's wish


@case(lambda panel: panel.controls.get_by_role("button", name="Reset", exact=True))
def bank_reset(panel: Panel, button: Locator) -> None:
    resets = panel.service.engine()["bank_resets"]
    button.click()
    panel.until_engine(bank_resets=resets + 1)
    panel.until(lambda: bool(panel.service.engine()["bank_filled"]), "the bank holds something again")
    panel.open()
    expect(panel.controls.get_by_text("filled; scenes kept:")).to_be_visible()


@case(lambda panel: panel.controls.get_by_role("button", name="Restore"))
def bank_restore(panel: Panel, button: Locator) -> None:
    for scene in ("B", "A"):  # left with `bank: restore`, so that there is something to bring back
        panel.obs.scene(scene)
        panel.until_engine(scene=scene)
    restores = panel.service.engine()["bank_restores"]
    button.click()
    panel.until_engine(bank_restores=restores + 1)
    panel.open()
    expect(panel.controls.get_by_text("; scenes kept: A")).to_be_visible()
    expect(button).to_be_enabled()


@case(lambda panel: panel.pictures.get_by_role("group", name="Presets").get_by_role("button"))
def presets(panel: Panel, buttons: Locator) -> None:
    buttons.get_by_text("Comic").click()
    panel.until_engine(prompt="a comic book panel", strength=0.5)
    assert panel.service.status()["preset"] == "Comic"
    panel.open()
    expect(panel.page.get_by_role("button", name="Comic", pressed=True)).to_be_visible()
    expect(panel.page.get_by_role("button", name="Blueprint", pressed=False)).to_be_visible()


@case(lambda panel: panel.pictures.get_by_role("checkbox", name="Keys"))
def keys(panel: Panel, box: Locator) -> None:
    sent: list[str] = []
    panel.page.on(
        "request", lambda request: sent.append(request.url.rpartition("/")[2]) if request.post_data else None
    )
    box.uncheck()
    panel.open()
    expect(box).not_to_be_checked()
    panel.page.keyboard.press("2")
    panel.page.keyboard.press("p")
    panel.page.wait_for_timeout(300)
    assert sent == []
    box.check()
    panel.page.keyboard.press("2")
    panel.until(lambda: panel.service.status()["preset"] == "Blueprint", "the preset of key 2")
    expect(prompt(panel)).to_have_value("a blueprint")
    panel.page.keyboard.press("/")
    expect(prompt(panel)).to_be_focused()
    panel.page.keyboard.press("1")
    expect(prompt(panel)).to_have_value("a blueprint1")  # in a field it is a letter
    panel.open()
    expect(box).to_be_checked()
    panel.page.keyboard.press("p")
    panel.says("SLATE")
    panel.page.keyboard.press("p")
    panel.says("TRANSLATED")
    assert sent == ["preset", "panic", "panic"]


@case(lambda panel: panel.controls.get_by_role("combobox", name="Steps"))
def steps(panel: Panel, choice: Locator) -> None:
    choice.select_option("2")
    engine(panel).click()
    panel.until_engine(steps=2)
    panel.open()
    expect(choice).to_have_value("2")
    expect(panel.page.get_by_role("definition").filter(has_text="2 steps")).to_be_visible()


@case(engine)
def nothing_is_used_before_something_is_chosen(panel: Panel, button: Locator) -> None:
    choice = panel.controls.get_by_role("combobox", name="Steps")
    expect(button).to_be_disabled()
    choice.select_option("1")
    button.press("Enter")
    panel.until_engine(steps=1)
    expect(button).to_be_disabled()
    panel.open()
    expect(button).to_be_disabled()
    expect(choice).to_have_value("1")


@case(lambda panel: panel.controls.get_by_role("combobox", name="Model"))
def model(panel: Panel, choice: Locator) -> None:
    before = panel.service.status()["engine_pid"]
    expect(choice).to_have_value("auto")
    choice.select_option("demo")
    engine(panel).click()
    panel.until(lambda: panel.service.status()["engine_pid"] not in (before, None), "another engine")
    assert panel.told("choices")["model"] == "demo"
    panel.open()
    expect(choice).to_have_value("demo")
    panel.until(lambda: panel.service.engine().get("translated", 0) > 0, "it translates")
    panel.says("TRANSLATED")
    panel.until_engine(model="demo")
