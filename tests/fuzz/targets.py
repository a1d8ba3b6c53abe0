"""What is fed with hostile bytes, each a function that takes any bytes and raises only where something is wrong."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import socket
import struct
import tempfile
import threading
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import SecretStr
from safetensors.numpy import save

from streamv2v_obs.capture.pattern import draw_pattern
from streamv2v_obs.capture.video import VideoSource
from streamv2v_obs.config import load_settings
from streamv2v_obs.errors import ConfigError, ModelLoadError, ObsError, SourceError
from streamv2v_obs.obs.client import open_events, open_requests
from streamv2v_obs.obs.events import parse
from streamv2v_obs.obs.wishes import wishes_of
from streamv2v_obs.presets import Presets
from streamv2v_obs.publish.recording import VideoWriter
from streamv2v_obs.settings import ObsSettings, Settings, VideoCapture
from streamv2v_obs.translator.safe_weights import check_safetensors, read_description

CONFIGS = Path(__file__).parents[2] / "configs"
DEEP = b"[" * 3000
# Ten names of ten of the one before: few bytes, and without end where somebody walks or prints all of it.
_LAUGHS = "\n".join(
    [
        "a0: &a0 [x]",
        *(f"a{n}: &a{n} [{', '.join(10 * [f'*a{n - 1}'])}]" for n in range(1, 10)),
        "translator: {prompt: *a9}",
    ]
).encode()


@dataclass(frozen=True)
class Target:
    """One reader of foreign bytes."""

    feed: Callable[[bytes], None]
    seeds: Callable[[], Sequence[bytes]]
    """Good ones, to be spoiled."""
    parsers: tuple[str, ...]
    """Files of the package whose lines are counted; behind a colon, of one function alone."""
    longest_s: float = 2.0
    """Longer than that for one input is a hang."""
    watched: int = 2000
    """Inputs of which it is noted what they reach; the rest run at their own speed, which is what is timed."""


def one_line(error: Exception, names: str = "") -> None:
    """An error of ours is one line that a person can read, whatever was in the bytes."""
    text = str(error)
    assert text, "an error that says nothing"
    assert "\n" not in text, f"an error of several lines: {text[:300]!r}"
    assert len(text) < 10_000, f"an error of {len(text)} characters: {text[:300]!r}"
    assert names in text, f"an error that does not name {names}: {text[:300]!r}"


@lru_cache(maxsize=1)
def _folder() -> Path:
    """One for all inputs of this process; on a memory file system where there is one."""
    fast = Path("/dev/shm")
    return Path(tempfile.mkdtemp(prefix="streamv2v-fuzz-", dir=fast if os.access(fast, os.W_OK) else None))


def _file(name: str, data: bytes) -> Path:
    path = _folder() / name
    path.write_bytes(data)
    return path


# --- settings files -------------------------------------------------------------------------------------------


def config(data: bytes) -> None:
    """A settings file."""
    path = _file("mine.yaml", data)
    try:
        assert isinstance(load_settings(path), Settings)
    except ConfigError as error:
        one_line(error, str(path))


def _configs() -> list[bytes]:
    return [
        *(path.read_bytes() for path in sorted(CONFIGS.glob("*.yaml"))),
        DEEP,
        b"a: &a [*a]",
        b"<<: [1]\n? {}\n: 1",
    ]


# --- what OBS says --------------------------------------------------------------------------------------------

_SETTINGS = Settings.model_validate({"presets": [{"name": "Comic", "prompt": "a comic"}]})


def event(data: bytes) -> None:
    """An event as it stands in a message of obs-websocket, and the wishes of those that are custom ones."""
    try:
        message = json.loads(data)
    except (ValueError, RecursionError):
        return
    if not isinstance(message, dict):
        return
    parse(message)
    given = message.get("eventData")
    if isinstance(given, dict):
        try:
            wishes_of(given, _SETTINGS, Presets(_SETTINGS.presets), "A", lambda: ("A",))
        except ConfigError as error:
            one_line(error)


def _events() -> list[bytes]:
    wishes = [
        {"prompt": "a lake", "strength": 0.5, "seed": 3, "bank": "fade", "blend_s": 2},
        {"preset": "Comic", "panic": True, "bypass": False},
        {"preset": 1},
        {"bank": "restore", "style": ""},
    ]
    messages: list[object] = [{"eventType": "CustomEvent", "eventData": {"streamv2v": wish}} for wish in wishes]
    for name, about in (
        ("CurrentProgramSceneChanged", {"sceneName": "A", "sceneUuid": "u"}),
        ("SceneNameChanged", {"oldSceneName": "A", "sceneName": "B", "sceneUuid": "u"}),
        ("InputSettingsChanged", {"inputName": "t", "inputSettings": {"text": "x"}}),
        ("SceneItemEnableStateChanged", {"sceneName": "A", "sceneItemId": 1, "sceneItemEnabled": True}),
        ("StudioModeStateChanged", {"studioModeEnabled": True}),
    ):
        messages.append({"eventType": name, "eventData": about})
    return [json.dumps(message).encode() for message in messages]


# --- a hostile server -----------------------------------------------------------------------------------------

_HELLO = {"op": 0, "d": {"obsWebSocketVersion": "5.4.0", "rpcVersion": 1}}
_IDENTIFIED = {"op": 2, "d": {"negotiatedRpcVersion": 1}}
_EVENT = {"op": 5, "d": {"eventType": "CustomEvent", "eventIntent": 1, "eventData": {"streamv2v": {"seed": 1}}}}
_ANSWER = {"op": 7, "d": {"requestId": 1, "requestStatus": {"code": 100, "result": True}, "responseData": {}}}


def frame(data: bytes, opcode: int = 1) -> bytes:
    """A websocket frame of a server."""
    if len(data) < 126:
        return struct.pack("BB", 0x80 | opcode, len(data)) + data
    if len(data) < 1 << 16:
        return struct.pack("!BBH", 0x80 | opcode, 126, len(data)) + data
    return struct.pack("!BBQ", 0x80 | opcode, 127, len(data)) + data


class HostileServer:
    """Lets everybody in as a websocket should, says the bytes it was given, and hangs up."""

    def __init__(self) -> None:
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._socket.getsockname()[1])
        self.says = b""
        threading.Thread(target=self._serve, name="hostile", daemon=True).start()

    def _serve(self) -> None:
        while True:
            connection, _ = self._socket.accept()
            with suppress(OSError), connection:
                connection.settimeout(1)
                asked = b""
                while b"\r\n\r\n" not in asked:
                    asked += connection.recv(4096) or b"\r\n\r\n"
                key = next(
                    (line[19:] for line in asked.split(b"\r\n") if line.lower().startswith(b"sec-websocket-key")), b""
                )
                proof = base64.b64encode(
                    hashlib.sha1(key.strip() + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11", usedforsecurity=False).digest()
                )
                connection.sendall(
                    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                    b"Sec-WebSocket-Accept: " + proof + b"\r\n\r\n" + self.says
                )
                connection.shutdown(socket.SHUT_WR)
                while connection.recv(4096):
                    pass


@lru_cache(maxsize=1)
def _server() -> HostileServer:
    return HostileServer()


def obs_server(data: bytes) -> None:
    """Bytes on the wire after the handshake of a websocket: frames, good or not, with messages, good or not."""
    server = _server()
    server.says = data
    settings = ObsSettings(enabled=True, port=server.port, password=SecretStr("secret"), timeout_s=0.5)
    try:
        with closing(open_events(settings)) as events:
            for _ in range(4):
                message = events.read(0.2)
                if message is not None:
                    parse(message)
    except ObsError as error:
        one_line(error)
    try:
        with closing(open_requests(settings)) as requests:
            requests.version()
            requests.program()
            requests.virtual_camera()
    except ObsError as error:
        one_line(error)


def _wires() -> list[bytes]:
    hello, identified, event, answer = (
        frame(json.dumps(message).encode()) for message in (_HELLO, _IDENTIFIED, _EVENT, _ANSWER)
    )
    asks = frame(
        json.dumps(_HELLO | {"d": {"authentication": {"challenge": "c", "salt": "s"}, "rpcVersion": 1}}).encode()
    )
    return [
        hello + identified + event + answer,
        asks + identified + event,
        hello + identified + frame(b"{}") + frame(b"[]") + event,
        hello + identified + frame(b"\x0f\xa9no", 8),
        hello + identified + frame(DEEP),
        hello + identified + frame(b'{"op":5,"d":' + b'{"eventType":' * 5000),
        frame(b'{"op":0,"d":{"authentication":7}}'),
        hello + b"\x81\x7f\xff\xff\xff\xff\xff\xff\xff\xff",
    ]


# --- files of a model, and a video ----------------------------------------------------------------------------


def safetensors(data: bytes) -> None:
    """A weights file."""
    try:
        check_safetensors(_file("weights.safetensors", data))
    except ModelLoadError as error:
        one_line(error)


def _weights() -> list[bytes]:
    small: dict[str, np.ndarray[Any, Any]] = {
        "a": np.arange(6, dtype=np.float32).reshape(2, 3),
        "b": np.zeros(4, np.float16),
    }
    return [
        save(small),
        save(small, {"format": "pt"}),
        struct.pack("<Q", 1 << 62) + b"{}",
        struct.pack("<Q", len(DEEP)) + DEEP,
    ]


def description(data: bytes) -> None:
    """A component's JSON description."""
    try:
        read_description(_file("config.json", data))
    except ModelLoadError as error:
        one_line(error)


