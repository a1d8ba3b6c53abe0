"""One websocket to OBS: the only room of obsws-python, and where its traps are guarded and its errors become ours."""

from __future__ import annotations

import logging
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, NoReturn

from obsws_python import Subs
from obsws_python.baseclient import ObsClient
from obsws_python.error import OBSSDKError
from websocket import WebSocketBadStatusException, WebSocketException, WebSocketTimeoutException

from streamv2v_obs.errors import ObsRefused, ObsUnreachable
from streamv2v_obs.settings import ObsSettings

# It logs a traceback for each failure that also reaches us as an exception, one for each attempt to connect.
logging.getLogger("obsws_python").setLevel(logging.CRITICAL)

CONNECT_S = 1.5
"""Longest wait for one answer while connecting; bounds how long ``ObsListener.stop`` takes."""
MOST_EVENTS = Subs.GENERAL | Subs.CONFIG | Subs.SCENES | Subs.INPUTS | Subs.TRANSITIONS | Subs.UI | Subs.OUTPUTS
ITEM_EVENTS, FILTER_EVENTS = Subs.SCENEITEMS, Subs.FILTERS

_RPC_VERSION = 1
_CLOSE = 8  # opcode of a websocket frame
_WHERE = "in OBS: Tools > WebSocket Server Settings"
_REFUSALS = {
    4009: f"wrong password; set obs.password to the one shown {_WHERE} > Show Connect Info",
    4010: f"it does not speak RPC version {_RPC_VERSION}; update OBS to 28 or newer",
    4011: "it ended this session (someone kicked it there); restart the service to connect again",
}


class _Closed(Exception):
    """The other side closed the connection with this code."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code = code


class Connection:
    """One authenticated websocket. What is raised in ``mapped`` is an ObsError, and after any of them it is closed."""

    def __init__(self, settings: ObsSettings, subscriptions: int) -> None:
        host = f"[{settings.host}]" if ":" in settings.host else settings.host
        self._address = f"{host}:{settings.port}"
        self._closed = False
        self._socket_lock = threading.Lock()  # held while the socket is read or its descriptor given back
        password = settings.password.get_secret_value()
        # Made in two steps: if the constructor failed, its open socket would be out of our reach.
        self._client: Any = ObsClient.__new__(ObsClient)
        patience_s = min(settings.timeout_s, CONNECT_S)
        with self.mapped(patience_s):
            # All of these always: without them it reads config.toml from somewhere, and waits without end. The real
            # password comes later, because it logs the one that it is given here.
            ObsClient.__init__(
                self._client,
                host=host,
                port=settings.port,
                password="",
                timeout=patience_s,
                subs=int(subscriptions),
            )
            # 222 instead of 45 screenshots a second: the check runs in pure Python, and decoding checks again anyway.
            self._client.ws.frame_buffer.skip_utf8_validation = True
            self._client.ws.cont_frame.skip_utf8_validation = True
            self._tell_why_closed()
            if "authentication" in self._client.server_hello["d"] and not password:
                raise ObsRefused(
                    f"OBS at {self._address} wants a password; set obs.password to the one shown {_WHERE} > "
                    "Show Connect Info"
                )
            self._client.password = password
            try:
                self._client.authenticate()
            finally:
                self._client.password = ""
            self._client.ws.settimeout(settings.timeout_s)

    def _tell_why_closed(self) -> None:
        """Make a closing frame raise _Closed; WebSocket.recv answers an empty text instead, and the code is lost."""
        receive = self._client.ws.recv_data_frame

        def receive_or_raise(control_frame: bool = False) -> Any:
            opcode, frame = receive(control_frame)
            if opcode == _CLOSE:
                code = int.from_bytes(frame.data[:2], "big")
                raise _Closed(code, bytes(frame.data[2:]).decode("utf-8", "replace"))
            return opcode, frame

        self._client.ws.recv_data_frame = receive_or_raise

    def ask(self, text: str) -> str:
        """Send ``text`` and wait for the next message. Use it in ``mapped``."""
        with self._socket_lock:
            self._client.ws.send(text)
            return str(self._client.ws.recv())

    def hear(self, timeout_s: float) -> str | None:
        """The next message; None if none has come by then. Use it in ``mapped``."""
        try:
            with self._socket_lock:
                self._client.ws.settimeout(max(timeout_s, 0.001))
                return str(self._client.ws.recv())
        except WebSocketTimeoutException:
            return None  # what has arrived of a frame is kept by the websocket for the next time

    def close(self) -> None:
        """Say goodbye and let go of the socket; wakes whoever waits for it. From any thread, any number of times."""
        self._closed = True
        ws = getattr(self._client, "ws", None)
        sock = getattr(ws, "sock", None)
        if ws is None or sock is None:
            return
        # WebSocket.close waits up to 3 s for an answer; OBS needs only the frame to leave without waiting for us.
        with suppress(OSError, WebSocketException):
            if ws.connected:
                ws.send_close()
        with suppress(OSError):
            sock.shutdown(socket.SHUT_RDWR)
        with self._socket_lock:
            ws.shutdown()

    @contextmanager
    def mapped(self, patience_s: float) -> Iterator[None]:
        """The one place where foreign errors become ours; all of them end the connection."""
        try:
            yield
        except Exception as error:
            was_closed = self._closed
            self.close()
            if was_closed:
                raise ObsUnreachable(f"the connection to OBS at {self._address} is closed") from error
            self._raise_ours(error, patience_s)

    def _raise_ours(self, error: Exception, patience_s: float) -> NoReturn:
        at = f"OBS at {self._address}"
        if isinstance(error, _Closed):
            if error.code in _REFUSALS:
                raise ObsRefused(f"{at} refused: {_REFUSALS[error.code]}") from error
            raise ObsUnreachable(f"{at} closed the connection (code {error.code}) {error}".rstrip()) from error
        if isinstance(error, (TimeoutError, WebSocketTimeoutException)):
            raise ObsUnreachable(f"{at} did not answer within {patience_s:g} s") from error
        if isinstance(error, ConnectionRefusedError):
            raise ObsUnreachable(
                f"nothing listens at {self._address}; start OBS and enable the WebSocket server ({_WHERE})"
            ) from error
        if isinstance(error, WebSocketBadStatusException):
            raise ObsUnreachable(f"what listens at {self._address} is not OBS; check obs.port") from error
        if isinstance(error, (OBSSDKError, WebSocketException, OSError)):
            raise ObsUnreachable(f"the connection to {at} failed: {error!s:.200}") from error
        # RecursionError: JSON that is nested a thousand deep.
        if isinstance(error, (ValueError, KeyError, TypeError, AttributeError, RecursionError)):
            raise ObsUnreachable(f"{at} answered something that is not its protocol: {error!r:.200}") from error
        raise error
