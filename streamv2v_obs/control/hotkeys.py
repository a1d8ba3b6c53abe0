"""Global hotkeys: keys that steer the service whatever window is in front, heard through pynput, which is an extra."""

from __future__ import annotations

import importlib
import importlib.util
import logging
import os
import sys
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from streamv2v_obs.commands import Change
from streamv2v_obs.errors import ConfigError
from streamv2v_obs.presets import Presets
from streamv2v_obs.settings import HotkeyAction

log = logging.getLogger(__name__)

_INSTALL = "pip install 'streamv2v-obs[hotkeys]'"
_INSTEAD = "streamv2v-obs panic on"
_SESSION = "start it in a desktop session"


class Steered(Protocol):
    """What keys need of the service. Every method returns at once: Windows takes a slow listener's keys away."""

    @property
    def presets(self) -> Presets: ...
    def apply(self, change: Change) -> None: ...
    def set_bypass(self, on: bool) -> None: ...
    def set_panic(self, on: bool) -> None: ...


def obstacle() -> tuple[str, str]:
    """Why no keys can be heard here, and what to do about it; two empty texts where they can, as far as it shows."""
    if importlib.util.find_spec("pynput") is None:
        return "pynput is not installed", _INSTALL
    if sys.platform == "linux":
        # Through XWayland pynput would start, and hear what is typed into X11 windows only.
        if os.environ.get("WAYLAND_DISPLAY") or os.environ.get("XDG_SESSION_TYPE") == "wayland":
            said = "Wayland lets no program hear the keys of others"
            return said, f"in the desktop's keyboard settings, bind keys to commands such as: {_INSTEAD}"
        if not os.environ.get("DISPLAY"):
            return "there is no X11 display whose keys could be heard (DISPLAY is not set)", _SESSION
        try:
            importlib.import_module("pynput.keyboard")  # connects to it
        except ImportError:
            return f"the X11 display {os.environ['DISPLAY']} does not answer", _SESSION
    return "", ""


class Hotkeys:
    """Listens in a thread "hotkeys" of pynput's while started. ``bindings``: what is done -> its keys, as set.

    Where no keys can be heard the service goes on without, and ``notice`` says so.
    """

    def __init__(self, bindings: Mapping[HotkeyAction, str], service: Steered) -> None:
        self._bindings = bindings
        self._service = service
        self._listener: Any = None
        self._notice = ""

    @property
    def notice(self) -> str:
        """Why keys have no effect; empty while they have, and where none are set."""
        if self._listener is not None and not self._listener.is_alive():
            return "control.hotkeys: they are not heard any more, since the display is gone; start the service anew"
        return self._notice

    def start(self) -> None:
        """Listen, if any keys are set and it is possible here."""
        if not self._bindings:
            return
        why, fix = obstacle()
        if why:
            self._give_up(f"{why}; {fix}")
            return
        try:
            from pynput import keyboard

            listener = keyboard.GlobalHotKeys({_spelt(keys): self._act(what) for what, keys in self._bindings.items()})
        except Exception as error:  # whatever a system that this was not tried on has against it
            self._give_up(f"pynput cannot listen here: {' '.join(str(error).split())[:200]}")
            return
        if getattr(listener, "IS_TRUSTED", True) is False:  # known on macOS only
            self._notice = (
                "control.hotkeys: macOS keeps the keys from it; allow it in System Settings, Privacy & Security, "
                "Input Monitoring and Accessibility"
            )
        listen = listener.run

        def run() -> None:
            try:
                listen()
            except Exception as error:
                log.warning("hotkeys: no key is heard any more: %s", " ".join(str(error).split())[:200])

        listener.name, listener.run = "hotkeys", run
        self._listener = listener
        listener.start()
        log.info("hotkeys: %s", ", ".join(f"{keys} {what}" for what, keys in self._bindings.items()))

    def stop(self) -> None:
        """Listen no longer."""
        listener, self._listener = self._listener, None
        if listener is not None and listener.is_alive():
            listener.stop()

    def _give_up(self, why: str) -> None:
        self._notice = f"control.hotkeys have no effect: {why}"
        log.warning("%s", self._notice)

    def _act(self, what: str) -> Callable[[], None]:
        def act() -> None:
            log.info("hotkey: %s", what)
            try:
                self._do(what)
            except ConfigError as error:
                log.warning("hotkey: %s", error)
            except Exception:  # it would end the listener, and no key would be heard any more
                log.exception("hotkey: %s", what)

        return act

    def _do(self, what: str) -> None:
        service = self._service
        match what.split():
            case ["panic"]:
                service.set_panic(True)
            case ["panic", "off"]:
                service.set_panic(False)
            case ["bypass", "off"]:
                service.set_bypass(False)
            case ["bank", "reset"]:
                service.apply(Change(bank="reset"))
            case ["preset", which] | [which]:
                service.apply(service.presets.called(which))


def _spelt(keys: str) -> str:
    """ctrl+alt+p as pynput writes it: <ctrl>+<alt>+p."""
    return "+".join(part if len(part) == 1 else f"<{part}>" for part in keys.split("+"))
