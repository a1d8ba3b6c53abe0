"""Talking to OBS over its websocket: the one place that knows obsws-python, its traps and its errors."""

from __future__ import annotations

import base64
import binascii
import itertools
import json
import logging
import re
import socket
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, NoReturn

from obsws_python import Subs
from obsws_python.baseclient import ObsClient
from obsws_python.error import OBSSDKError
from websocket import WebSocketBadStatusException, WebSocketException, WebSocketTimeoutException

from streamv2v_obs.errors import ObsError, ObsRefused, ObsUnreachable
from streamv2v_obs.settings import ObsSettings

log = logging.getLogger(__name__)

# It logs a traceback for each failure that also reaches us as an exception, one for each attempt to connect.
logging.getLogger("obsws_python").setLevel(logging.CRITICAL)

CONNECT_S = 1.5
"""Longest wait for one answer while connecting; bounds how long ``ObsListener.stop`` takes."""
NOT_READY_S = 2.0
"""How long OBS may say that it is not ready (it does for 0.2 to 0.35 s after its start)."""

_RPC_VERSION = 1
_EVENT, _REQUEST, _RESPONSE = 5, 6, 7  # opcodes
_CLOSE = 8  # opcode of a websocket frame
_NOT_READY = 207  # status of a request
_SUBSCRIPTIONS = Subs.GENERAL | Subs.CONFIG | Subs.SCENES | Subs.INPUTS | Subs.TRANSITIONS | Subs.UI | Subs.OUTPUTS
_WHERE = "in OBS: Tools > WebSocket Server Settings"
_REFUSALS = {
    4009: f"wrong password; set obs.password to the one shown {_WHERE} > Show Connect Info",
    4010: f"it does not speak RPC version {_RPC_VERSION}; update OBS to 28 or newer",
    4011: "it ended this session (someone kicked it there); restart the service to connect again",
}


@dataclass(frozen=True)
class ObsVersion:
    """What runs at the other end."""

    obs: str
    websocket: str

    def at_least(self, *wanted: int) -> bool:
        """Whether its websocket is of this version or newer; False if it says none that can be read."""
        found = re.match(r"(\d+)\.(\d+)", self.websocket)
        return found is not None and tuple(map(int, found.groups())) >= wanted

    def __str__(self) -> str:
        return f"{self.obs} (websocket {self.websocket})"


