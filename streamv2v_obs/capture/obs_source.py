"""A source or scene of OBS as a source of ours: screenshots over its websocket."""

from __future__ import annotations

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


class ObsSource:
    """Asks OBS for the picture at every beat, over a connection of its own; the aspect is OBS's.

    Raises SourceLost where OBS is not there, has no such source (any more) or cannot draw it, and ObsRefused where it
    wants another password.
    """

    def __init__(self, settings: ObsCapture, obs: ObsSettings) -> None:
        self._settings = settings
        with _lost():
            self._requests = open_requests(obs)
        self._cadence = Cadence(settings.fps)
        self._index = 0
        try:
            self._picture()
        except BaseException:
            self.close()
            raise

    @property
    def detail(self) -> str:
        """What is captured, in a few words for ``status``."""
        return f"OBS source {self._settings.source!r}" if self._settings.source else "OBS program scene"

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
                raise SourceLost(
                    f"OBS gives no picture of {name!r}: was it renamed or removed, or is it without size? "
                    f"capture.source is its name in OBS ({error})"
                ) from error
        decoded = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR) if jpeg else None
        if decoded is None:
            raise SourceLost(f"OBS gave a picture of {name!r} that cannot be decoded ({len(jpeg)} bytes)")
        pixels: Pixels = np.asarray(cv2.cvtColor(decoded, cv2.COLOR_BGR2RGB), np.uint8)
        return pixels


@contextmanager
def _lost() -> Iterator[None]:
    """OBS that is not there is a source that is lost: to be opened anew, with back-off."""
    try:
        yield
    except ObsUnreachable as error:
        raise SourceLost(str(error)) from error
