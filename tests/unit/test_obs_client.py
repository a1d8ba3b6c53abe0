"""The client against a scripted OBS, for what the real one cannot be made to do: wrong ids, refusals, nonsense."""

from __future__ import annotations

import json
import logging
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from pydantic import SecretStr
from websocket import WebSocket, WebSocketPayloadException
from websockets.sync.server import ServerConnection, serve

from streamv2v_obs.errors import ObsError, ObsRefused, ObsUnreachable
from streamv2v_obs.obs.client import Requests, open_events, open_requests
from streamv2v_obs.settings import ObsSettings

PASSWORD = "correct horse"
HELLO = {"op": 0, "d": {"obsWebSocketVersion": "5.1.0", "rpcVersion": 1}}
HELLO_AND_WHO = {"op": 0, "d": {"rpcVersion": 1, "authentication": {"challenge": "c", "salt": "s"}}}
IDENTIFIED = {"op": 2, "d": {"negotiatedRpcVersion": 1}}

Script = Callable[[ServerConnection], None]


@contextmanager
def scripted(script: Script) -> Iterator[ObsSettings]:
    """A server that plays ``script`` to each client, and the settings that reach it."""
    with serve(script, "127.0.0.1", 0) as server:
        thread = threading.Thread(target=server.serve_forever, name="scripted-obs")
        thread.start()
        try:
            port = server.socket.getsockname()[1]
            yield ObsSettings(enabled=True, port=port, password=SecretStr(PASSWORD), timeout_s=0.5)
        finally:
            server.shutdown()
            thread.join()


def welcome(ws: ServerConnection) -> None:
    ws.send(json.dumps(HELLO))
    ws.recv()
    ws.send(json.dumps(IDENTIFIED))


def answer(asked: dict[str, Any], data: dict[str, Any] | None = None, *, code: int = 100, **changed: Any) -> str:
    """OBS's answer to a request, with what a test changes about it."""
    reply = {
        "requestId": asked["d"]["requestId"],
        "requestType": asked["d"]["requestType"],
        "requestStatus": {"result": code == 100, "code": code},
        "responseData": data,
    }
    return json.dumps({"op": 7, "d": reply | changed})


def answering(*replies: Callable[[dict[str, Any]], str]) -> Script:
    """Welcome the client, then give one reply to each of its requests."""

    def script(ws: ServerConnection) -> None:
        welcome(ws)
        for reply in replies:
            ws.send(reply(json.loads(ws.recv())))
        for _ in ws:
            pass

    return script


def scene(name: str) -> Callable[[dict[str, Any]], str]:
    return lambda asked: answer(asked, {"currentProgramSceneName": name})


@contextmanager
def requests_to(script: Script) -> Iterator[Requests]:
    with scripted(script) as settings:
        requests = open_requests(settings)
        try:
            yield requests
        finally:
            requests.close()


def test_answers_are_given_to_their_requests() -> None:
    with requests_to(answering(scene("A"), scene("B"))) as requests:
        assert (requests.program_scene(), requests.program_scene()) == ("A", "B")


def test_the_answer_to_another_request_is_never_taken_and_ends_the_connection() -> None:
    stray = lambda asked: answer(asked, {"currentProgramSceneName": "A"}, requestId="0")  # noqa: E731
    with requests_to(answering(stray, scene("B"))) as requests:
        with pytest.raises(ObsUnreachable, match="not the answer to GetCurrentProgramScene"):
            requests.program_scene()
        with pytest.raises(ObsUnreachable, match="closed"):
            requests.program_scene()


def test_not_ready_is_asked_again() -> None:
    not_ready = lambda asked: answer(asked, code=207)  # noqa: E731
    with requests_to(answering(not_ready, not_ready, scene("A"))) as requests:
        assert requests.program_scene() == "A"


def test_a_no_is_told_with_code_and_comment_and_the_connection_goes_on() -> None:
    no = lambda asked: answer(asked, requestStatus={"result": False, "code": 600, "comment": "No such."})  # noqa: E731
    with requests_to(answering(no, scene("A"))) as requests:
        with pytest.raises(ObsError, match=r"says no to GetSourceScreenshot \(code 600\) No such\."):
            requests.screenshot("x", 64)
        assert requests.program_scene() == "A"


@pytest.mark.parametrize(
    "nonsense",
    [
        "",
        "not JSON",
        "[]",
        "{}",
        '{"op": 7}',
        '{"op": 7, "d": {}}',
        '{"op": 5, "d": {"requestId": "1"}}',
        "null",
        "[" * 3000,
    ],
)
def test_nonsense_is_unreachable_and_not_an_exception_of_ours_or_theirs(nonsense: str) -> None:
    with requests_to(answering(lambda asked: nonsense)) as requests, pytest.raises(ObsUnreachable, match="protocol"):
        requests.program_scene()


@pytest.mark.parametrize(("code", "says"), [(4009, r"obs\.password"), (4010, "RPC version"), (4011, "kicked")])
def test_refusals_by_close_code(code: int, says: str) -> None:
    def refuse_at_once(ws: ServerConnection) -> None:
        ws.send(json.dumps(HELLO_AND_WHO))
        ws.recv()
        ws.close(code, "because")

    def refuse_later(ws: ServerConnection) -> None:
        welcome(ws)
        ws.recv()
        ws.close(code, "because")

    with scripted(refuse_at_once) as settings, pytest.raises(ObsRefused, match=says):
        open_requests(settings)
    with requests_to(refuse_later) as requests, pytest.raises(ObsRefused, match=says):
        requests.program_scene()


