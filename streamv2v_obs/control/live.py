"""The WebSocket of the API: the status twice a second, and the picture beside it for whoever asks."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable

from starlette.concurrency import run_in_threadpool
from starlette.websockets import WebSocket, WebSocketDisconnect

from streamv2v_obs.control.pictures import Pictures

PERIOD_S = 0.5
SOCKETS = 16
_GLANCE_S = 0.25
_GOING_AWAY, _POLICY, _AGAIN_LATER = 1001, 1008, 1013


class Live:
    """All open sockets, at most ``SOCKETS`` at once; they end with ``stopping``."""

    def __init__(self, status: Callable[[], bytes], output: Callable[[], Pictures], stopping: threading.Event) -> None:
        self._status = status
        self._output = output
        self._stopping = stopping
        self._open = 0  # touched in the event loop's thread only

    async def events(self, socket: WebSocket) -> None:
        """Serve one client until it leaves. It has nothing to say: a message from it ends the connection."""
        preview = socket.query_params.get("preview", "")
        if preview not in ("", "output"):
            await socket.close(_POLICY, "preview: allowed: output")
            return
        await socket.accept()
        if self._open >= SOCKETS:
            await socket.close(_AGAIN_LATER, f"{SOCKETS} sockets are open; close one of them")
            return
        self._open += 1
        sending = asyncio.Lock()
        tasks = [asyncio.create_task(self._tell(socket, sending)), asyncio.create_task(self._hear(socket))]
        if preview:
            tasks.append(asyncio.create_task(self._show(socket, sending)))
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._open -= 1
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            with contextlib.suppress(RuntimeError, WebSocketDisconnect):  # it has left already
                await socket.close(_GOING_AWAY if self._stopping.is_set() else _POLICY)

    async def _tell(self, socket: WebSocket, sending: asyncio.Lock) -> None:
        passed_s = PERIOD_S
        while not self._stopping.is_set():
            if passed_s >= PERIOD_S:
                text = (await run_in_threadpool(self._status)).decode()
                async with sending:
                    await socket.send_text(text)
                passed_s = 0.0
            await asyncio.sleep(_GLANCE_S)
            passed_s += _GLANCE_S

    async def _show(self, socket: WebSocket, sending: asyncio.Lock) -> None:
        number = 0
        while (found := await self._output().next_jpeg(number)) is not None:
            number = found[0]
            async with sending:  # it returns when the client has taken the bytes; what came meanwhile is skipped
                await socket.send_bytes(found[1])

    async def _hear(self, socket: WebSocket) -> None:
        await socket.receive()
