"""The panel and the page for OBS in a real Chromium, on a real server; the service behind them is a fake, which can
be put into any state at once. What controls do is tested on the real one, in test_panel_live."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, get_args, get_type_hints

import httpx
import numpy as np
import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect
from prometheus_client.parser import text_string_to_metric_families

from streamv2v_obs.commands import Change
from streamv2v_obs.control.server import ControlServer
from streamv2v_obs.presets import Presets
from streamv2v_obs.settings import ControlSettings, PatternCapture, SceneRule
from streamv2v_obs.stats import PublishStatus
from tests.conftest import Require
from tests.rigs.chromium import PHONE, PROGRAM, chromium, complaints_of, visitor
from tests.rigs.fake_service import FakeService

pytestmark = pytest.mark.browser

STATES = get_args(get_type_hints(PublishStatus)["state"])
Role = Literal["button", "textbox", "slider", "checkbox", "spinbutton", "combobox", "img", "log"]


@pytest.fixture(scope="module")
def browser(require: Require) -> Iterator[Browser]:
    require("browser", PROGRAM is not None, "there is no chromium")
    with chromium() as found:
        yield found


@pytest.fixture
def service() -> Iterator[FakeService]:
    fake = FakeService()
    fake.engine = replace(fake.engine, state="running", prompt="an oil painting", strength=0.4, bank="dyme")
    fake.browser.send(np.zeros((48, 64, 3), np.uint8))
    yield fake
    fake.browser.close()
    if fake.input_view is not None:
        fake.input_view.close()


@pytest.fixture
def server(service: FakeService, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ControlServer]:
    monkeypatch.setenv("STREAMV2V_RUNTIME_DIR", str(tmp_path))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    found = ControlServer(ControlSettings(port=0), service)
    found.start()
    yield found
    found.stop()
    found.join(5)


@pytest.fixture
def somebody(browser: Browser) -> Iterator[BrowserContext]:
    with visitor(browser) as found:
        yield found


@pytest.fixture
def page(somebody: BrowserContext) -> Page:
    return somebody.new_page()


@pytest.fixture
def complaints(page: Page) -> list[str]:
    return complaints_of(page)


@pytest.fixture
def panel(page: Page, complaints: list[str], server: ControlServer) -> Page:
    # "load" would wait for pictures, of which there is no last one.
    page.goto(server.new_link(), wait_until="domcontentloaded")
    expect(page.locator("#state")).to_have_text("HOLD")
    return page


def test_a_link_leads_to_a_live_picture_and_an_honest_badge(
    panel: Page, complaints: list[str], service: FakeService, server: ControlServer
) -> None:
    expect(panel).to_have_url(f"{server.address}/")
    picture = panel.get_by_role("img", name="Live output")
    expect(picture).to_be_visible()
    expect(picture).to_have_js_property("naturalWidth", 64)
    colours = set()
    for state in STATES:
        service.publish = replace(service.publish, state=state)
        expect(panel.locator("#state")).to_have_text(state)
        colours.add(panel.locator("#state").evaluate("badge => getComputedStyle(badge).backgroundColor"))
    assert len(colours) == len(STATES)
    assert complaints == []


def test_enter_applies_what_was_changed_and_nothing_else(panel: Page, service: FakeService) -> None:
    field = panel.get_by_role("region", name="Controls").get_by_role("textbox", name="Prompt")
    expect(field).to_have_value("an oil painting")
    field.fill("a <b>ink</b> drawing")
    field.press("Shift+Enter")
    panel.keyboard.type("on wood")
    field.press("Enter")
    expect(panel.get_by_text("Applied from the next frame on")).to_be_visible()
    assert service.told == [Change(prompt="a <b>ink</b> drawing\non wood")]


def test_a_service_without_presets_has_no_such_row(page: Page, server: ControlServer, service: FakeService) -> None:
    service.presets = Presets(())
    page.goto(server.new_link(), wait_until="domcontentloaded")
    expect(page.get_by_role("combobox", name="Steps").locator("option")).to_have_count(8)
    expect(page.get_by_role("group", name="Presets")).to_be_hidden()


def test_a_service_without_a_file_has_rules_to_be_read(
    panel: Page, service: FakeService, monkeypatch: pytest.MonkeyPatch
) -> None:
    rules = panel.get_by_role("region", name="Scene rules")
    expect(rules.get_by_role("button", name="Add a rule")).to_be_enabled()
    monkeypatch.setattr(service.setup, "rules_file", None)
    expect(rules.get_by_text("cannot be edited here")).to_be_visible()
    expect(rules.get_by_role("button", name="Add a rule")).to_be_disabled()


def test_a_rule_keeps_what_wins_over_its_preset(panel: Page, service: FakeService) -> None:
    service.setup.set_rules(
        [SceneRule(scene="Game", preset="Comic", bank="keep", source=PatternCapture(kind="pattern"))]
    )
    rules = panel.get_by_role("region", name="Scene rules")
    expect(rules.get_by_role("combobox", name="Bank")).to_have_value("keep")
    rules.get_by_role("textbox", name="Prompt").fill("a fresco")
    rules.get_by_role("button", name="Save").click()
    expect(panel.get_by_text("Saved and in force")).to_be_visible()
    (rule,) = service.setup.current.obs.rules
    assert (rule.prompt, rule.bank, rule.source) == ("a fresco", "keep", PatternCapture(kind="pattern"))
    assert "bank" in rule.model_fields_set, "or its preset's would be taken"


def test_the_plots_show_the_figures_of_the_metrics(panel: Page, service: FakeService, server: ControlServer) -> None:
    service.publish = replace(service.publish, fps=23.4, content_age_ms_p50=87.0, content_age_ms_p95=140.0)
    service.engine = replace(service.engine, translate_fps=9.6)
    speed, age = (panel.get_by_role("figure", name=name) for name in ("Pictures a second", "Age of the picture"))
    expect(speed.get_by_role("img", name="23.4")).to_be_visible()
    key = {"key": server.auth.stream_key}
    text = httpx.get(f"{server.address}/metrics", params=key, trust_env=False).text
    found = {family.name: family.samples for family in text_string_to_metric_families(text)}
    shown, translated = (found[f"streamv2v_obs_{name}_fps"][0].value for name in ("publish", "translate"))
    middle, high = (1000 * sample.value for sample in found["streamv2v_obs_content_age_seconds"])
    said: list[tuple[Any, list[str]]] = [
        (speed, [f"shown {shown:.1f}", f"translated {translated:.1f}"]),
        (age, [f"median {middle:.0f} ms", f"95 % {high:.0f} ms"]),
    ]
    for plot, values in said:
        expect(plot.get_by_role("listitem")).to_have_text(values)
        expect(plot.get_by_role("img", name=f"Now: {', '.join(values)};")).to_be_visible()


def test_the_log_is_told(panel: Page) -> None:
    logging.getLogger("streamv2v_obs.test").warning("something <b>happened</b>")
    line = panel.get_by_role("log").locator(".warning").last
    expect(line).to_contain_text("something <b>happened</b>")


def test_everything_has_a_name_and_fits_a_phone(browser: Browser, server: ControlServer) -> None:
    with visitor(browser, PHONE) as somebody:
        page = somebody.new_page()
        page.goto(server.new_link(), wait_until="domcontentloaded")
        ticks = page.locator(".plot .tick")
        expect(ticks).to_have_count(12)
        assert page.evaluate("document.documentElement.scrollWidth") <= PHONE[0]
        outside = """ticks => ticks.filter(tick => {
            const [inner, outer] = [tick, tick.ownerSVGElement].map(e => e.getBoundingClientRect());
            return inner.top < outer.top || inner.bottom > outer.bottom || inner.left < outer.left;
        }).map(tick => tick.textContent)"""
        assert ticks.evaluate_all(outside) == [], "numbers of the plots that lie outside"
        for role in get_args(Role):
            named = page.get_by_role(role, name=re.compile(r"\S"))
            assert named.count() == page.get_by_role(role).count() > 0, f"a {role} without a name"


def test_without_a_right_the_panel_says_how_to_get_one(
    page: Page, complaints: list[str], server: ControlServer
) -> None:
    page.goto(server.address, wait_until="domcontentloaded")
    expect(page.locator("#state")).to_have_text("LOCKED")
    expect(page.get_by_role("alert")).to_contain_text("streamv2v-obs open")
    for name in ("Panic", "Apply", "Show input"):
        expect(page.get_by_role("button", name=name, exact=True)).to_be_disabled()
    assert complaints
    assert all("401" in said or "no valid credentials" in said for said in complaints), complaints


def test_when_the_service_ends_the_panel_does_not_pretend(panel: Page, server: ControlServer) -> None:
    picture = panel.get_by_role("img", name="Live output")
    expect(picture).to_be_visible()
    server.stop()
    server.join(5)
    expect(panel.locator("#state")).to_have_text("OFFLINE")
    expect(picture).to_be_hidden()
    expect(panel.get_by_text("OBS: not known")).to_be_visible()


def test_the_page_for_obs_needs_its_key_and_nothing_else(
    page: Page, complaints: list[str], server: ControlServer
) -> None:
    page.set_viewport_size({"width": 640, "height": 360})
    page.goto(f"{server.address}/view?key={server.auth.stream_key}", wait_until="domcontentloaded")
    picture = page.get_by_role("img", name="Live output")
    expect(picture).to_be_visible()
    expect(picture).to_have_js_property("naturalWidth", 64)
    assert picture.bounding_box() == {"x": 0, "y": 0, "width": 640, "height": 360}
    assert complaints == []
