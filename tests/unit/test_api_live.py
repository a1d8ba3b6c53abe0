"""The WebSocket of the API, over a real one."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import httpx
import numpy as np
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from streamv2v_obs.control.live import SOCKETS
from streamv2v_obs.control.server import ControlServer
from streamv2v_obs.settings import ControlSettings
from tests.rigs.fake_service import FakeService


@contextlib.contextmanager
def events(server: ControlServer, query: str = "", **headers: str) -> Iterator[ClientConnection]:
    address = server.address.replace("http", "ws") + "/v1/events" + query
    with connect(address, additional_headers=headers, open_timeout=10, proxy=None) as socket:
        yield socket


def token(server: ControlServer) -> dict[str, str]:
    return {"Authorization": f"Bearer {server.auth.token}"}


def refused(server: ControlServer, **headers: str) -> int:
    with pytest.raises(InvalidStatus) as error, events(server, **headers):
        pass
    return error.value.response.status_code


def test_the_status_comes_by_itself(server: ControlServer, service: FakeService) -> None:
    with events(server, **token(server)) as socket:
        assert json.loads(socket.recv(10))["publish"]["state"] == "HOLD"
        service.publish = replace(service.publish, state="SLATE")
        for _ in range(100):
            if json.loads(socket.recv(10))["publish"]["state"] == "SLATE":
                return
    pytest.fail("the change was never told")


def test_the_picture_comes_to_whoever_asks(server: ControlServer, service: FakeService) -> None:
    with events(server, "?preview=output", **token(server)) as socket:
        for value in (10, 200):
            service.browser.send(np.full((48, 64, 3), value, np.uint8))
            until = time.monotonic() + 10
            while not isinstance(message := socket.recv(10), bytes):
                assert time.monotonic() < until
            assert message[:2] == b"\xff\xd8"


def test_without_a_right_there_is_nothing_to_hear(server: ControlServer, caplog: pytest.LogCaptureFixture) -> None:
    assert refused(server) == 403
    assert refused(server, Origin=server.address) == 401
    assert refused(server, Authorization="Bearer x") == 401
    assert refused(server, Authorization=f"Bearer {server.auth.stream_key}") == 401
    assert refused(server, Cookie=f"{server.auth.cookie}=x", Origin=server.address) == 401
    assert [record.getMessage() for record in caplog.records if record.levelname == "ERROR"] == []


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "http://127.0.0.1:1", "https://127.0.0.1"])
def test_a_page_of_elsewhere_hears_nothing(server: ControlServer, browser: httpx.Client, origin: str) -> None:
    cookie = f"{server.auth.cookie}={browser.cookies[server.auth.cookie]}"
    with events(server, Cookie=cookie, Origin=server.address) as socket:
        assert socket.recv(10)
    assert refused(server, Cookie=cookie, Origin=origin) == 403
    assert refused(server, Cookie=cookie) == 403
    assert refused(server, **token(server), Origin=origin) == 403


def test_a_foreign_host_hears_nothing(cli: httpx.Client) -> None:
    upgrade = {"connection": "upgrade", "upgrade": "websocket", "sec-websocket-version": "13"}
    key = {"sec-websocket-key": "dGhlIHNhbXBsZSBub25jZQ=="}
    assert cli.get("/v1/events", headers={**upgrade, **key, "host": "evil.example"}).status_code == 403


@pytest.mark.parametrize("said", ["hello", b"x" * 100_000])
def test_who_talks_is_shown_the_door(server: ControlServer, said: str | bytes) -> None:
    with events(server, **token(server)) as socket:
        socket.send(said)
        with contextlib.suppress(ConnectionClosed):
            for _ in range(100):
                socket.recv(10)
            pytest.fail("it goes on")
    with events(server, **token(server)) as socket:
        assert socket.recv(10)


def test_a_phone_in_the_network_needs_the_flag_an_address_in_digits_and_a_link(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STREAMV2V_RUNTIME_DIR", str(tmp_path))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    server = ControlServer(ControlSettings(host="0.0.0.0", lan=True, port=0), FakeService())  # noqa: S104
    server.start()
    try:
        host = f"192.0.2.7:{server.auth.port}"
        headers = {"host": host, "origin": f"http://{host}"}
        with httpx.Client(base_url=server.address, trust_env=False, headers=headers) as phone:
            assert phone.get("/v1/status").status_code == 401
            key = server.auth.new_link_key()
            session = phone.get("/open", params={"key": key}).cookies[server.auth.cookie]
            cookie = {"cookie": f"{server.auth.cookie}={session}"}
            assert phone.post("/v1/panic", json={"on": True}, headers=cookie).status_code == 200
            for other in ({"origin": "http://evil.example"}, {"host": "evil.example"}, {"host": "192.0.2.7:1"}):
                assert phone.post("/v1/panic", json={"on": True}, headers=cookie | other).status_code == 403
    finally:
        server.stop()
        server.join(5)


def test_a_query_that_is_not_known_is_refused(server: ControlServer) -> None:
    with pytest.raises(InvalidStatus), events(server, "?preview=input", **token(server)):
        pass


def test_not_for_ever_more_sockets(server: ControlServer) -> None:
    with contextlib.ExitStack() as stack:
        for _ in range(SOCKETS):
            assert stack.enter_context(events(server, **token(server))).recv(10)
        with events(server, **token(server)) as one_more, pytest.raises(ConnectionClosed, match="are open"):
            one_more.recv(10)
