"""JPEG pictures for any number of browsers: one at a time, or as a stream in which slow clients skip."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from typing import Protocol

from starlette.exceptions import HTTPException
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

STREAMS = 16
_GLANCE_S = 0.25
_AGAIN_S = 0.04
_FIRST_S = 2.0
_BOUNDARY = "picture"


class Pictures(Protocol):
    """The newest JPEG of something that moves; ``publish.browser.BrowserSink`` is one."""

    async def next_jpeg(self, after: int) -> tuple[int, bytes] | None:
        """The newest picture and its number, which is above ``after``; waits for it. None once there will be none."""
        ...


class Viewers:
    """Those who look right now; at most ``STREAMS`` streams at once, all of which end with ``stopping``."""

    def __init__(self, stopping: threading.Event) -> None:
        self._stopping = stopping
        self._open = 0  # touched in the event loop's thread only

    async def newest(self, pictures: Pictures) -> bytes | None:
        """One picture; None if there is none within two seconds."""
        try:
            found = await asyncio.wait_for(pictures.next_jpeg(0), _FIRST_S)
        except asyncio.TimeoutError:
            return None
        return found[1] if found else None

    def stream(self, pictures: Pictures, headers: dict[str, str]) -> StreamingResponse:
        """A multipart response that ends with the client or the service."""
        if self._open >= STREAMS:
            raise HTTPException(503, f"{STREAMS} streams are open; close one of them")
        media_type = f"multipart/x-mixed-replace; boundary={_BOUNDARY}"
        # Counted here and not where it begins to send: a hundred that come at once would all find room.
        self._open += 1
        return _Stream(self._parts(pictures), self._close, media_type, headers)

    def _close(self) -> None:
        self._open -= 1

    async def _parts(self, pictures: Pictures) -> AsyncIterator[bytes]:
        number, part, again = 0, b"", False
        yield f"--{_BOUNDARY}\r\n".encode()
        while not self._stopping.is_set():
            try:
                found = await asyncio.wait_for(pictures.next_jpeg(number), _AGAIN_S if again else _GLANCE_S)
            except asyncio.TimeoutError:
                if not again:
                    continue
                # Chromium shows a picture when the next one begins: without this, always the one before the last.
                again = False
            else:
                if found is None:
                    return
                number, again = found[0], True
                part = _part(found[1])
            # It returns when the client has taken the bytes; whatever came meanwhile is skipped.
            yield part


class _Stream(StreamingResponse):
    """Calls ``closed`` when it ends, even if it ended before its first byte."""

    def __init__(
        self, parts: AsyncIterator[bytes], closed: Callable[[], None], media_type: str, headers: dict[str, str]
    ) -> None:
        super().__init__(parts, media_type=media_type, headers=headers)
        self._closed = closed

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._closed()


def _part(jpeg: bytes) -> bytes:
    head = f"Content-Type: image/jpeg\r\nContent-Length: {len(jpeg)}\r\n\r\n"
    return head.encode() + jpeg + f"\r\n--{_BOUNDARY}\r\n".encode()
