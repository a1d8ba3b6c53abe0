"""The panel in a real Chromium over the real service with the demo model, beside a real OBS: each control acts.

Leaves screenshots in build/screenshots, for people to look at.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from playwright.sync_api import Browser, BrowserContext, Locator, Page, expect
from prometheus_client.parser import text_string_to_metric_families

import tests.browser.cases_rules  # noqa: F401  for its cases
from tests.browser import cases_air, cases_look
from tests.browser.cases import CASES, Panel
from tests.conftest import Require
from tests.rigs.chromium import DESK, PHONE, PROGRAM, chromium, complaints_of, visitor
from tests.rigs.demo_lora import save_demo_lora
from tests.rigs.obs import PASSWORD, RealObs, obs_obstacle, real_obs
from tests.rigs.service import RunningService, running_service

pytestmark = [pytest.mark.browser, pytest.mark.obs]

SHOTS = Path(__file__).parents[2] / "build" / "screenshots"
CONFIG = """\
capture: {{kind: pattern, fps: 5}}
model:
  name: auto
  styles: {{ink: {{path: {style}}}}}
translator: {{prompt: a watercolor, steps: 1}}
publish: {{outputs: [browser]}}
presets:
  - {{name: Comic, prompt: a comic book panel, strength: 0.5}}
  - {{name: Blueprint, prompt: a blueprint}}
obs:
  enabled: true
  password: {{env: OBS_PASSWORD}}
  viewers: {{cooldown_s: 0, revert_s: null}}
  rules:
    - {{scene: A, bank: restore}} # where it begins
    - {{scene: "Game *", preset: Comic, bank: restore, seed: 5}} # the game
    - {{scene: B, prompt: a blueprint, bank: restore}}
"""
TO_BE_USED = "a[href], button, input, select, textarea, summary, [tabindex], [contenteditable], [role=button]"


class Live:
    """What all tests here share: it takes a while to start."""

    def __init__(self, browser: Browser, service: RunningService, obs: RealObs, file: Path) -> None:
        self.browser = browser
        self.service = service
        self.obs = obs
        self.file = file
        self.page_is_fresh = False
        """The page that tests share shows what the service says, and nothing that somebody has begun to change."""

    def come_in(self, somebody: BrowserContext) -> None:
        """Open the panel by a link, which gives the right to come again."""
        page = somebody.new_page()
        page.goto(self.service.client().get("/v1/link").json()["panel"], wait_until="domcontentloaded")
        expect(page.locator("#state")).to_have_text("TRANSLATED")
        page.close()


@pytest.fixture(scope="module")
def live(require: Require, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    require("browser", PROGRAM is not None, "there is no chromium")
    require("obs", not obs_obstacle(), obs_obstacle())
    folder = tmp_path_factory.mktemp("panel")
    file = folder / "mine.yaml"
    file.write_text(CONFIG.format(style=save_demo_lora(folder / "ink.safetensors")), encoding="utf-8")
    secret = {"OBS_PASSWORD": PASSWORD}
    with real_obs() as obs, running_service(folder / "run", config=file, environment=secret) as service:
        with chromium() as browser:
            service.until_on_air("TRANSLATED")
            service.until(lambda: service.status()["obs"]["scene"] == "A", "scene A")
            yield Live(browser, service, obs, file)
        assert service.stop() == 0


@pytest.fixture(scope="module")
def page(live: Live) -> Iterator[Page]:
    with visitor(live.browser) as somebody:
        live.come_in(somebody)
        yield somebody.new_page()


@pytest.fixture(scope="module")
def complaints(page: Page) -> list[str]:
    return complaints_of(page)


@pytest.fixture
def panel(live: Live, page: Page, complaints: list[str]) -> Iterator[Panel]:
    found = Panel(page, live.service, live.obs, live.file)
    if not live.page_is_fresh:
        found.open()
    complaints.clear()
    live.page_is_fresh = False
    yield found
    assert complaints == []


@pytest.mark.parametrize("name", CASES)
def test_it_changes_the_service_and_survives_a_reload(live: Live, panel: Panel, name: str) -> None:
    CASES[name].act(panel, CASES[name].find(panel))
    live.page_is_fresh = True


def test_no_control_is_without_a_case(panel: Panel) -> None:
    cases_air.ask(panel, "a lake")
    expect(panel.page.get_by_role("button", name="Approve a lake")).to_be_visible()
    cases_look.prompt(panel).fill("a photo")
    cases_look.prompt(panel).press("Enter")
    panel.rules.get_by_role("button", name="Add a rule").click()
    left = set(CASES)

    def mark() -> None:
        for name in list(left):
            controls = CASES[name].find(panel)
            if controls.evaluate_all("all => all.map(one => { one.dataset.cased = 'yes'; })"):
                left.remove(name)

    mark()
    cases_air.bypass(panel).click()  # whose dialog keeps all the rest from being used
    mark()
    assert left == set(), "cases of what is not on the page"
    found = panel.page.locator(f":is({TO_BE_USED}):not([data-cased])")
    assert found.evaluate_all("all => all.map(one => one.outerHTML)") == [], "controls without a case"


def figures(service: RunningService) -> dict[str, float]:
    """What /metrics says of the four lines of the plots, in the panel's units; and when."""
    text = service.client().get("/metrics").text
    families = {family.name: family.samples for family in text_string_to_metric_families(text)}
    ages = {sample.labels["quantile"]: 1000 * sample.value for sample in families["streamv2v_obs_content_age_seconds"]}
    named = {"at": "uptime_seconds", "shown": "publish_fps", "translated": "translate_fps"}
    found = {key: families[f"streamv2v_obs_{name}"][0].value for key, name in named.items()}
    return found | {"median": ages["0.5"], "95 %": ages["0.95"]}


