"""The panel in a real Chromium over the real service with the demo model: what is done there happens, and stays.

Leaves screenshots in build/screenshots, for people to look at.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.conftest import Require
from tests.rigs.chromium import PROGRAM, Page, chromium
from tests.rigs.service import RunningService, running_service

pytestmark = [pytest.mark.browser, pytest.mark.timeout(900)]  # the engine is loaded twice

SHOTS = Path(__file__).parents[2] / "build" / "screenshots"
CONFIG = """\
capture: {kind: pattern, fps: 5}
model: {name: demo}
translator: {prompt: a watercolor, steps: 1}
publish: {outputs: [browser]}
presets:
  - {name: Comic, prompt: a comic book panel, strength: 0.5}
  - {name: Blueprint, prompt: a blueprint}
obs:
  rules:
    - {scene: "Game *", preset: Comic, bank: restore} # the game
"""


def put(page: Page, name: str, value: str) -> None:
    """What a hand does to a field, as far as the page can tell."""
    events = "for (const name of ['input', 'change']) e.dispatchEvent(new Event(name, {bubbles: true}))"
    page.ask(f"(e => {{ e.value = {value!r}; {events} }})(document.getElementById({name!r}))")


def click(page: Page, selector: str) -> None:
    page.ask(f"document.querySelector({selector!r}).click()")


def shows(page: Page, name: str, value: str) -> None:
    page.until(f"document.getElementById({name!r}).value == {value!r}")


def fps_of_metrics(service: RunningService) -> float:
    text = service.client().get("/metrics").text
    families = {family.name: family.samples for family in text_string_to_metric_families(text)}
    return float(families["streamv2v_obs_publish_fps"][0].value)


def test_every_control_changes_the_service_and_survives_a_reload(require: Require, tmp_path: Path) -> None:
    require("browser", PROGRAM is not None, "there is no chromium")
    (tmp_path / "browser").mkdir()
    config = tmp_path / "mine.yaml"
    config.write_text(CONFIG, encoding="utf-8")
    with running_service(tmp_path / "run", config=config) as service, chromium(tmp_path / "browser") as page:
        service.until_on_air("TRANSLATED", 300)
        page.open(service.client().get("/v1/link").json()["panel"])
        page.until("document.body?.dataset.state == 'TRANSLATED'")
        shows(page, "prompt", "a watercolor")

        put(page, "prompt", "neon lights")
        put(page, "strength", "0.6")
        put(page, "seed", "9")
        click(page, "#apply")
        service.until(lambda: service.engine()["prompt"] == "neon lights", "the prompt")
        assert (service.engine()["strength"], service.engine()["seed"]) == (0.6, 9)
        click(page, "[data-bank=reset]")
        service.until(lambda: service.engine()["bank_resets"] == 1, "the bank")
        click(page, "#presets button")
        service.until(lambda: service.status()["preset"] == "Comic", "the preset")
        click(page, "#panic")
        service.until_on_air("SLATE", 20)
        page.until("document.body.dataset.state == 'SLATE'")
        click(page, "#panic")
        click(page, "#bypass")
        click(page, "#confirm button[value=yes]")
        service.until_on_air("BYPASS", 30)
        page.until("document.body.dataset.state == 'BYPASS'")
        click(page, "#bypass")
        service.until_on_air("TRANSLATED", 300)
        click(page, "#show-input")
        page.until("!document.getElementById('input').hidden")
        put(page, "steps", "2")
        click(page, "#apply-engine")
        service.until(lambda: service.engine().get("steps") == 2, "the steps", 300)
        page.ask("document.querySelector('#rules input[placeholder=stays]').focus()")
        page.type("a fresco")
        page.until("!document.getElementById('save-rules').disabled")
        click(page, "#save-rules")
        expected = '- {scene: "Game *", preset: Comic, bank: restore, prompt: a fresco} # the game\n'
        service.until(lambda: config.read_text(encoding="utf-8").endswith(expected), "the rule is in the file")

        service.until_on_air("TRANSLATED", 300)
        page.open(str(service.client().base_url))
        page.until("document.body?.dataset.state == 'TRANSLATED'")
        shows(page, "prompt", "a comic book panel")
        shows(page, "strength", "0.5")
        shows(page, "seed", "9")
        shows(page, "steps", "2")
        page.until("document.querySelector('#presets [aria-pressed=true]')?.dataset.name == 'Comic'")
        page.until("document.querySelector('#rules input[placeholder=stays]')?.value == 'a fresco'")
        page.until("document.querySelector('#history button')?.textContent == 'neon lights'")
        page.until("document.querySelectorAll('#log p').length > 5")

        history = service.client().get("/v1/history").json()["points"]
        page.until("document.querySelector('#plot-fps path')?.getAttribute('d').includes('L')")
        drawn = page.ask("document.querySelector('#plot-fps path').getAttribute('d').match(/[ML]/g).length")
        assert abs(drawn - len(history)) <= 4 or drawn >= len(history), "a point a second, from before the reload too"
        shown = page.ask("Number(document.querySelector('#plot-fps b').textContent)")
        assert shown == pytest.approx(fps_of_metrics(service), abs=4), "both of the last five seconds"

        click(page, "#show-input")
        for width, height in ((1280, 900), (390, 844)):
            for scheme in ("light", "dark"):
                page.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
                page.open(str(service.client().base_url), width, height)
                page.until("document.body?.dataset.state == 'TRANSLATED'")
                click(page, "#show-input")
                page.until("!document.getElementById('input').hidden && !document.getElementById('output').hidden")
                page.until("document.querySelector('#plot-fps path') && document.querySelector('#log p')")
                assert page.ask("document.documentElement.scrollWidth") <= width
                page.shoot(SHOTS / f"{width}-{scheme}.png")
        assert page.complaints == []
        assert service.stop() == 0