class _Closed(Exception):
    """The other side closed the connection with this code."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code = code


@dataclass(frozen=True)
class _Answer:
    ok: bool
    code: int
    comment: str
    data: Mapping[str, Any]


class _Connection:
    """One authenticated websocket. Everything it raises is an ObsError, and after any of them it is closed."""

    def __init__(self, settings: ObsSettings, subscriptions: int) -> None:
        host = f"[{settings.host}]" if ":" in settings.host else settings.host
        self._address = f"{host}:{settings.port}"
        self._closed = False
        self._socket_lock = threading.Lock()  # held while the socket is read or its descriptor given back
        password = settings.password.get_secret_value()
        # Made in two steps: if the constructor failed, its open socket would be out of our reach.
        self._client: Any = ObsClient.__new__(ObsClient)
        patience_s = min(settings.timeout_s, CONNECT_S)
        with self._mapped(patience_s):
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
    def _mapped(self, patience_s: float) -> Iterator[None]:
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
            raise ObsUnreachable(f"the connection to {at} failed: {error}") from error
        # RecursionError: JSON that is nested a thousand deep.
        if isinstance(error, (ValueError, KeyError, TypeError, AttributeError, RecursionError)):
            raise ObsUnreachable(f"{at} answered something that is not its protocol: {error!r:.200}") from error
        raise error


@contextmanager
def no_is_an_answer() -> Iterator[None]:
    """Go on after a request that OBS says no to; a connection that is lost is still raised."""
    try:
        yield
    except (ObsUnreachable, ObsRefused):
        raise
    except ObsError as error:
        log.debug("%s", error)


class Requests:
    """Asks OBS and waits for the answer. For one thread; ``close`` may come from any."""

    def __init__(self, settings: ObsSettings) -> None:
        self._timeout_s = settings.timeout_s
        self._connection = _Connection(settings, 0)
        self._numbers = itertools.count(1)

    def call(self, request: str, data: Mapping[str, Any] | None = None) -> Mapping[str, Any]:
        """The answer's data to one request, as named in the protocol of obs-websocket.

        Raises ObsError if OBS says no to this request, and goes on; ObsUnreachable or ObsRefused if the connection
        is gone, or the answer was late or another one's: then it is closed for good, so that no later request can
        be given an earlier one's answer.
        """
        ready_until = time.monotonic() + NOT_READY_S
        while True:
            answer = self._exchange(request, data or {})
            if answer.ok:
                return answer.data
            if answer.code != _NOT_READY or time.monotonic() > ready_until:
                raise ObsError(f"OBS says no to {request} (code {answer.code}) {answer.comment}".rstrip())
            time.sleep(0.05)

    def _exchange(self, request: str, data: Mapping[str, Any]) -> _Answer:
        number = str(next(self._numbers))
        asked = {"requestType": request, "requestId": number, "requestData": data}
        connection = self._connection
        with connection._mapped(self._timeout_s):
            with connection._socket_lock:
                connection._client.ws.send(json.dumps({"op": _REQUEST, "d": asked}))
                message = json.loads(connection._client.ws.recv())
            answer = message["d"]
            if message["op"] != _RESPONSE or answer["requestId"] != number:
                raise ValueError(f"not the answer to {request} number {number}")
            status = answer["requestStatus"]
            return _Answer(
                bool(status["result"]),
                int(status["code"]),
                str(status.get("comment", "")),
                answer.get("responseData") or {},
            )

    def version(self) -> ObsVersion:
        """Which OBS it is."""
        answer = self.call("GetVersion")
        return ObsVersion(str(answer.get("obsVersion")), str(answer.get("obsWebSocketVersion")))

    def program_scene(self) -> str:
        """The name of the scene that is on air; while a transition runs, mostly of the one it leads to."""
        return self.program()[0]

    def program(self) -> tuple[str, str]:
        """Name and UUID of the scene that is on air; an OBS with websocket before 5.4 has no UUIDs to tell ("")."""
        answer = self.call("GetCurrentProgramScene")
        name, uuid = answer.get("currentProgramSceneName"), answer.get("sceneUuid", "")
        if not isinstance(name, str) or not isinstance(uuid, str):
            raise ObsError("OBS answered GetCurrentProgramScene without currentProgramSceneName")
        return name, uuid

    def shown_items(self, scene: str) -> dict[int, str]:
        """The items that are switched on in ``scene``, the topmost first: their numbers and sources' names."""
        items = self.call("GetSceneItemList", {"sceneName": scene}).get("sceneItems") or []
        try:
            items = sorted((item for item in items if item["sceneItemEnabled"]), key=lambda i: -i["sceneItemIndex"])
            return {int(item["sceneItemId"]): str(item["sourceName"]) for item in items}
        except (KeyError, TypeError, ValueError) as error:
            raise ObsError(f"OBS gave items of {scene!r} that are none: {error!r}") from error

    def broadcast(self, data: Mapping[str, Any]) -> None:
        """Send ``data`` to all clients of OBS, ourselves included, as a custom event."""
        self.call("BroadcastCustomEvent", {"eventData": data})

    def virtual_camera(self) -> bool:
        """Whether OBS's own virtual camera is on; not where OBS has none."""
        try:
            return self.call("GetVirtualCamStatus").get("outputActive") is True
        except (ObsUnreachable, ObsRefused):
            raise
        except ObsError:  # 604: there is no such output
            return False

    def screenshot(self, source: str, width: int | None = None, quality: int = 90) -> bytes:
        """A JPEG of what a source or scene shows now, scaled to ``width`` pixels (none: its own size).

        The height follows from the aspect. Raises ObsError if OBS has no such source or cannot draw it, and then
        may be asked again.
        """
        asked: dict[str, Any] = {"sourceName": source, "imageFormat": "jpg", "imageCompressionQuality": quality}
        if width is not None:
            asked["imageWidth"] = width
        data_url = self._text("GetSourceScreenshot", "imageData", asked)
        try:
            return base64.b64decode(data_url.partition(",")[2], validate=True)
        except binascii.Error as error:
            raise ObsError(f"OBS gave a picture of {source!r} that is not base64: {error}") from error

    def _text(self, request: str, key: str, data: Mapping[str, Any] | None = None) -> str:
        value = self.call(request, data).get(key)
        if not isinstance(value, str):
            raise ObsError(f"OBS answered {request} without {key}")
        return value

    def close(self) -> None:
        """End it; a request that waits in another thread raises ObsUnreachable."""
        self._connection.close()


class Events:
    """What OBS tells of itself. For one thread; ``close`` may come from any.

    Read by the thread that wants them, not by obsws-python's own: that one dies silently of a malformed event or of an
    exception in a callback, and hangs for ever on a half-open connection.
    """

    def __init__(self, settings: ObsSettings) -> None:
        subscriptions = _SUBSCRIPTIONS
        # Only where they are wanted: clearing its scenes at its end, OBS tells of every item and filter.
        if settings.preset_items:
            subscriptions |= Subs.SCENEITEMS
        if settings.preset_filters:
            subscriptions |= Subs.FILTERS
        self._connection = _Connection(settings, subscriptions)

    def read(self, timeout_s: float) -> dict[str, Any] | None:
        """The next event as obs-websocket sent it; None if there was none, or one that is not JSON."""
        connection = self._connection
        with connection._mapped(timeout_s):
            try:
                with connection._socket_lock:
                    connection._client.ws.settimeout(max(timeout_s, 0.001))
                    text = connection._client.ws.recv()
            except WebSocketTimeoutException:
                return None  # what has arrived of a frame is kept by the websocket for the next time
        try:
            message = json.loads(text)
            return dict(message["d"]) if message["op"] == _EVENT else None
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            log.warning("OBS sent a message that is not its protocol, ignored: %.200r", error)
            return None

    def close(self) -> None:
        """End it; a ``read`` that waits in another thread raises ObsUnreachable."""
        self._connection.close()


def open_requests(settings: ObsSettings) -> Requests:
    """Connect and authenticate; raises ObsUnreachable or ObsRefused."""
    return Requests(settings)


def open_events(settings: ObsSettings) -> Events:
    """Connect, authenticate and subscribe; raises ObsUnreachable or ObsRefused."""
    return Events(settings)
