"""The view of the input, for whoever looks at it in the panel: raw pictures, so none is kept, and off if unseen."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from streamv2v_obs.engine.slot import FrameSlot
from streamv2v_obs.publish.browser import BrowserSink
from streamv2v_obs.worker import Worker

log = logging.getLogger(__name__)

_PAUSE_S = 0.1
_GLANCE_S = 0.2
_UNSEEN_S = 10.0
"""Without a client for so long it is switched off."""


class InputView(Worker):
    """Shows in ``pictures`` what comes through ``slot``, while it is on.

    ``ask`` has the engine fill the slot, or leave it. Its methods may be called from any thread.
    """

    def __init__(self, slot: FrameSlot, quality: int, ask: Callable[[bool], None]) -> None:
        super().__init__("input-view")
        self.pictures = BrowserSink(quality, "view of the input")
        self._slot = slot
        self._ask = ask
        self._on = threading.Event()
        self._switching = threading.Lock()
        self._switched_on_at = 0.0  # guarded by _switching

    @property
    def on(self) -> bool:
        """Whether ``pictures`` is filled."""
        return self._on.is_set()

    def switch(self, on: bool) -> None:
        """Begin, or end; it ends by itself where nobody looks."""
        with self._switching:
            self._switch(on)

    def _switch(self, on: bool) -> None:
        if on:
            self._switched_on_at = time.monotonic()
            self._on.set()
        else:
            self._on.clear()
        self._ask(on)

    def _end_unseen(self) -> None:
        """A tab that crashed, or a phone that left the network, does not say that it looks no longer."""
        with self._switching:
            seen_at = max(self._switched_on_at, self.pictures.asked_at)
            if self.on and time.monotonic() - seen_at > _UNSEEN_S:
                log.info("nobody looks at the input: its view is off")
                self._switch(False)

    def _run(self) -> None:
        while not self._stop.is_set():
            if not self._on.wait(_GLANCE_S):
                self._slot.forget()
                self.pictures.forget()  # nothing raw is kept for later, nor shown when it is no longer so
                continue
            self._end_unseen()
            frame = self._slot.take()
            if frame is not None and not self._stop.is_set():
                self.pictures.send(frame.pixels)
            self._stop.wait(_PAUSE_S)