def drawn(plot: Locator) -> tuple[dict[str, list[tuple[float, float]]], float]:
    """Read off by its own axes: (seconds ago, value) of each point of each line, by the line's name; and how exactly
    values can be read. Nothing before it is drawn."""
    found: dict[str, list[str]] = plot.evaluate("""plot => ({
        names: [...plot.querySelectorAll('.legend li')].map(li => li.firstChild.data),
        paths: [...plot.querySelectorAll('path.line')].map(path => path.getAttribute('d')),
        ys: [...plot.querySelectorAll('line.grid')].map(line => line.getAttribute('y1')),
        ticks: [...plot.querySelectorAll('.tick')].map(tick => tick.textContent),
        xs: [...plot.querySelectorAll('.tick')].map(tick => tick.getAttribute('x')),
    })""")
    if not found["paths"]:
        return {}, 0.0
    bottom, top = float(found["ys"][0]), float(found["ys"][2])
    highest = float(found["ticks"][2])
    left, right = float(found["xs"][3]), float(found["xs"][5])
    number, unit, _ = found["ticks"][3].split()
    span_s = float(number) * {"min": 60, "s": 1}[unit]

    def point(text: str) -> tuple[float, float]:
        x, y = map(float, text.split())
        return (right - x) / (right - left) * span_s, (bottom - y) / (bottom - top) * highest

    lines = {
        name: [point(text) for text in path.replace("L", "M").split("M") if text]
        for name, path in zip(found["names"], found["paths"], strict=True)
    }
    return lines, highest / (bottom - top)


def test_the_plots_show_the_figures_of_the_metrics(panel: Panel) -> None:
    plots = [panel.page.locator("#plot-fps"), panel.page.locator("#plot-latency")]
    panel.until(lambda: panel.service.status()["publish"]["content_age_ms_p50"] is not None, "there is an age")
    said: list[dict[str, float]] = []
    engine = psutil.Process(panel.service.status()["engine_pid"])
    began_at = time.monotonic()
    while (passed_s := time.monotonic() - began_at) < 6.5:
        if 1 < passed_s < 3.2:
            engine.suspend()  # so that there is something to be seen
        else:
            engine.resume()
        said.append(figures(panel.service))
        time.sleep(0.1)
    read = [drawn(plot) for plot in plots]
    now = said[-1]["at"]
    compared: dict[str, list[float]] = {}
    for lines, exact in read:
        for name, points in lines.items():
            for ago, value in points:
                near = [one[name] for one in said if abs(now - ago - one["at"]) < 1.2]
                if not 1.5 < ago < 5.5:
                    continue
                assert min(near) - exact <= value <= max(near) + exact, f"{name}, {ago:.1f} s ago"
                compared.setdefault(name, []).append(value / exact)
    assert [len(values) >= 3 for values in compared.values()] == [True] * 4, "a point a second"
    for name in ("translated", "median", "95 %"):
        assert max(compared[name]) - min(compared[name]) > 1.5, f"{name}: the engine's stillness was seen"

    panel.open()
    history = panel.told("history")["points"]
    until = time.monotonic() + 20
    while len(drawn(plots[0])[0].get("shown", [])) < len(history) - 3 and time.monotonic() < until:
        panel.page.wait_for_timeout(100)
    lines, exact = drawn(plots[0])
    before = [point["publish_fps"] for point in history]
    assert [value for _, value in lines["shown"]][: len(before) - 3] == pytest.approx(before[:-3], abs=exact)
    shown = plots[0].get_by_role("listitem").filter(has_text="shown").locator("b")
    oldest = f"{before[0]:.1f}"
    expect(shown).not_to_have_text(oldest)
    plots[0].locator("svg").hover(position={"x": 5, "y": 50})
    expect(shown).to_have_text(oldest)
    panel.page.wait_for_timeout(1200)
    expect(shown).to_have_text(oldest)  # for as long as somebody points at it, whatever has come meanwhile
    panel.page.mouse.move(0, 0)
    expect(shown).not_to_have_text(oldest)


@pytest.mark.parametrize("size", [DESK, PHONE], ids=["1280", "390"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_can_be_looked_at(live: Live, size: tuple[int, int], scheme: str) -> None:
    rules: list[dict[str, Any]] = [
        {"scene": "A", "prompt": "a watercolor", "bank": "restore"},
        {"scene": "Game *", "preset": "Comic", "bank": "restore", "when": "start"},
        {"scene": "Be Right Back", "output": "slate"},
    ]
    live.service.post("rules", rules=rules)
    live.service.until_on_air("TRANSLATED")
    with visitor(live.browser, size, dark=scheme == "dark") as somebody:
        live.come_in(somebody)
        panel = Panel(somebody.new_page(), live.service, live.obs, live.file)
        complaints = complaints_of(panel.page)
        panel.open()
        panel.page.get_by_role("button", name="Show input").click()
        for picture in ("Live input", "Live output"):
            expect(panel.page.get_by_role("img", name=picture)).to_be_visible()
        expect(panel.page.locator("path.line")).to_have_count(4)
        expect(panel.page.get_by_role("log")).to_contain_text("settings:")
        panel.page.screenshot(path=SHOTS / f"{size[0]}-{scheme}.png", full_page=True)
        assert panel.page.evaluate("document.documentElement.scrollWidth") <= size[0]
        assert complaints == []
