"""The screen as a source: a monitor, a region of the desktop, or a window. The only module that imports mss."""

from __future__ import annotations

import logging
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, Protocol

# Imported before anyone opens a window: on Windows it makes this process aware of scaled displays.
import cv2
import mss
import numpy as np
from mss.exception import ScreenShotError

from streamv2v_obs.capture.cadence import Cadence
from streamv2v_obs.errors import SourceLost, SourceStalled
from streamv2v_obs.frames import Frame, Pixels
from streamv2v_obs.settings import ScreenCapture

log = logging.getLogger(__name__)

Rectangle = tuple[int, int, int, int]
"""x, y, width, height in desktop pixels; x and y may be negative."""

RECHECK_S = 2.0
"""How often the desktop is asked whether it still has the size it had."""


class Place(Protocol):
    """Where on the desktop the picture is, now."""

    @property
    def detail(self) -> str: ...
    def rectangle(self) -> Rectangle: ...
    def close(self) -> None: ...


class ScreenSource:
    """Grabs a rectangle of the desktop at every beat; what lies over it is grabbed with it.

    Raises SourceLost with the reason and the way out: no display, a Wayland session, no such monitor or window, a
    region that is not on the desktop, a display that went away or changed its size.
    """

    def __init__(self, settings: ScreenCapture) -> None:
        self._screen = open_screen()
        try:
            self._monitors = _monitors(self._screen)
            self._desktop = self._monitors[0]
            self._place = _place(settings, self._monitors)
        except BaseException:
            _close(self._screen)
            raise
        self._cadence = Cadence(settings.fps)
        self._recheck_at = time.monotonic() + RECHECK_S
        self._clipped: Rectangle | None = None
        self._index = 0
        try:
            # A minimised window is waited for by read; a region off the desktop is told at once.
            with suppress(SourceStalled):
                self._visible()
        except BaseException:
            self.close()
            raise

    @property
    def detail(self) -> str:
        """What is captured, in a few words for ``status``."""
        return self._place.detail

    def read(self) -> Frame:
        """The rectangle as it looks now; it may change its size with the window it follows.

        Raises SourceLost, and SourceStalled while the window is minimised.
        """
        self._cadence.wait()
        self._check_desktop()
        x, y, width, height = self._visible()
        captured_at = time.monotonic()
        with _lost("the display went away while its screen was captured"):
            shot = self._screen.grab({"left": x, "top": y, "width": width, "height": height})
        # shot.size, not ours: on a Mac with a scaled display there are more pixels than points.
        pixels = _to_rgb(shot.raw, shot.height, shot.width)
        frame = Frame(pixels, captured_at, self._index)
        self._index += 1
        return frame

    def close(self) -> None:
        """Give the connections to the display back."""
        self._place.close()
        _close(self._screen)

    def _visible(self) -> Rectangle:
        """What is wanted, clipped to the desktop; mss raises, or gives black, for what lies outside."""
        wanted = self._place.rectangle()
        visible = clip(wanted, self._desktop)
        if visible is None:
            raise SourceLost(
                f"{self.detail} is off the desktop: {say(wanted)} lies wholly outside {say(self._desktop)}; "
                "move it there, or set capture.region or capture.monitor"
            )
        if visible != wanted and self._clipped != wanted:
            what = f"{say(visible)} of {say(wanted)}"
            log.warning("%s stands over the edge of the desktop: %s is captured", self.detail, what)
            self._clipped = wanted
        return visible

    def _check_desktop(self) -> None:
        # mss reads the monitors once: grabs of a desktop that shrank fail or go black, growth goes unnoticed.
        now = time.monotonic()
        if now < self._recheck_at:
            return
        self._recheck_at = now + RECHECK_S
        fresh = open_screen()
        try:
            monitors = _monitors(fresh)
        finally:
            _close(fresh)
        if monitors != self._monitors:
            raise SourceLost(f"the monitors changed; the desktop was {say(self._desktop)} and is {say(monitors[0])}")


class _Fixed:
    """A rectangle that stays where it is."""

    def __init__(self, rectangle: Rectangle, detail: str) -> None:
        self._rectangle = rectangle
        self.detail = detail

    def rectangle(self) -> Rectangle:
        return self._rectangle

    def close(self) -> None:
        pass


