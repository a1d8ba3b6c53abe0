"""One thread for each place where pictures go, and which places the settings ask for."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import Literal, TypeAlias

from streamv2v_obs.errors import SinkEnded, SinkLost
from streamv2v_obs.frames import Pixels
from streamv2v_obs.mailbox import Mailbox
from streamv2v_obs.publish.browser import BrowserSink
from streamv2v_obs.publish.recording import RecordingSink
from streamv2v_obs.publish.sink import FrameSink
from streamv2v_obs.publish.virtual_camera import VirtualCamera
from streamv2v_obs.settings import PublishSettings
from streamv2v_obs.stats import OutputStatus

log = logging.getLogger(__name__)

Kind: TypeAlias = Literal["camera", "browser", "recording"]

_FIRST_WAIT_S, _LONGEST_WAIT_S = 0.5, 30.0
_HEALTHY_S = 30.0
"""A sink that lasted so long is tried again quickly when it is lost."""


class Output:
    """A sink in a thread "publish-KIND" behind a mailbox: what it cannot take in time is dropped and counted there.

    A lost sink is opened again with back-off, for ever; one that has ended (SinkEnded) is not. Nothing it does or
    fails to do reaches the publisher.
    """

    def __init__(self, kind: Kind, open_sink: Callable[[], FrameSink], *, opened: FrameSink | None = None) -> None:
        """``opened`` is the sink to begin with; from ``start`` on it belongs to the thread."""
        self.kind = kind
        self._open_sink = open_sink
        self._sink = opened  # the thread's own once it runs
        self._mailbox: Mailbox[Pixels] = Mailbox()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"publish-{kind}", daemon=True)
        self._lock = threading.Lock()
        self._status = OutputStatus(kind, opened.detail if opened else "opening", opened is not None)  # by _lock
        self._sent = 0  # written by the thread only
        self._ended = False  # written by the thread only

    def start(self) -> None:
        """Begin to show what is put."""
        self._thread.start()

    def put(self, pixels: Pixels) -> None:
        """Have ``pixels`` shown as soon as the sink can; never waits, never raises."""
        if not self._ended:
            self._mailbox.put(pixels)

    def stop(self) -> None:
        """Ask the thread to show the last picture that was put, and to end."""
        self._stopping.set()
        self._mailbox.close()

    def join(self, timeout_s: float) -> bool:
        """Whether the thread has ended within ``timeout_s``; a sink that hangs is left behind."""
        if self._thread.ident is None:
            self._let_go()
            return True
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def status(self) -> OutputStatus:
        """What it is and how it does."""
        with self._lock:
            now = self._status
        return OutputStatus(now.kind, now.detail, now.ok, self._sent, self._mailbox.overwritten)

    # --- the thread's own ------------------------------------------------------------------------------------

    def _run(self) -> None:
        wait_s = _FIRST_WAIT_S
        while not self._stopping.is_set():
            began_at = time.monotonic()
            try:
                self._show()
            except SinkEnded as error:
                log.error("output %s has ended: %s", self.kind, error)
                self._ended = True
                self._tell(str(error), ok=False)
            except SinkLost as error:
                self._complain(str(error))
            except Exception as error:
                # A sink's bug is that sink's loss; the others and the publisher go on.
                log.debug("output %s", self.kind, exc_info=True)
                self._complain(f"unexpected {type(error).__name__}: {error}")
            finally:
                self._let_go()
            if self._ended:
                return
            if time.monotonic() - began_at > _HEALTHY_S:
                wait_s = _FIRST_WAIT_S
            self._stopping.wait(wait_s)
            wait_s = min(2 * wait_s, _LONGEST_WAIT_S)

    def _show(self) -> None:
        if self._sink is None:
            self._sink = self._open_sink()
        log.info("output %s: %s", self.kind, self._sink.detail)
        self._tell(self._sink.detail, ok=True)
        while True:
            pixels = self._mailbox.take(0.5)
            if pixels is not None:
                self._sink.send(pixels)
                self._sent += 1
            elif self._stopping.is_set():
                return

    def _complain(self, text: str) -> None:
        # One line for each change: an output that cannot be opened for an hour is one line, not a thousand.
        if self.status().detail != text:
            log.warning("output %s is lost and tried again: %s", self.kind, text)
        self._tell(text, ok=False)

    def _tell(self, detail: str, *, ok: bool) -> None:
        with self._lock:
            self._status = OutputStatus(self.kind, detail, ok)

    def _let_go(self) -> None:
        sink, self._sink = self._sink, None
        if sink is None:
            return
        try:
            sink.close()
        except Exception as error:
            log.warning("output %s did not close: %s", self.kind, error)


def open_sinks(
    settings: PublishSettings,
    browser: BrowserSink,
    open_camera: Callable[[PublishSettings], FrameSink] = VirtualCamera,
) -> tuple[list[Output], list[str]]:
    """The outputs that ``settings.outputs`` name, opened but not started, and notices for the user.

    ``auto`` is the camera if one can be opened; if none can, the notice says how to get one. What is asked for by
    name has to open: else SinkLost. The browser is always among them, since the panel shows it, and costs nothing
    while nobody looks.
    """
    outputs: list[Output] = []
    notices: list[str] = []

    def camera() -> FrameSink:
        return open_camera(settings)

    def recording() -> FrameSink:
        return RecordingSink(settings)

    try:
        if "camera" in settings.outputs:
            outputs.append(Output("camera", camera, opened=camera()))
        elif "auto" in settings.outputs:
            try:
                outputs.append(Output("camera", camera, opened=camera()))
            except SinkLost as error:
                notices.append(f"Pictures go to the browser only: {error}")
                log.warning("%s", notices[-1])
        if "recording" in settings.outputs:
            outputs.append(Output("recording", recording, opened=recording()))
    except BaseException:
        for output in outputs:
            output.join(0)
        raise
    outputs.append(Output("browser", lambda: browser, opened=browser))
    return outputs, notices