def test_a_password_that_is_asked_for_and_not_set_is_a_refusal_that_names_the_setting() -> None:
    ask_who = lambda ws: ws.send(json.dumps(HELLO_AND_WHO))  # noqa: E731
    with scripted(ask_who) as settings, pytest.raises(ObsRefused, match=r"set obs\.password"):
        open_requests(settings.model_copy(update={"password": SecretStr("")}))


def test_another_close_code_is_worth_another_try() -> None:
    def leave(ws: ServerConnection) -> None:
        welcome(ws)
        ws.recv()
        ws.close(1001, "going away")

    with requests_to(leave) as requests, pytest.raises(ObsUnreachable, match="1001"):
        requests.program_scene()


def test_a_server_that_accepts_and_says_nothing_is_given_up() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        settings = ObsSettings(port=silent.getsockname()[1], timeout_s=0.5)
        with pytest.raises(ObsUnreachable, match=r"did not answer within 0\.5 s"):
            open_requests(settings)


def test_a_web_server_is_not_obs() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve_http() -> None:
            connection, _ = listening.accept()
            with connection:
                connection.recv(4096)
                connection.sendall(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")

        thread = threading.Thread(target=serve_http)
        thread.start()
        with pytest.raises(ObsUnreachable, match=r"is not OBS; check obs\.port"):
            open_requests(ObsSettings(port=listening.getsockname()[1], timeout_s=2))
        thread.join()


def test_nobody_there_says_what_to_switch_on() -> None:
    with socket.create_server(("127.0.0.1", 0)) as gone:
        port = gone.getsockname()[1]
    with pytest.raises(ObsUnreachable, match="enable the WebSocket server"):
        open_requests(ObsSettings(port=port))


def test_a_host_that_does_not_exist_is_unreachable() -> None:
    with pytest.raises(ObsUnreachable, match=r"nowhere\.invalid:4455"):
        open_requests(ObsSettings(host="nowhere.invalid"))


def test_an_ipv6_address_is_put_in_brackets() -> None:
    with pytest.raises(ObsUnreachable, match=r"\[::1\]:1"):
        open_requests(ObsSettings(host="::1", port=1))


def test_close_from_another_thread_wakes_a_request_that_waits() -> None:
    with scripted(answering()) as settings:
        requests = open_requests(settings.model_copy(update={"timeout_s": 30}))
        threading.Timer(0.2, requests.close).start()
        began_at = time.monotonic()
        with pytest.raises(ObsUnreachable, match="closed"):
            requests.program_scene()
        assert time.monotonic() - began_at < 5
        requests.close()


def test_events_come_whole_and_nonsense_between_them_is_logged_and_passed_over(
    caplog: pytest.LogCaptureFixture,
) -> None:
    told = {"eventType": "CurrentProgramSceneChanged", "eventIntent": 4, "eventData": {"sceneName": "Ä"}}
    done = threading.Event()

    def script(ws: ServerConnection) -> None:
        welcome(ws)
        for message in ("not JSON", "[]", '{"op": 5}', '{"op": 2, "d": {}}', b"\xff\xfe", "[" * 3000):
            ws.send(message)
        ws.send(json.dumps({"op": 5, "d": told}))
        done.wait(5)

    with scripted(script) as settings:
        events = open_events(settings)
        seen = [events.read(1.0) for _ in range(7)]
        assert seen == [None, None, None, None, None, None, told]
        assert [record.levelno for record in caplog.records] == [logging.WARNING] * 5
        assert events.read(0.01) is None
        done.set()
        with pytest.raises(ObsUnreachable):
            events.read(5)
        events.close()


def test_a_frame_that_arrives_in_two_halves_is_one_event() -> None:
    told = {"eventType": "CustomEvent", "eventIntent": 1, "eventData": {"text": "x" * 100}}
    payload = json.dumps({"op": 5, "d": told}).encode()
    frame = bytes([0x81, 126]) + len(payload).to_bytes(2, "big") + payload
    done = threading.Event()

    def script(ws: ServerConnection) -> None:
        welcome(ws)
        ws.socket.sendall(frame[:50])
        done.wait(5)
        ws.socket.sendall(frame[50:])
        for _ in ws:
            pass

    with scripted(script) as settings:
        events = open_events(settings)
        assert events.read(0.1) is None
        done.set()
        assert events.read(2.0) == told
        events.close()


def test_a_refusal_does_not_repeat_a_long_answer() -> None:
    """Found by tests.fuzz: the error of the decoder holds all that it could not decode."""
    nonsense = b"\xff" + b"x" * 60_000

    def script(ws: ServerConnection) -> None:
        welcome(ws)
        ws.recv()
        ws.send(nonsense, text=True)

    with requests_to(script) as requests, pytest.raises(ObsUnreachable, match="protocol") as caught:
        requests.program_scene()
    assert len(str(caught.value)) < 1000


def test_nor_does_a_broken_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    """Found by tests.fuzz: the websocket's own error holds all that came, too."""

    def script(ws: ServerConnection) -> None:
        welcome(ws)
        ws.recv()

    def broken(*_: object, **__: object) -> None:
        raise WebSocketPayloadException("cannot decode: " + "x" * 60_000)

    with requests_to(script) as requests:
        monkeypatch.setattr(WebSocket, "recv", broken)
        with pytest.raises(ObsUnreachable, match="failed: cannot decode") as caught:
            requests.program_scene()
    assert len(str(caught.value)) < 1000
