"""A source or scene of OBS as a source of ours: screenshots over its websocket."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager

import cv2
import numpy as np

from streamv2v_obs.capture.cadence import Cadence
from streamv2v_obs.errors import ObsError, ObsRefused, ObsUnreachable, SourceLost
from streamv2v_obs.frames import Frame, Pixels
from streamv2v_obs.obs.client import open_requests
from streamv2v_obs.settings import ObsCapture, ObsSettings

log = logging.getLogger(__name__)

_LOOK_S = 1.0
"""From one look at whether the source is shown in OBS to the next."""


class ObsSource:
    """Asks OBS for the picture at every beat, over a connection of its own; the aspect is OBS's.

    Raises SourceLost where OBS is not there, has no such source (any more) or cannot draw it, and ObsRefused where it
    wants another password. A source that OBS does not show anywhere is captured all the same, and said to be hidden
    once: those of some kinds stand still then.
    """

    def __init__(self, settings: ObsCapture, obs: ObsSettings) -> None:
        self._settings = settings
        with _lost():
            self._requests = open_requests(obs)
        self._cadence = Cadence(settings.fps)
        self._index = 0
        self._shown = True
        self._looked_at = -_LOOK_S
        try:
            self._picture()
        except BaseException:
            self.close()
            raise

    @property
    def detail(self) -> str:
        """What is captured, in a few words for ``status``."""
        if not self._settings.source:
            return "OBS program scene"
        return f"OBS source {self._settings.source!r}{'' if self._shown else ' (hidden in OBS)'}"

    def read(self) -> Frame:
        """What OBS shows there now."""
        self._cadence.wait()
        # Before the request: what OBS draws for it is not older than that.
        captured_at = time.monotonic()
        frame = Frame(self._picture(), captured_at, self._index)
        self._index += 1
        return frame

    def close(self) -> None:
        """Give the connection back."""
        self._requests.close()

    def _picture(self) -> Pixels:
        with _lost():
            # Asked anew each time: the program scene changes, and a request takes well under a millisecond.
            name = self._settings.source or self._requests.program_scene()
            try:
                jpeg = self._requests.screenshot(name, self._settings.width)
            except (ObsUnreachable, ObsRefused):
                raise
            except ObsError as error:
                raise SourceLost(self._why_none(name, error)) from error
            self._look(name)
        return self._decoded(name, jpeg)

    def _decoded(self, name: str, jpeg: bytes) -> Pixels:
        decoded = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR) if jpeg else None
        if decoded is None:
            raise SourceLost(f"OBS gave a picture of {name!r} that cannot be decoded ({len(jpeg)} bytes)")
        pixels: Pixels = np.asarray(cv2.cvtColor(decoded, cv2.COLOR_BGR2RGB), np.uint8)
        return pixels

    def _look_now(self) -> None:
        """Look without taking a picture; raises ObsError where there is nothing to look at."""
        if time.monotonic() - self._looked_at >= _LOOK_S:
            self._look(self._settings.source or self._requests.program_scene())

    def _look(self, name: str) -> None:
        """Note now and then whether OBS shows the source, on air or in a window, and say what has changed."""
        if time.monotonic() - self._looked_at < _LOOK_S:
            return
        self._looked_at = time.monotonic()
        shown = bool(self._requests.call("GetSourceActive", {"sourceName": name}).get("videoShowing", True))
        if shown != self._shown and self._settings.source:
            self._shown = shown
            if shown:
                log.info("OBS shows source %r again", name)
            else:
                log.warning(
                    "OBS does not show source %r now (hidden, or in no scene on air); it may stand still", name
                )

    def _why_none(self, name: str, error: ObsError) -> str:
        there = self._names()
        if name in there:
            return f"OBS cannot draw {name!r} now: it has no size, as sources have that show nothing yet ({error})"
        listed = ", ".join(repr(other) for other in there) or "none"
        return (
            f"OBS gives no picture of {name!r}: was it renamed or removed? capture.source is its name in OBS, "
            f"which has {listed}"
        )

    def _names(self) -> list[str]:
        """Of all sources and scenes in OBS."""
        scenes = self._requests.call("GetSceneList").get("scenes", [])
        inputs = self._requests.call("GetInputList").get("inputs", [])
        return sorted([str(one.get("sceneName")) for one in scenes] + [str(one.get("inputName")) for one in inputs])


@contextmanager
def _lost() -> Iterator[None]:
    """OBS that is not there is a source that is lost: to be opened anew, with back-off."""
    try:
        yield
    except ObsUnreachable as error:
        raise SourceLost(str(error)) from error
