"""The panel and the page for OBS in a real Chromium, on a real server; the service behind them is a fake."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from streamv2v_obs.commands import Change
from streamv2v_obs.control.server import ControlServer
from streamv2v_obs.settings import ControlSettings
from tests.conftest import Require
from tests.rigs.chromium import PROGRAM, Page, chromium
from tests.rigs.fake_service import FakeService

pytestmark = pytest.mark.browser

SHOWN = "!document.getElementById('{0}').hidden && document.getElementById('{0}').naturalWidth == 64"
TAB, ENTER, ESCAPE = ("Tab", 9), ("Enter", 13, "\r"), ("Escape", 27)


@pytest.fixture(scope="module")
def browser(require: Require, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    require("browser", PROGRAM is not None, "there is no chromium")
    with chromium(tmp_path_factory.mktemp("chromium")) as page:
        yield page


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
def panel(browser: Page, server: ControlServer) -> Page:
    browser.complaints.clear()
    browser.open(server.new_link())
    browser.until("document.body?.dataset.state == 'HOLD'")
    return browser


def wait_told(page: Page, service: FakeService, *told: object) -> None:
    for _ in range(100):
        if service.told == list(told):
            return
        page.ask("new Promise(done => setTimeout(done, 50))")
    assert service.told == list(told)


def test_a_link_leads_to_a_live_picture_and_an_honest_badge(panel: Page, service: FakeService) -> None:
    panel.until(SHOWN.format("output"))
    assert panel.ask("location.pathname + location.search") == "/"
    colours = set()
    for state in ("TRANSLATED", "HOLD", "SLATE", "BYPASS"):
        service.publish = replace(service.publish, state=state)
        panel.until(f"document.getElementById('state').textContent == '{state}'")
        colours.add(panel.ask("getComputedStyle(document.body).getPropertyValue('--state')"))
    assert len(colours) == 4
    assert panel.complaints == []


def test_enter_applies_what_was_changed_and_nothing_else(panel: Page, service: FakeService) -> None:
    panel.until("document.getElementById('prompt').value == 'an oil painting'")
    panel.ask("document.getElementById('prompt').select() ?? document.getElementById('prompt').focus()")
    panel.type("a <b>ink</b> drawing")
    panel.press(*ENTER)
    wait_told(panel, service, Change(prompt="a <b>ink</b> drawing"))


def test_bypass_is_asked_about_by_keyboard_and_panic_is_not(panel: Page, service: FakeService) -> None:
    panel.ask("document.getElementById('bypass').focus()")
    panel.press(*ENTER)
    panel.until("document.getElementById('confirm').open")
    assert panel.ask("document.activeElement.textContent") == "Cancel"
    panel.press(*ESCAPE)
    panel.until("!document.getElementById('confirm').open")
    assert service.told == []
    panel.press(*ENTER)
    panel.until("document.getElementById('confirm').open")
    panel.press(*TAB)
    panel.press(*ENTER)
    wait_told(panel, service, ("bypass", True))
    panel.ask("document.getElementById('panic').click()")
    wait_told(panel, service, ("bypass", True), ("panic", True))


def test_the_input_is_behind_a_click(panel: Page, service: FakeService) -> None:
    assert service.input_view is not None
    service.input_view.send(np.zeros((48, 64, 3), np.uint8))
    assert panel.ask("document.getElementById('input').hasAttribute('src')") is False
    panel.ask("document.getElementById('show-input').click()")
    panel.until(SHOWN.format("input"))
    panel.ask("document.getElementById('show-input').click()")
    wait_told(panel, service, ("input", True), ("input", False))
    assert panel.ask("document.getElementById('input-figure').hidden") is True


def test_everything_has_a_name_and_fits_a_phone(browser: Page, panel: Page, server: ControlServer) -> None:
    browser.open(server.address + "/", 390, 844)
    browser.until("document.body?.dataset.state == 'HOLD'")
    assert browser.ask("document.documentElement.scrollWidth") <= 390
    tree = browser.call("Accessibility.getFullAXTree")["nodes"]
    roles = {"button", "textbox", "slider", "checkbox", "spinbutton", "image"}
    named = [(n["role"]["value"], n["name"]["value"]) for n in tree if n.get("role", {}).get("value") in roles]
    assert {"button", "textbox", "slider", "checkbox", "spinbutton"} <= {role for role, _ in named}
    assert [role for role, name in named if not name.strip()] == []


def test_without_a_right_the_panel_says_how_to_get_one(browser: Page, server: ControlServer) -> None:
    browser.call("Network.clearBrowserCookies")
    browser.open(server.address + "/")
    browser.until("document.body?.dataset.state == 'LOCKED'")
    assert "streamv2v-obs open" in browser.ask("document.getElementById('banner').textContent")
    assert browser.ask("document.getElementById('panic').disabled") is True


def test_when_the_service_ends_the_panel_does_not_pretend(panel: Page, server: ControlServer) -> None:
    panel.until(SHOWN.format("output"))
    server.stop()
    server.join(5)
    panel.until("document.body.dataset.state == 'OFFLINE'")
    assert panel.ask("document.getElementById('output').hidden") is True


def test_the_page_for_obs_needs_its_key_and_nothing_else(browser: Page, server: ControlServer) -> None:
    browser.call("Network.clearBrowserCookies")
    browser.complaints.clear()
    browser.open(f"{server.address}/view?key={server.auth.stream_key}", 640, 360)
    browser.until("document.getElementById('picture')?.naturalWidth == 64")
    browser.until(SHOWN.format("picture"))
    box = "(r => [r.x, r.y, r.width, r.height])(document.getElementById('picture').getBoundingClientRect())"
    assert browser.ask(box) == [0, 0, 640, 360]
    assert browser.complaints == []
