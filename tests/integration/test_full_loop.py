"""The whole loop once: OBS's scene, our service, a loopback device, OBS's own camera source, its screenshot."""

from __future__ import annotations

import base64
import os
from typing import Any

import cv2
import numpy as np
import pytest

from streamv2v_obs.capture.pattern import draw_pattern
from streamv2v_obs.frames import Pixels
from tests.conftest import Require
from tests.rigs.loop_guest import NEAR
from tests.rigs.obs import obs_obstacle
from tests.rigs.user_mode_guest import loop_obstacle, run_in_guest

pytestmark = [pytest.mark.loop, pytest.mark.timeout(3000)]


@pytest.fixture(scope="module")
def guest(require: Require) -> dict[str, Any]:
    """What ``tests.rigs.loop_guest`` told."""
    asked_for = "loop" in os.environ.get("STREAMV2V_REQUIRE", "").split(",")
    obstacle = obs_obstacle() or loop_obstacle(build=asked_for)
    require("loop", not obstacle, obstacle)
    found = run_in_guest("tests.rigs.loop_guest")
    errors = {name: found[name]["error"] for name in ("A", "B", "slate", "again")}
    print(
        f"OBS {found['obs']}: up after {found['obs_s']} s, first translated picture after {found['translated_s']} s,"
    )
    print(f"all after {found['all_s']} s; mean errors {errors}")
    return found


def picture(told: dict[str, Any], which: str) -> Pixels:
    """``shown`` by OBS or ``published`` by the service, uint8 [H, W, 3] RGB."""
    png = np.frombuffer(base64.b64decode(told[which]), np.uint8)
    return np.asarray(cv2.imdecode(png, cv2.IMREAD_COLOR_RGB), np.uint8)


def apart(one: Pixels, other: Pixels) -> float:
    """Mean difference in grey levels."""
    return float(np.abs(one.astype(int) - other).mean())


def tint(pixels: Pixels) -> float:
    """Blue minus red: far above zero for a blueprint, far below for a sepia photograph."""
    red, _, blue = pixels.reshape(-1, 3).mean(0)
    return float(blue - red)


def test_obs_shows_the_pictures_that_its_scene_asked_for(guest: dict[str, Any]) -> None:
    raw = draw_pattern(40, 320, 240)
    for scene in ("A", "B"):
        told = guest[scene]
        assert told["state"] == "TRANSLATED"
        assert apart(picture(told, "shown"), picture(told, "published")) < NEAR
        assert apart(picture(told, "shown"), raw) > 3 * NEAR, "translated, not passed on"
    assert tint(picture(guest["A"], "shown")) > tint(picture(guest["B"], "shown")) + 40, "blueprint and sepia"


def test_obs_shows_the_slate_while_there_is_no_engine_and_pictures_again_after(guest: dict[str, Any]) -> None:
    slate, again = guest["slate"], guest["again"]
    assert (slate["state"], again["state"]) == ("SLATE", "TRANSLATED")
    assert apart(picture(slate, "shown"), picture(slate, "published")) < NEAR
    assert apart(picture(slate, "shown"), picture(guest["B"], "shown")) > 3 * NEAR
    assert apart(picture(again, "shown"), picture(again, "published")) < NEAR
    assert apart(picture(again, "shown"), picture(guest["B"], "shown")) < 3 * NEAR
    assert guest["service_ended_with"] == 0
