"""Takes README's picture of the panel: the real service on a photograph that moves, led by a real OBS, after a while.

``python -m tests.rigs.panel_picture [FILE]``, on a quiet machine, since its figures are shown; needs what tests need.
"""

from __future__ import annotations

import math
import sys
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np
from playwright.sync_api import BrowserContext, expect
from skimage import data

from tests.rigs.chromium import chromium, visitor
from tests.rigs.obs import PASSWORD, real_obs
from tests.rigs.service import RunningService, running_service

SIZE = (1280, 960)
SCENES = {"Just Chatting": (40, 60, 120), "Game": (20, 90, 60), "Be Right Back": (90, 30, 60)}
CONFIG = """\
capture: {{kind: video, path: {film}, fps: 30}}
model: {{name: demo}}
publish: {{outputs: [browser]}}
presets:
  - {{name: Comic, prompt: a comic book panel}}
  - {{name: Oil, prompt: an oil painting}}
  - {{name: Pencil, prompt: a pencil drawing}}
  - {{name: Neon, prompt: neon lights}}
obs:
  enabled: true
  password: {{env: OBS_PASSWORD}}
  rules:
    - {{scene: Just Chatting, preset: Oil, bank: restore}}
    - {{scene: Game*, preset: Comic, bank: restore, when: start}}
    - {{scene: Be Right Back, output: slate}}
"""
FRAMES = 300
_SEEN_S = 50.0
"""So much of the plots is filled."""


def film(path: Path) -> Path:
    """Ten seconds of a camera that moves over a cup (CC0, not among the pictures of the training) and comes back."""
    cup = cv2.cvtColor(np.asarray(data.coffee()), cv2.COLOR_RGB2BGR)  # type: ignore[no-untyped-call]
    out = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), 30, (640, 360))
    for frame in range(FRAMES):
        angle = 2 * math.pi * frame / FRAMES
        x, y = round(50 + 40 * math.sin(angle)), round(60 + 30 * math.cos(angle))
        out.write(cv2.resize(cup[y : y + 282, x : x + 502], (640, 360), interpolation=cv2.INTER_AREA))
    out.release()
    return path


def take(service: RunningService, somebody: BrowserContext, target: Path) -> None:
    """Use the panel a little, wait, and take it."""
    page = somebody.new_page()
    page.goto(service.client().get("/v1/link").json()["panel"], wait_until="domcontentloaded")
    prompt = page.get_by_role("region", name="Controls").get_by_role("textbox", name="Prompt")
    for text in ("a watercolor", "stained glass"):
        prompt.fill(text)
        prompt.press("Enter")
        expect(page.get_by_role("button", name=text)).to_be_visible()
    page.get_by_role("button", name="Oil").click()
    page.get_by_role("button", name="Show input").click()
    expect(page.get_by_role("img", name="Live input")).to_be_visible()
    time.sleep(max(0.0, _SEEN_S - service.status()["uptime_s"]))
    expect(page.locator("#state")).to_have_text("TRANSLATED")
    page.screenshot(path=target, type="jpeg", quality=90)


def main(target: Path) -> None:
    """Write the picture to ``target``."""
    with tempfile.TemporaryDirectory() as name, real_obs(SCENES) as obs:
        folder = Path(name)
        config = folder / "stream.yaml"
        config.write_text(CONFIG.format(film=film(folder / "film.mp4")), encoding="utf-8")
        secret = {"OBS_PASSWORD": PASSWORD}
        with running_service(folder / "run", config=config, environment=secret) as service, chromium() as browser:
            service.until_on_air("TRANSLATED")
            assert obs.running
            with visitor(browser, SIZE, dark=True) as somebody:
                take(service, somebody, target)
            service.stop()


if __name__ == "__main__":
    beside = Path(__file__).parents[2] / "streamv2v_obs" / "control" / "panel.jpg"
    main(Path(sys.argv[1]) if sys.argv[1:] else beside)
