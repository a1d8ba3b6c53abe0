"""What is asked of OBS and what it tells, over ``connection``."""

from __future__ import annotations

import base64
import binascii
import itertools
import json
import logging
import re
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from streamv2v_obs.errors import ObsError, ObsRefused, ObsUnreachable
from streamv2v_obs.obs.connection import FILTER_EVENTS, ITEM_EVENTS, MOST_EVENTS, Connection
from streamv2v_obs.settings import ObsSettings

log = logging.getLogger(__name__)

NOT_READY_S = 2.0
"""How long OBS may say that it is not ready (it does for 0.2 to 0.35 s after its start)."""

_EVENT, _REQUEST, _RESPONSE = 5, 6, 7  # opcodes
_NOT_READY = 207  # status of a request


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


@dataclass(frozen=True)
class _Answer:
    ok: bool
    code: int
    comment: str
    data: Mapping[str, Any]


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
        self._connection = Connection(settings, 0)
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
        with self._connection.mapped(self._timeout_s):
            message = json.loads(self._connection.ask(json.dumps({"op": _REQUEST, "d": asked})))
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
        subscriptions = MOST_EVENTS
        # Only where they are wanted: clearing its scenes at its end, OBS tells of every item and filter.
        if settings.preset_items:
            subscriptions |= ITEM_EVENTS
        if settings.preset_filters:
            subscriptions |= FILTER_EVENTS
        self._connection = Connection(settings, subscriptions)

    def read(self, timeout_s: float) -> dict[str, Any] | None:
        """The next event as obs-websocket sent it; None if there was none, or one that is not JSON."""
        with self._connection.mapped(timeout_s):
            text = self._connection.hear(timeout_s)
        if text is None:
            return None
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
