"""The capture thread: opens the source, reads it, reopens it with back-off, and lays the newest picture down."""

from __future__ import annotations

import logging
import threading
from contextlib import closing

from streamv2v_obs.capture.source import FrameSource, open_source
from streamv2v_obs.errors import EndOfSource, ObsRefused, SourceLost, SourceStalled, StreamV2VError
from streamv2v_obs.frames import Frame
from streamv2v_obs.mailbox import Mailbox
from streamv2v_obs.settings import CaptureSettings, ObsSettings, VideoCapture
from streamv2v_obs.stats import Meter
from streamv2v_obs.worker import Worker

log = logging.getLogger(__name__)

_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.5, 5.0


class Capturing(Worker):
    """Owns one source for its whole life. ``mailbox`` holds its newest picture; the loss is counted there."""

    def __init__(self, settings: CaptureSettings, obs: ObsSettings) -> None:
        super().__init__("capture")
        self.mailbox: Mailbox[Frame] = Mailbox()
        self.read = Meter()
        self._settings = settings
        self._obs = obs
        self._opened = threading.Event()
        self._error: StreamV2VError | None = None  # written by the thread
        self._refusal: StreamV2VError | None = None  # written by the thread, before _opened is set
        self._detail: str = settings.kind

    @property
    def detail(self) -> str:
        """The source in a few words, and what is the matter with it."""
        error = self._error
        return f"{self._detail} ({error})" if error is not None else self._detail

    def wait_opened(self, timeout_s: float) -> None:
        """Wait for the first attempt to open; raises the error that it ended in."""
        if self._opened.wait(timeout_s) and self._refusal is not None:
            raise self._refusal

    def _run(self) -> None:
        pause_s = _FIRST_PAUSE_S
        while not self._stop.is_set():
            source = None
            try:
                source = open_source(self._settings, self._obs)
                with closing(source):
                    self._detail, self._error = source.detail, None
                    log.info("capturing %s", source.detail)
                    self._opened.set()
                    self._read(source)
            except StreamV2VError as error:
                self._fail(error)
            except Exception as error:
                # Our bug. Without this the thread would be gone, and the source never opened again.
                text = " ".join(f"{type(error).__name__}: {error}".split())
                self._fail(SourceLost(f"capturing {self._detail} failed unexpectedly ({text})"), error)
            if isinstance(self._error, (EndOfSource, ObsRefused)):
                break  # asking again gives the same answer
            pause_s = _FIRST_PAUSE_S if source is not None else pause_s
            self._stop.wait(pause_s)
            pause_s = min(_LONGEST_PAUSE_S, pause_s * 2)

    def _fail(self, error: StreamV2VError, bug: Exception | None = None) -> None:
        if str(error) != str(self._error):
            log.warning("%s", error, exc_info=bug)
        self._error = error
        if not self._opened.is_set():
            self._refusal = error
            self._opened.set()

    def _read(self, source: FrameSource) -> None:
        every_one = isinstance(self._settings, VideoCapture) and not self._settings.realtime
        while not self._stop.is_set():
            try:
                frame = source.read()
            except SourceStalled as error:
                self._error = error
                continue
            self._error = None
            self.read.add()
            if every_one:
                while not self.mailbox.put_when_free(frame, 0.2) and not self._stop.is_set():
                    pass
            else:
                self.mailbox.put(frame)