def monitors() -> list[Rectangle]:
    """The whole desktop, then each monitor. Raises SourceLost where the screen cannot be captured."""
    screen = open_screen()
    try:
        return _monitors(screen)
    finally:
        _close(screen)


def open_screen() -> mss.MSS:
    """A connection to the display. Raises SourceLost saying why there is none and what can be captured instead."""
    why = unavailable()
    if why is not None:
        raise SourceLost(why)
    with _lost("the screen cannot be captured"):
        return mss.MSS()


def unavailable() -> str | None:
    """Why this session's screen cannot be captured, as far as its environment tells; None if it may well be."""
    if sys.platform in ("win32", "darwin"):
        return None
    if os.environ.get("WAYLAND_DISPLAY") or os.environ.get("XDG_SESSION_TYPE") == "wayland":
        return (
            "this is a Wayland session, whose screen other programs cannot read; add the screen to OBS and set "
            "capture: {kind: obs, source: ITS NAME}, or OBS's virtual camera with capture: {kind: camera}, or log in "
            "to an X11 session; for an X server of its own beside it, unset WAYLAND_DISPLAY and XDG_SESSION_TYPE"
        )
    if not os.environ.get("DISPLAY"):
        return (
            "there is no display: DISPLAY is not set; start this from the desktop's session, set DISPLAY to an X "
            "display such as :0, or use capture: {kind: camera}, {kind: video, path: FILE} or {kind: pattern}"
        )
    return None


def clip(wanted: Rectangle, desktop: Rectangle) -> Rectangle | None:
    """What of ``wanted`` lies on the desktop; None if nothing does."""
    x, y = max(wanted[0], desktop[0]), max(wanted[1], desktop[1])
    right = min(wanted[0] + wanted[2], desktop[0] + desktop[2])
    bottom = min(wanted[1] + wanted[3], desktop[1] + desktop[3])
    return (x, y, right - x, bottom - y) if right > x and bottom > y else None


def say(rectangle: Rectangle) -> str:
    """``1280x720 at 0,0``."""
    x, y, width, height = rectangle
    return f"{width}x{height} at {x},{y}"


def _place(settings: ScreenCapture, known: list[Rectangle]) -> Place:
    if settings.window is not None:
        if sys.platform != "linux":
            raise SourceLost(
                f"capture.window ({settings.window!r}) is offered on X11 only; here use capture.region or "
                "capture.monitor, or a window capture in OBS with capture: {kind: obs, source: ITS NAME}"
            )
        from streamv2v_obs.capture.window_x11 import X11Window

        return X11Window(settings.window)
    if settings.region is not None:
        return _Fixed(settings.region, f"region {say(settings.region)}")
    if settings.monitor >= len(known):
        there = "; ".join(f"{n}: {say(known[n])}" for n in range(len(known)))
        raise SourceLost(
            f"capture.monitor {settings.monitor} does not exist; there are {there} (0 is the whole desktop)"
        )
    name = f"monitor {settings.monitor}" if settings.monitor else "desktop"
    return _Fixed(known[settings.monitor], f"{name} {say(known[settings.monitor])}")


def _monitors(screen: mss.MSS) -> list[Rectangle]:
    with _lost("the monitors cannot be read"):
        found = screen.monitors
        return [(m["left"], m["top"], m["width"], m["height"]) for m in found]


def _to_rgb(bgra: Any, height: int, width: int) -> Pixels:
    pixels: Pixels = np.asarray(
        cv2.cvtColor(np.frombuffer(bgra, np.uint8).reshape(height, width, 4), cv2.COLOR_BGRA2RGB), np.uint8
    )
    return pixels


def _close(screen: mss.MSS) -> None:
    try:
        screen.close()
    except ScreenShotError as error:
        # Its memory and descriptors have been given back by then; only the farewell to a dead server failed.
        log.debug("the display was gone before it was left: %s", error)


@contextmanager
def _lost(what: str) -> Iterator[None]:
    """Every way in which mss says no becomes SourceLost."""
    try:
        yield
    # AssertionError: what mss raises when its X server has died.
    except (ScreenShotError, AssertionError, OSError, ValueError) as error:
        lines = str(error).splitlines()
        raise SourceLost(f"{what} ({lines[0] if lines else 'no answer'}){_which_display()}") from error


def _which_display() -> str:
    name = os.environ.get("DISPLAY")
    return f"; DISPLAY is {name}" if sys.platform == "linux" and name else ""
