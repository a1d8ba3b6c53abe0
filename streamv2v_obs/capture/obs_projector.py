"""A source or scene of OBS in a window of its own, captured from the X11 screen: the very pixels, without JPEG."""

from __future__ import annotations

import logging
import sys
import time
from contextlib import suppress
from dataclasses import replace

from streamv2v_obs.capture.obs_source import ObsSource
from streamv2v_obs.capture.screen import ScreenSource, unavailable
from streamv2v_obs.errors import ObsError, SourceLost
from streamv2v_obs.frames import Frame
from streamv2v_obs.settings import ObsCapture, ObsSettings, ScreenCapture
from streamv2v_obs.shape import cut_bars

log = logging.getLogger(__name__)

_APPEARS_S = 5.0
_PROGRAM = "OBS_WEBSOCKET_VIDEO_MIX_TYPE_PROGRAM"


class ObsProjector(ObsSource):
    """Has OBS open a projector of ``capture.width`` and the source's aspect, and captures that window.

    What lies over the window is captured with it. OBS has to be on the same X11 display. The websocket is used to find
    the source and to notice that OBS froze, whose window would stand there as it was. Raises SourceLost as ObsSource
    and ScreenSource do, and SourceStalled while the window is minimised.
    """

    def __init__(self, settings: ObsCapture, obs: ObsSettings) -> None:
        if sys.platform != "linux":
            raise SourceLost("capture.method: projector is offered on X11 only; allowed here: screenshot")
        if (why := unavailable()) is not None:
            raise SourceLost(f"capture.method: projector needs the screen, and {why}")
        self._screen: ScreenSource | None = None
        self._window: int | None = None
        super().__init__(settings, obs)  # says what is wrong with the source, or with OBS
        try:
            self._height, self._width, _ = self._picture().shape
            self._screen = self._opened()
        except BaseException:
            self.close()
            raise

    @property
    def detail(self) -> str:
        """What is captured, in a few words for ``status``."""
        return f"{super().detail} in its projector"

    def read(self) -> Frame:
        """What the window shows now, without the bars that another shape of it brings."""
        if self._screen is None:
            raise SourceLost("this source is closed")
        frame = self._screen.read()
        self._look_anew()
        return replace(frame, pixels=cut_bars(frame.pixels, self._width, self._height, "letterbox"))

    def close(self) -> None:
        """Close the window and the connection."""
        from streamv2v_obs.capture.window_x11 import ask_to_close

        super().close()
        if self._screen is not None:
            self._screen.close()
            self._screen = None
        if self._window is not None:
            with suppress(SourceLost):  # closed with OBS, or with its source
                ask_to_close(self._window)
            self._window = None

    def _look(self, name: str) -> None:
        if self._screen is not None:  # before there is the window, it may well be shown nowhere
            super()._look(name)

    def _look_anew(self) -> None:
        try:
            self._look_now()
        except ObsError as error:
            raise SourceLost(f"{self.detail} cannot be relied on: {error}") from error

    def _opened(self) -> ScreenSource:
        from streamv2v_obs.capture.window_x11 import arrange, windows

        known = {window.number for window in windows()}
        data = {"sourceName": self._settings.source} if self._settings.source else {"videoMixType": _PROGRAM}
        request = "OpenSourceProjector" if self._settings.source else "OpenVideoMixProjector"
        try:
            self._requests.call(request, data | {"monitorIndex": -1})
        except ObsError as error:
            raise SourceLost(f"OBS opens no projector of {self.detail}: {error}") from error
        until = time.monotonic() + _APPEARS_S
        while True:
            # Not by its title, which is in the language of OBS.
            new = [w for w in windows() if w.number not in known and w.viewable and w.program == "obs"]
            if new:
                break
            if time.monotonic() > until:
                raise SourceLost(
                    "OBS opened a projector, and no window of it is on this display; capture.method: projector needs "
                    "OBS on the same X11 display, screenshot does not"
                )
            time.sleep(0.02)
        self._window = new[0].number
        arrange(self._window, self._width, self._height)
        log.info("OBS shows it in the window %r; nothing may lie over that", new[0].title)
        return ScreenSource(ScreenCapture(kind="screen", window=new[0].title, fps=self._settings.fps))
