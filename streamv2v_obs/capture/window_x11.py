"""A window on an X11 display, found by part of its title and followed. The only module that imports Xlib."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from Xlib import X
from Xlib.display import Display
from Xlib.error import ConnectionClosedError, DisplayError, XauthError, XError
from Xlib.protocol.event import ClientMessage

from streamv2v_obs.errors import SourceLost, SourceStalled

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TitledWindow:
    """A window that a user would call one."""

    title: str
    width: int
    height: int
    viewable: bool
    handle: Any
    program: str = ""
    """What its program calls itself."""

    @property
    def number(self) -> int:
        """By which every client of the display knows it."""
        return int(self.handle.id)


class X11Window:
    """Where the window whose title contains ``part`` is: the topmost of them, and that one for good.

    Letters' case does not matter. A later change of the title is no loss, as browsers change theirs all the time.
    Raises SourceLost where there is none, naming those there are, and when the window is closed.
    """

    def __init__(self, part: str) -> None:
        self._display = _open()
        try:
            with _lost("the windows cannot be read"):
                windows = _windows(self._display)
            matching = [w for w in windows if part.casefold() in w.title.casefold()]
            if not matching:
                titles = ", ".join(repr(w.title) for w in windows[:12]) or "none with a title"
                raise SourceLost(f"capture.window: no window's title contains {part!r}; there are: {titles}")
            found = next((w for w in matching if w.viewable), matching[0])
            if len(matching) > 1:
                log.warning("%d windows match %r; the topmost is taken: %r", len(matching), part, found.title)
        except BaseException:
            self.close()
            raise
        self._window = found.handle
        self._title = found.title

    @property
    def detail(self) -> str:
        """What is captured, in a few words for ``status``."""
        return f"window {self._title!r}"

    def rectangle(self) -> tuple[int, int, int, int]:
        """x, y, width, height of the window's content on the desktop, its frame left out.

        Raises SourceLost when the window is gone and SourceStalled while it is minimised or on another desktop.
        """
        with _lost(f"{self.detail} was closed"):
            if self._window.get_attributes().map_state != X.IsViewable:
                raise SourceStalled(f"{self.detail} is minimised or on another desktop; show it to go on")
            size = self._window.get_geometry()
            # Against the root, since a window manager puts windows into frames of its own.
            corner = size.root.translate_coords(self._window, 0, 0)
        return corner.x, corner.y, size.width, size.height

    def close(self) -> None:
        """Give the connection to the display back."""
        try:
            self._display.close()
        except (ConnectionClosedError, OSError) as error:
            log.debug("the display was gone before it was left: %s", error)


def windows() -> list[TitledWindow]:
    """The windows with a title, topmost first. Raises SourceLost where the display cannot be read."""
    display = _open()
    try:
        with _lost("the windows cannot be read"):
            return _windows(display)
    finally:
        display.close()


def arrange(number: int, width: int, height: int) -> None:
    """Give a window this size and put it on top, as far as the window manager lets; raises SourceLost."""
    with _window(number) as (_, window):
        window.configure(width=width, height=height, stack_mode=X.Above)


def ask_to_close(number: int) -> None:
    """Ask a window's program to close it, as a click on its cross does; raises SourceLost if it is gone."""
    with _window(number) as (display, window):
        delete = (32, [display.intern_atom("WM_DELETE_WINDOW"), X.CurrentTime, 0, 0, 0])
        asked = display.intern_atom("WM_PROTOCOLS")
        window.send_event(ClientMessage(window=window, client_type=asked, data=delete))


@contextmanager
def _window(number: int) -> Iterator[tuple[Any, Any]]:
    display = _open()
    try:
        with _lost(f"window {number} is gone"):
            window = display.create_resource_object("window", number)
            window.get_attributes()  # raises where there is none; what follows would fail unheard
            yield display, window
            display.sync()
    finally:
        display.close()


def _open() -> Any:
    try:
        return Display()
    # AttributeError, TypeError and AssertionError: python-xlib's answers to a server that dies during the greeting.
    except (
        DisplayError,
        XauthError,
        ConnectionClosedError,
        OSError,
        AttributeError,
        TypeError,
        AssertionError,
    ) as error:
        raise SourceLost(f"the windows of the X display cannot be read ({error})") from error


def _windows(display: Any) -> list[TitledWindow]:
    root = display.screen().root
    listed = root.get_full_property(display.intern_atom("_NET_CLIENT_LIST_STACKING"), X.AnyPropertyType)
    if listed is not None:
        handles = [display.create_resource_object("window", number) for number in reversed(listed.value)]
    else:
        handles = list(_below(root))
    found = (_titled(display, handle) for handle in handles)
    return [window for window in found if window is not None]


def _below(window: Any) -> Iterator[Any]:
    """All windows below, topmost first, each before its own children; for desktops without a window manager."""
    try:
        children = window.query_tree().children
    except XError:
        return
    for child in reversed(children):
        yield child
        yield from _below(child)


def _titled(display: Any, window: Any) -> TitledWindow | None:
    try:
        title = _title(display, window)
        if not title:
            return None
        attributes = window.get_attributes()
        viewable = attributes.map_state == X.IsViewable
        # Programs keep titled windows that are never shown; one that a window manager minimised has a WM_STATE.
        if not viewable and window.get_full_property(display.intern_atom("WM_STATE"), X.AnyPropertyType) is None:
            return None
        size = window.get_geometry()
        named = window.get_wm_class() or ("", "")
    except XError:
        # Closed between two questions.
        return None
    return TitledWindow(title, size.width, size.height, viewable, window, str(named[0]))


def _title(display: Any, window: Any) -> str:
    for name in ("_NET_WM_NAME", "WM_NAME"):
        held = window.get_full_property(display.intern_atom(name), X.AnyPropertyType)
        if held is not None and isinstance(held.value, (bytes, str)) and held.value:
            return held.value if isinstance(held.value, str) else held.value.decode("utf-8", "replace")
    return ""


@contextmanager
def _lost(what: str) -> Iterator[None]:
    """Every way in which Xlib says no becomes SourceLost."""
    try:
        yield
    except XError as error:
        raise SourceLost(what) from error
    except (ConnectionClosedError, OSError, AssertionError) as error:
        raise SourceLost(f"the display went away ({error})") from error
