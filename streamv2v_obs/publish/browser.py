"""The newest picture as JPEG for any number of clients: encoded at most once, and only while somebody waits for it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import time
from collections.abc import AsyncIterator

import cv2

from streamv2v_obs.errors import SinkLost
from streamv2v_obs.frames import Pixels

log = logging.getLogger(__name__)


class BrowserSink:
    """A sink that remembers one picture. Its clients are threads (``wait_jpeg``) or coroutines (``next_jpeg``).

    There is no queue: a client that comes back late gets the newest picture and never sees those in between, and
    one that never comes back costs nothing. Pictures are numbered from 1; sending the same array again is no new
    picture. Encoding has a thread of its own, "browser-jpeg", which begins with the first client.
    """

    def __init__(self, quality: int = 85, detail: str = "panel and stream on the control port") -> None:
        self.detail = detail
        self._quality = quality
        self._changed = threading.Condition()  # guards all that follows
        self._pixels: Pixels | None = None
        self._number = 0
        self._jpeg = (0, b"")
        self._waiting = 0
        self._sleepers: set[_Sleeper] = set()
        self._encoder: threading.Thread | None = None
        self._closed = False
        self.encoded = 0
        """How many pictures were encoded so far."""
        self.asked_at = time.monotonic()
        """When a client asked for a picture last; one that does not take what it is given asks for no other."""

    def send(self, pixels: Pixels) -> None:
        """Make ``pixels`` (uint8 [H, W, 3] RGB, not to be written to any more) the newest picture; never waits."""
        with self._changed:
            if self._closed:
                raise SinkLost("the browser output is closed")
            if pixels is self._pixels:
                return
            self._pixels = pixels
            self._number += 1
            self._changed.notify_all()

    def forget(self) -> None:
        """Let go of the picture: clients wait for the next one, and none is given an old one."""
        with self._changed:
            if self._pixels is None:
                return
            self._pixels = None
            self._number += 1  # a picture that is being encoded at this moment is older than that
            self._jpeg = (0, b"")

    def close(self) -> None:
        """Wake and dismiss every client, for good."""
        with self._changed:
            self._closed = True
            self._pixels = None
            self._changed.notify_all()
            self._wake_sleepers()
            encoder = self._encoder
        if encoder is not None and encoder is not threading.current_thread():
            encoder.join(timeout=1)

    @property
    def clients_waiting(self) -> int:
        """How many clients wait for a picture at this moment."""
        with self._changed:
            return self._waiting

    def wait_jpeg(self, after: int, timeout_s: float) -> tuple[int, bytes] | None:
        """The newest picture and its number, which is above ``after``; None after ``timeout_s`` or once closed."""
        with self._changed:
            least = self._begin_to_wait(after)
            try:
                self._changed.wait_for(lambda: self._closed or self._ready(least), timeout_s)
                return self._jpeg if not self._closed and self._ready(least) else None
            finally:
                self._waiting -= 1

    async def next_jpeg(self, after: int) -> tuple[int, bytes] | None:
        """As ``wait_jpeg``, for a coroutine, without end of patience: None only once closed.

        No thread waits for it: the encoder's thread wakes the event loop.
        """
        with self._changed:
            least = self._begin_to_wait(after)
            sleeper = _Sleeper(asyncio.get_running_loop())
            self._sleepers.add(sleeper)
        try:
            while True:
                with self._changed:
                    if self._closed:
                        return None
                    if self._ready(least):
                        return self._jpeg
                    sleeper.awake.clear()
                await sleeper.awake.wait()
        finally:
            with self._changed:
                self._sleepers.discard(sleeper)
                self._waiting -= 1

    async def stream(self) -> AsyncIterator[bytes]:
        """JPEGs, each the newest when it was asked for, until the sink is closed."""
        number = 0
        while (picture := await self.next_jpeg(number)) is not None:
            number, jpeg = picture
            yield jpeg

    def _begin_to_wait(self, after: int) -> int:
        """Count the caller in; the least number that it may be given. The lock is held."""
        self._waiting += 1
        self.asked_at = time.monotonic()
        if self._encoder is None and not self._closed:
            self._encoder = threading.Thread(target=self._encode, name="browser-jpeg", daemon=True)
            self._encoder.start()
        self._changed.notify_all()
        # Not just anything above ``after``: what was encoded for the last client may be an hour old.
        return max(after + 1, self._number, 1)

    def _ready(self, least: int) -> bool:
        number, jpeg = self._jpeg
        return number >= least and jpeg != b""

    def _wanted(self) -> bool:
        return self._waiting > 0 and self._pixels is not None and self._number > self._jpeg[0]

    def _encode(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(
                    lambda: self._closed or self._wanted(),
                )
                if self._closed or self._pixels is None:
                    return
                number, pixels = self._number, self._pixels
            # Outside the lock: the publisher must never wait for an encoder.
            try:
                jpeg = encode_jpeg(pixels, self._quality)
            except SinkLost as error:
                log.warning("%s; browsers wait for the next one", error)
                jpeg = b""
            with self._changed:
                # A failed picture keeps its number, so that it is not tried again, and is given to nobody.
                self._jpeg = (number, jpeg if self._pixels is not None else b"")
                self.encoded += bool(jpeg)
                self._changed.notify_all()
                self._wake_sleepers()

    def _wake_sleepers(self) -> None:
        for sleeper in self._sleepers:
            sleeper.wake()


class _Sleeper:
    """A coroutine that waits in its event loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.awake = asyncio.Event()

    def wake(self) -> None:
        """From any thread."""
        # A loop that has ended raises this, and has no coroutine left to wake.
        with contextlib.suppress(RuntimeError):
            self.loop.call_soon_threadsafe(self.awake.set)


def encode_jpeg(pixels: Pixels, quality: int) -> bytes:
    """uint8 [H, W, 3] RGB as the bytes of a JPEG file."""
    try:
        bgr = cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR)
        done, jpeg = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, quality])
    except cv2.error as error:
        raise SinkLost(f"a picture of shape {pixels.shape} cannot be encoded as JPEG: {error.err}") from error
    if not done:
        raise SinkLost(f"a picture of shape {pixels.shape} cannot be encoded as JPEG")
    return jpeg.tobytes()