def _descriptions() -> list[bytes]:
    return [b'{"_class_name": "UNet2DConditionModel", "in_channels": 4}', b'{"auto_map": {}}', b'"a"', DEEP]


def video(data: bytes) -> None:
    """A video file: it is opened, and its first pictures are read."""
    path = _file("clip.mp4", data)
    try:
        with closing(VideoSource(VideoCapture(kind="video", path=path, loop=False, realtime=False))) as source:
            for _ in range(4):
                assert source.read().pixels.ndim == 3
    except SourceError as error:
        one_line(error)


def _videos() -> list[bytes]:
    path = _folder() / "seed.mp4"
    with VideoWriter(path, 64, 64, Fraction(10)) as writer:
        for number in range(4):
            writer.write(draw_pattern(number, 64, 64))
    return [path.read_bytes()]


TARGETS: dict[str, Target] = {
    # Under a tracer, what is nested deeply takes PyYAML seconds.
    "config": Target(config, _configs, ("config.py",), watched=200),
    "event": Target(event, _events, ("obs/events.py", "obs/wishes.py")),
    "obs-server": Target(obs_server, _wires, ("obs/client.py",), longest_s=6.0),
    "safetensors": Target(safetensors, _weights, ("translator/safe_weights.py:check_safetensors",)),
    "description": Target(description, _descriptions, ("translator/safe_weights.py:read_description",)),
    "video": Target(video, _videos, ("capture/video.py",), longest_s=10.0),
}
