"""Global hotkeys of the real service: keys pressed on a real X server while no window of it has the focus."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import get_args

import pytest

from streamv2v_obs.settings import HotkeyAction
from tests.conftest import Require
from tests.rigs.service import running_service
from tests.rigs.xvfb import xvfb, xvfb_installed

pytestmark = pytest.mark.display

PRESETS = "presets=[" + ", ".join(f"{{name: P{n}, prompt: prompt {n}}}" for n in range(1, 10)) + "]"
KEYS = {
    "panic": "ctrl+alt+p",
    "panic off": "ctrl+shift+o",
    "bypass off": "f12",
    "bank reset": "ctrl+alt+Delete",
    "next": "alt+Right",
    "previous": "alt+Page_Up",
} | {f"preset {n}": f"ctrl+alt+{n}" for n in range(1, 10)}
QUIET = ("capture={kind: pattern, fps: 5}", "model.name=demo", "publish.outputs=[browser]", "translator.steps=1")


def hotkeys(keys: dict[str, str]) -> str:
    return "control.hotkeys={" + ", ".join(f"{what}: {key}" for what, key in keys.items()) + "}"


@pytest.mark.timeout(600)
def test_each_key_does_what_it_is_set_to(require: Require, tmp_path: Path) -> None:
    require("display", xvfb_installed() and shutil.which("xdotool") is not None, "install xvfb and xdotool")
    assert KEYS.keys() == set(get_args(HotkeyAction)), "a hotkey that is not tried"
    with xvfb(320, 240) as display:
        here = {"DISPLAY": display.name}

        def press(what: str) -> None:
            names = KEYS[what].replace("f12", "F12")
            subprocess.run(["xdotool", "key", names], env=display.environment(), check=True, timeout=20)

        with running_service(tmp_path / "run", *QUIET, PRESETS, hotkeys(KEYS), environment=here) as service:
            service.until(lambda: "hotkeys: " in service.said, "it listens")

            def panics() -> bool:
                press("panic")  # again and again: nothing tells when pynput has begun to listen
                return bool(service.status()["publish"]["panic"])

            service.until(panics, "panic")
            press("panic off")
            service.until(lambda: not service.status()["publish"]["panic"], "the end of it")
            for number in range(1, 10):
                press(f"preset {number}")
                service.until(lambda n=number: service.status()["preset"] == f"P{n}", f"preset {number}")  # type: ignore[misc]
            press("next")
            service.until(lambda: service.status()["preset"] == "P1", "the first after the last")
            press("previous")
            service.until(lambda: service.status()["preset"] == "P9", "the last before the first")
            service.post("bypass", on=True)
            press("bypass off")
            service.until(lambda: not service.status()["publish"]["bypass"], "the end of bypass")
            service.until_on_air("TRANSLATED", 300)
            before = service.engine()["bank_resets"]
            press("bank reset")
            service.until(lambda: service.engine()["bank_resets"] == before + 1, "an empty bank")
            subprocess.run(["xdotool", "key", "p"], env=display.environment(), check=True, timeout=20)
            assert not service.status()["publish"]["panic"]
            assert service.status()["notices"] == []

            display.kill()
            service.until(lambda: "not heard any more" in str(service.status()["notices"]), "that the display is gone")
            service.until_on_air("TRANSLATED", 60)
            assert "Traceback" not in service.said
            assert service.stop() == 0


@pytest.mark.parametrize(
    ("session", "said"),
    [
        ({"WAYLAND_DISPLAY": "wayland-0"}, "Wayland lets no program hear the keys of others; in the desktop's"),
        ({"DISPLAY": ":4711", "WAYLAND_DISPLAY": ""}, "the X11 display :4711 does not answer; start it"),
    ],
)
def test_where_no_key_can_be_heard_it_is_said_and_the_service_goes_on(
    tmp_path: Path, session: dict[str, str], said: str
) -> None:
    with running_service(tmp_path / "run", *QUIET, hotkeys({"panic": "f9"}), environment=session) as service:
        service.until(lambda: service.endpoint() is not None, "it answers")
        notices = service.status()["notices"]
        assert [notice for notice in notices if notice.startswith(f"control.hotkeys have no effect: {said}")], notices
        assert service.stop() == 0
