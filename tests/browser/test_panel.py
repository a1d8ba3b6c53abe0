"""The panel and the page for OBS in a real Chromium, on a real server; the service behind them is a fake."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import httpx
import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families

from streamv2v_obs.commands import Change
from streamv2v_obs.control.server import ControlServer
from streamv2v_obs.presets import Presets
from streamv2v_obs.settings import ControlSettings, SceneRule, ViewerSettings
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
    assert panel.ask("document.getElementById('input').hidden && !document.getElementById('no-input').hidden") is True


def key(panel: Page, name: str) -> None:
    panel.press(name, ord(name.upper()), name)


def test_presets_are_buttons_with_number_keys(panel: Page, service: FakeService) -> None:
    panel.until("document.querySelectorAll('#presets button').length == 3")
    panel.ask("document.activeElement.blur()")
    key(panel, "2")
    wait_told(panel, service, service.presets.numbered(2))
    panel.until("document.querySelector('#presets [aria-pressed=true]')?.dataset.name == 'Ölbild'")
    panel.ask("document.querySelectorAll('#presets button')[2].click()")
    panel.until("document.querySelector('#presets [aria-pressed=true]')?.dataset.name == 'Ink'")
    told = len(service.told)
    panel.ask("document.getElementById('prompt').focus()")
    key(panel, "1")
    assert panel.ask("document.getElementById('prompt').value.endsWith('1')"), "in a field it is a letter"
    panel.ask("document.activeElement.blur()")
    panel.ask("document.getElementById('keys').click()")
    key(panel, "1")
    key(panel, "p")
    panel.ask("document.getElementById('keys').click()")
    key(panel, "p")
    wait_told(panel, service, *service.told[:told], ("panic", True))


def test_a_service_without_presets_has_no_such_row(browser: Page, server: ControlServer, service: FakeService) -> None:
    service.presets = Presets(())
    browser.open(server.new_link())
    browser.until("document.querySelectorAll('#steps option').length == 8")
    assert browser.ask("document.getElementById('presets').hidden") is True


def test_prompts_are_remembered_beyond_a_reload(panel: Page, service: FakeService, server: ControlServer) -> None:
    panel.ask("localStorage.clear()")
    for text in ("first <i>", "second"):
        panel.ask("document.getElementById('prompt').select() ?? document.getElementById('prompt').focus()")
        panel.type(text)
        panel.press(*ENTER)
        panel.until(f"document.querySelector('#history button')?.textContent == '{text}'")
    panel.open(server.address + "/")
    panel.until("document.querySelectorAll('#history button').length == 2")
    panel.ask("document.querySelectorAll('#history button')[1].click()")
    assert panel.ask("document.getElementById('prompt').value") == "first <i>"
    panel.press(*ENTER)
    wait_told(panel, service, *(Change(prompt=text) for text in ("first <i>", "second", "first <i>")))


def test_a_prompt_blends_in_as_long_as_was_chosen(panel: Page, service: FakeService, server: ControlServer) -> None:
    panel.ask("(e => { e.value = '2.5'; e.dispatchEvent(new Event('change')) })(document.getElementById('blend'))")
    panel.open(server.address + "/")
    panel.until("document.getElementById('prompt')?.value == 'an oil painting'")
    panel.ask("document.getElementById('prompt').select() ?? document.getElementById('prompt').focus()")
    panel.type("slowly")
    panel.press(*ENTER)
    wait_told(panel, service, Change(prompt="slowly", blend_s=2.5))
    panel.ask("localStorage.clear()")


def test_style_seed_and_engine_are_chosen(panel: Page, service: FakeService) -> None:
    choose = "(e => {{ e.value = '{1}'; e.dispatchEvent(new Event('input', {{bubbles: true}})) }})({0})"
    by_id = "document.getElementById('{0}')"
    panel.until("document.querySelectorAll('#style option').length == 2")
    panel.ask(choose.format(by_id.format("style"), "ink"))
    panel.ask(choose.format(by_id.format("seed"), "12"))
    panel.ask(by_id.format("apply") + ".click()")
    wait_told(panel, service, Change(style="ink", seed=12))
    panel.ask(choose.format(by_id.format("steps"), "4"))
    panel.ask(by_id.format("apply-engine") + ".click()")
    wait_told(panel, service, Change(style="ink", seed=12), {("translator", "steps"): 4})
    panel.ask("document.querySelector('[data-bank=reset]').click()")
    panel.ask("document.getElementById('restore').click()")
    wait_told(
        panel,
        service,
        Change(style="ink", seed=12),
        {("translator", "steps"): 4},
        Change(bank="reset"),
        Change(bank="restore", bank_of="Chat"),
    )


def test_rules_are_edited_and_nothing_that_has_no_field_is_lost(panel: Page, service: FakeService) -> None:
    service.setup.set_rules([SceneRule(scene="Game", seed=5), SceneRule(scene="Chat", output="bypass", steps=3)])
    service.told.clear()
    panel.until("document.querySelectorAll('#rules li').length == 2")
    panel.ask("new Promise(done => setTimeout(done, 3500))")  # the page asks again meanwhile, and nothing is new
    panel.ask("document.getElementById('add-rule').click()")
    panel.type("End")
    panel.ask("document.querySelectorAll('#rules li')[0].querySelectorAll('input')[1].focus()")
    panel.type("a comic: bold")
    panel.ask("document.querySelectorAll('#rules li')[2].querySelector('button').click()")  # up
    panel.ask("document.getElementById('save-rules').click()")
    wait_told(panel, service, ("rules", ["Game", "End", "Chat"]))
    rules = service.setup.current.obs.rules
    assert (rules[0].prompt, rules[0].seed, rules[2].output) == ("a comic: bold", 5, "bypass")
    panel.until("document.getElementById('save-rules').disabled")
    service.obs = replace(service.obs, state="connected", scene="End", rule="End")
    panel.until("document.querySelector('#rules .in-force')?.dataset.scene == 'End'")
    assert panel.ask("document.getElementById('obs-text').textContent") == "OBS: End, rule End"


def test_the_plots_show_the_figures_of_the_metrics(panel: Page, service: FakeService, server: ControlServer) -> None:
    service.publish = replace(service.publish, fps=23.4, content_age_ms_p50=87.0, content_age_ms_p95=140.0)
    service.engine = replace(service.engine, translate_fps=9.6)
    panel.until("document.querySelector('#plot-fps svg').getAttribute('aria-label').includes('23.4')")
    key = {"key": server.auth.stream_key}
    text = httpx.get(f"{server.address}/metrics", params=key, trust_env=False).text
    found = {family.name: family.samples for family in text_string_to_metric_families(text)}
    shown, translated = found["streamv2v_obs_publish_fps"], found["streamv2v_obs_translate_fps"]
    label = panel.ask("document.querySelector('#plot-fps svg').getAttribute('aria-label')")
    assert label.startswith(f"Now: shown {shown[0].value:.1f}, translated {translated[0].value:.1f}")
    middle, high = (1000 * sample.value for sample in found["streamv2v_obs_content_age_seconds"])
    label = panel.ask("document.querySelector('#plot-latency svg').getAttribute('aria-label')")
    assert label.startswith(f"Now: median {middle:.0f} ms, 95 % {high:.0f} ms")
    assert panel.ask("document.querySelectorAll('#plot-fps path').length") == 2
    assert "L" in panel.ask("document.querySelector('#plot-fps path').getAttribute('d')")


def test_the_log_is_told(panel: Page) -> None:
    logging.getLogger("streamv2v_obs.test").warning("something <b>happened</b>")
    panel.until("document.querySelector('#log .warning:last-child')?.textContent.includes('<b>happened</b>')")


def test_everything_has_a_name_and_fits_a_phone(browser: Page, panel: Page, server: ControlServer) -> None:
    browser.open(server.address + "/", 390, 844)
    browser.until("document.body?.dataset.state == 'HOLD'")
    assert browser.ask("document.documentElement.scrollWidth") <= 390
    browser.until("document.querySelectorAll('.plot .tick').length >= 12")
    cut = """[...document.querySelectorAll('.plot .tick')].filter(tick => {
        const [inner, outer] = [tick, tick.ownerSVGElement].map(e => e.getBoundingClientRect());
        return inner.top < outer.top || inner.bottom > outer.bottom || inner.left < outer.left;
    }).map(tick => tick.textContent)"""
    assert browser.ask(cut) == [], "numbers of the plots that lie outside"
    tree = browser.call("Accessibility.getFullAXTree")["nodes"]
    roles = {"button", "textbox", "slider", "checkbox", "spinbutton", "image", "combobox", "log"}
    named = [(n["role"]["value"], n["name"]["value"]) for n in tree if n.get("role", {}).get("value") in roles]
    assert {"button", "textbox", "slider", "checkbox", "spinbutton", "combobox"} <= {role for role, _ in named}
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
    assert panel.ask("document.getElementById('obs-text').textContent") == "OBS: not known"


def test_the_page_for_obs_needs_its_key_and_nothing_else(browser: Page, server: ControlServer) -> None:
    browser.call("Network.clearBrowserCookies")
    browser.complaints.clear()
    browser.open(f"{server.address}/view?key={server.auth.stream_key}", 640, 360)
    browser.until("document.getElementById('picture')?.naturalWidth == 64")
    browser.until(SHOWN.format("picture"))
    box = "(r => [r.x, r.y, r.width, r.height])(document.getElementById('picture').getBoundingClientRect())"
    assert browser.ask(box) == [0, 0, 640, 360]
    assert browser.complaints == []


def test_the_streamer_decides_on_prompts_of_viewers(panel: Page, service: FakeService) -> None:
    assert panel.ask("document.getElementById('viewers').hidden") is True, "viewers may not ask"
    service.viewers.use(ViewerSettings())
    service.viewers.ask("a <b>lake</b>", "anna")
    service.viewers.ask("a sea", "bert")
    panel.until("document.querySelectorAll('#viewers-list li').length == 2")
    assert panel.ask("document.querySelector('#viewers-list li span').textContent") == "anna: a <b>lake</b>"
    panel.ask("document.querySelector('#viewers-list li button[aria-label^=Reject]').click()")
    panel.until("document.querySelectorAll('#viewers-list li').length == 1")
    panel.ask("document.querySelector('#viewers-list li button[aria-label^=Approve]').click()")
    panel.until("document.querySelectorAll('#viewers-list li button').length == 0")
    told = service.viewers.told()
    assert told["waiting"] == []
    assert "a sea" in str(told["approved"])
    panel.ask("document.getElementById('viewers-clear').click()")
    panel.until("document.querySelectorAll('#viewers-list li').length == 0")
