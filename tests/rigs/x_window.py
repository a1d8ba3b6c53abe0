"""A real window on an X display, which a test paints, moves, hides and closes."""

from __future__ import annotations

import itertools
import math
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import numpy as np
import numpy.typing as npt
from Xlib import X
from Xlib.display import Display
from Xlib.error import ConnectionClosedError

Colour = tuple[int, int, int]


class XWindow:
    """A plain window of one colour."""

    def __init__(self, display: str, title: str, x: int, y: int, width: int, height: int, colour: Colour) -> None:
        self._display: Any = Display(display)
        root = self._display.screen().root
        self._window = root.create_window(x, y, width, height, 0, X.CopyFromParent, background_pixel=_pixel(colour))
        self.rename(title)
        self.show()

    @property
    def number(self) -> int:
        """By which other clients of the display know it."""
        return int(self._window.id)

    def rename(self, title: str) -> None:
        """Give it another title, in the way of today's programs."""
        atom, text = self._display.intern_atom("_NET_WM_NAME"), self._display.intern_atom("UTF8_STRING")
        self._window.change_property(atom, text, 8, title.encode())
        self._display.sync()

    def show(self) -> None:
        """Map it on top of all others."""
        self._window.map()
        self._window.configure(stack_mode=X.Above)
        self._display.sync()

    def hide(self) -> None:
        """Unmap it, as a window manager does with a minimised one."""
        state = self._display.intern_atom("WM_STATE")
        self._window.change_property(state, state, 32, [3, 0])
        self._window.unmap()
        self._display.sync()

    def move(self, x: int, y: int) -> None:
        """To another place of the desktop."""
        self._window.configure(x=x, y=y)
        self._display.sync()

    def resize(self, width: int, height: int) -> None:
        """To another size."""
        self._window.configure(width=width, height=height)
        self._display.sync()

    def paint(self, colour: Colour) -> None:
        """All of it in another colour, at once."""
        self._window.change_attributes(background_pixel=_pixel(colour))
        self._window.clear_area(0, 0, 0, 0)
        self._display.sync()

    def show_picture(self, pixels: npt.NDArray[np.uint8]) -> None:
        """uint8 [H, W, 3] RGB as its background, from the upper left."""
        height, width, _ = pixels.shape
        pixmap, context = self._window.create_pixmap(width, height, 24), self._window.create_gc()
        bgrx = np.dstack([pixels[..., ::-1], np.zeros((height, width), np.uint8)])
        rows = max(1, 200_000 // (4 * width))  # a request has a largest size
        for top in range(0, height, rows):
            part = bgrx[top : top + rows]
            pixmap.put_image(context, 0, top, width, len(part), X.ZPixmap, 24, 0, part.tobytes())
        self._window.change_attributes(background_pixmap=pixmap)
        self._window.clear_area(0, 0, 0, 0)
        self._display.sync()

    def destroy(self) -> None:
        """Close it as a user does."""
        self._window.destroy()
        self._display.sync()

    def close(self) -> None:
        """Destroy it; no harm if its display is gone."""
        with suppress(ConnectionClosedError, OSError):
            self._display.close()


@contextmanager
def x_window(
    display: str,
    title: str,
    x: int = 100,
    y: int = 80,
    width: int = 200,
    height: int = 120,
    colour: Colour = (200, 30, 60),
) -> Iterator[XWindow]:
    """A window that is closed when the block ends."""
    window = XWindow(display, title, x, y, width, height, colour)
    try:
        yield window
    finally:
        window.close()


@contextmanager
def moving_window(display: str) -> Iterator[None]:
    """A window that goes round the screen and changes its colour all the time, so that no two pictures are alike."""
    stop = threading.Event()

    def move() -> None:
        with x_window(display, "moving", 0, 0, 260, 260, (200, 30, 60)) as window:
            for n in itertools.count():
                if stop.wait(1 / 60):
                    return
                window.move(int(190 + 180 * math.cos(n / 25)), int(190 + 180 * math.sin(n / 25)))
                window.paint((127 + int(120 * math.sin(n / 40)), 2 * n % 256, 60))

    thread = threading.Thread(target=move, name="moving-window")
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(5)


def resize_desktop(display: str, width: int, height: int) -> None:
    """As a user does in the settings, or a game that sets its own mode; Xvfb can only shrink."""
    connection: Any = Display(display)
    try:
        root = connection.screen().root
        known = root.xrandr_get_screen_resources()
        name = f"{width}x{height}"
        mode = dict.fromkeys(_MODE, 0) | {"width": width, "height": height, "name_length": len(name)}
        number = root.xrandr_create_mode(mode, name).mode
        connection.xrandr_add_output_mode(known.outputs[0], number)
        connection.xrandr_set_crtc_config(known.crtcs[0], known.config_timestamp, 0, 0, number, 1, known.outputs)
        root.xrandr_set_screen_size(width, height, width, height)
        connection.sync()
    finally:
        connection.close()


_MODE = (
    *("id", "dot_clock", "flags", "h_sync_start", "h_sync_end", "h_total", "h_skew"),
    *("v_sync_start", "v_sync_end", "v_total"),
)


def _pixel(colour: Colour) -> int:
    red, green, blue = colour
    return red << 16 | green << 8 | blue
