"""The API over real HTTP on the loopback: a real server and real pictures; the service behind it is a fake that
remembers what it was told, because the real one needs a model."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from starlette.datastructures import URL
from starlette.requests import HTTPConnection

from streamv2v_obs.commands import Change
from streamv2v_obs.control.client import ServiceClient
from streamv2v_obs.control.endpoint import require_endpoint
from streamv2v_obs.control.server import ControlServer
from streamv2v_obs.errors import ConfigError, NotRunning
from streamv2v_obs.presets import change_to
from streamv2v_obs.settings import ControlSettings
from streamv2v_obs.stats import ServiceStatus
from tests.rigs.fake_service import FakeService


def picture(value: int = 0) -> np.ndarray[Any, np.dtype[np.uint8]]:
    return np.full((48, 64, 3), value, np.uint8)


GETS = [
    "/v1/status",
    "/v1/history",
    "/v1/log",
    "/v1/openapi.json",
    "/v1/presets",
    "/metrics",
    "/v1/presets",
    "/v1/link",
    "/v1/preview",
    "/v1/stream",
    "/v1/preview?view=input",
]
POSTS = ["/v1/preset", "/v1/prompt", "/v1/preset", "/v1/bank", "/v1/bypass", "/v1/panic", "/v1/input", "/v1/stop"]


# --- who gets in ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", [*GETS, "/v1/nothing"])
def test_reads_need_a_right(anyone: httpx.Client, path: str) -> None:
    answer = anyone.get(path)
    assert answer.status_code == 401
    assert "streamv2v-obs open" in answer.json()["error"]


@pytest.mark.parametrize("path", POSTS)
def test_writes_need_a_right(anyone: httpx.Client, server: ControlServer, service: FakeService, path: str) -> None:
    assert anyone.post(path, json={"on": True}, headers={"origin": server.address}).status_code == 401
    assert anyone.post(path, json={"on": True}, headers={"authorization": "Bearer x"}).status_code == 401
    assert anyone.post(path, json={"on": True}).status_code == 403
    assert service.told == []
    assert not service.stopped.is_set()


@pytest.mark.parametrize("value", ["Bearer", "Basic {}", "{}", "Bearer {}x", "Bearer \xe4"])
def test_only_the_whole_token_opens(anyone: httpx.Client, server: ControlServer, value: str) -> None:
    header = value.format(server.auth.token).encode("latin-1")
    assert anyone.get("/v1/status", headers=[(b"authorization", header)]).status_code == 401


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1", "127.0.0.1:1", "localhost.evil.example", ""])
@pytest.mark.parametrize("path", ["/", "/view", "/healthz", "/open", "/v1/status"])
def test_a_foreign_host_is_refused_everywhere(cli: httpx.Client, path: str, host: str) -> None:
    assert cli.get(path, headers={"host": host}).status_code == 403


@pytest.mark.parametrize("path", ["/v1/status", "/v1/link", "/v1/stream"])
def test_the_right_is_asked_for_by_the_path_that_is_routed(
    anyone: httpx.Client, server: ControlServer, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    # As starlette before 1.0.1 did for a Host with a ? or # in it.
    for seen in ("", "/metrics"):
        monkeypatch.setattr(HTTPConnection, "url", URL(f"http://127.0.0.1{seen}"))
        assert anyone.get(path).status_code == 401
        if path != "/v1/stream":
            assert anyone.get(path, params={"key": server.auth.stream_key}).status_code == 401


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "http://127.0.0.1:1", "https://127.0.0.1", ""])
def test_a_foreign_origin_may_not_write(
    cli: httpx.Client, browser: httpx.Client, service: FakeService, origin: str
) -> None:
    for client in (cli, browser):
        answer = client.post("/v1/bypass", json={"on": True}, headers={"origin": origin})
        assert answer.status_code == 403
    assert service.told == []


def test_localhost_by_any_of_its_names(cli: httpx.Client, server: ControlServer) -> None:
    port = server.auth.port
    assert cli.get("/v1/status", headers={"host": f"LOCALHOST:{port}"}).status_code == 200
    headers = {"host": f"localhost:{port}", "origin": f"http://localhost:{port}"}
    assert cli.post("/v1/panic", json={"on": False}, headers=headers).status_code == 200


def test_a_link_opens_the_panel_once(anyone: httpx.Client, server: ControlServer) -> None:
    link = server.new_link()
    ahead = anyone.get(link, headers={"sec-purpose": "prefetch;prerender"})
    assert ahead.status_code == 403
    assert anyone.head(link).status_code == 403
    answer = anyone.get(link)
    assert answer.status_code == 303
    assert answer.headers["location"] == "/"
    cookie = answer.headers["set-cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=strict" in cookie
    assert "path=/" in cookie
    assert server.auth.token not in cookie
    assert anyone.get("/v1/status").status_code == 200
    anyone.cookies.clear()
    again = anyone.get(link)
    assert again.status_code == 403
    assert "streamv2v-obs open" in again.text
    assert anyone.get("/v1/status").status_code == 401


def test_a_cookie_does_not_serve_a_page_of_another_port(browser: httpx.Client) -> None:
    assert browser.get("/v1/status").status_code == 200
    for site in ("same-site", "cross-site"):
        assert browser.get("/v1/preview", headers={"sec-fetch-site": site}).status_code == 401
        assert browser.post("/v1/panic", json={"on": True}, headers={"sec-fetch-site": site}).status_code == 401


def test_a_cookie_without_an_origin_may_not_write(browser: httpx.Client) -> None:
    request = browser.build_request("POST", "/v1/panic", json={"on": True})
    del request.headers["origin"]
    assert browser.send(request).status_code == 403


def test_the_view_only_key_shows_the_output_and_nothing_else(
    anyone: httpx.Client, server: ControlServer, service: FakeService
) -> None:
    key = {"key": server.auth.stream_key}
    service.browser.send(picture())
    assert anyone.get("/v1/preview", params=key).content[:2] == b"\xff\xd8"
    assert anyone.get("/v1/preview", params={**key, "view": "input"}).status_code == 403
    assert anyone.get("/v1/stream", params={**key, "view": "input"}).status_code == 403
    assert anyone.get("/v1/preview", params={"key": server.auth.token}).status_code == 401
    for path in ("/v1/status", "/v1/link"):
        assert anyone.get(path, params=key).status_code == 401
    headers = {"origin": server.address}
    assert anyone.post("/v1/bypass", params=key, json={"on": True}, headers=headers).status_code == 401


@pytest.mark.parametrize("path", ["/", "/view", "/app.css", "/healthz", "/open", "/v1/status", "/v1/nothing", "/x"])
def test_every_answer_carries_the_guarding_headers(cli: httpx.Client, path: str) -> None:
    headers = cli.get(path).headers
    assert "default-src 'none'" in headers["content-security-policy"]
    assert "frame-ancestors 'none'" in headers["content-security-policy"]
    assert "unsafe" not in headers["content-security-policy"]
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["cache-control"] == "no-store"
    assert "server" not in headers
    assert not [name for name in headers if name.startswith("access-control")]


def test_no_cors(cli: httpx.Client) -> None:
    headers = {"origin": "http://evil.example", "access-control-request-method": "POST"}
    answer = cli.options("/v1/panic", headers=headers)
    assert answer.status_code == 403
    assert not [name for name in answer.headers if name.startswith("access-control")]


@pytest.mark.parametrize(
    "path",
    ["/../auth.py", "/..%2fauth.py", "/panel/index.html", "/%2e%2e/auth.py", "//etc/passwd", "/app.css/../../auth.py"],
)
def test_no_path_leads_out_of_the_panel(server: ControlServer, path: str) -> None:
    port = server.auth.port
    # By hand: an HTTP client would tidy the path up first.
    with socket.create_connection(("127.0.0.1", port), timeout=5) as raw:
        raw.sendall(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\n\r\n".encode())
        answer = b""
        while data := raw.recv(4096):
            answer += data
    assert answer.startswith(b"HTTP/1.1 404")
    assert b"import" not in answer


def test_pages_load_nothing_from_elsewhere(anyone: httpx.Client) -> None:
    for path in ("/", "/view", "/app.js", "/app.css", "/view.js", "/view.css", "/icon.svg"):
        answer = anyone.get(path)
        assert answer.status_code == 200
        text = answer.text.replace("http://www.w3.org/2000/svg", "")
        assert "http://" not in text
        assert "https://" not in text
        assert "style=" not in text
        assert "innerHTML" not in text


# --- what can be asked ---------------------------------------------------------------------------------------


def test_health_says_nothing_but_that(anyone: httpx.Client) -> None:
    assert anyone.get("/healthz").json() == {"ok": True}


def test_status_is_the_service_status(cli: httpx.Client) -> None:
    found = cli.get("/v1/status").json()
    assert found["pid"] == 2
    assert found["publish"]["state"] == "HOLD"
    assert found["publish"]["content_age_ms_p50"] is None
    assert found["engine"]["scenes_stored"] == ["Chat", "Game"]


def test_links_lead_where_they_say(cli: httpx.Client, anyone: httpx.Client, service: FakeService) -> None:
    service.browser.send(picture())
    found = cli.get("/v1/link").json()
    assert anyone.get(found["view"]).status_code == 200
    assert anyone.get(found["stream"].replace("/v1/stream", "/v1/preview")).status_code == 200
    assert anyone.get(found["panel"]).status_code == 303


@pytest.mark.parametrize(
    ("body", "change"),
    [
        ({"prompt": "ein Garten, öl"}, Change(prompt="ein Garten, öl")),
        ({"prompt": ""}, Change(prompt="")),
        ({"strength": 1, "seed": 2**63 - 1}, Change(strength=1.0, seed=2**63 - 1)),
        ({"style": "ink", "bank": "reset"}, Change(style="ink", bank="reset")),
        ({"style": ""}, Change(style="")),
        ({"prompt": "p", "bank": "restore"}, Change(prompt="p", bank="restore", bank_of="Chat")),
        ({"prompt": "p", "bank": "fade", "blend_s": 2}, Change(prompt="p", bank="fade", blend_s=2.0)),
        ({"prompt": "p", "strength": None}, Change(prompt="p")),
    ],
)
def test_prompt(browser: httpx.Client, service: FakeService, body: dict[str, Any], change: Change) -> None:
    answer = browser.post("/v1/prompt", json=body)
    assert answer.status_code == 200
    assert service.told == [change]


@pytest.mark.parametrize(
    ("path", "body", "said"),
    [
        ("/v1/prompt", {"strength": 1.5}, r"strength = 1.5: .* less than or equal to 1"),
        ("/v1/prompt", {"strength": "0.5"}, "strength = '0.5': .* valid number"),
        ("/v1/prompt", {"strength": True}, "strength = True"),
        ("/v1/prompt", {"strength": 0.01}, "strength >= 0.04"),
        ("/v1/prompt", {"prompt": "x" * 1001}, "at most 1000"),
        ("/v1/prompt", {"seed": -1}, "seed = -1: .* greater than or equal to 0"),
        ("/v1/prompt", {"seed": 1.5}, "seed = 1.5"),
        ("/v1/prompt", {"prmpt": "x"}, "unknown key prmpt; allowed: prompt, strength, seed, style, bank"),
        ("/v1/prompt", {"style": "oil"}, "style = 'oil': not among model.styles; allowed: ink"),
        ("/v1/prompt", {}, "nothing to change; allowed: prompt"),
        ("/v1/prompt", {"bank": "keep"}, "nothing to change"),
        ("/v1/prompt", [], "no object; allowed keys: prompt"),
        ("/v1/preset", {"name": "x"}, "preset = 'x': there is none of that name; allowed: Comic, Ölbild, Ink"),
        ("/v1/preset", {"number": 0}, "preset = 0: there is none of that number"),
        ("/v1/preset", {"number": 4}, "preset = 4: there is none of that number"),
        ("/v1/preset", {"step": 2}, "step = 2: .* 1 or -1"),
        ("/v1/preset", {"step": True}, "step = True: .* 1 or -1"),
        ("/v1/preset", {"step": 1, "name": "Ink"}, "exactly one of name, number, step"),
        ("/v1/preset", {}, "exactly one of name, number, step"),
        ("/v1/bank", {"policy": "drop"}, "policy = 'drop': .*'keep', 'reset', 'restore' or 'fade'"),
        (
            "/v1/bank",
            {"policy": "restore", "scene": "End"},
            "scene = 'End': no bank is stored for it; stored: Chat, Game",
        ),
        ("/v1/bank", {"policy": "reset", "scene": "Chat"}, "restore only"),
        ("/v1/bank", {}, "policy is missing"),
        ("/v1/bypass", {}, "on is missing"),
        ("/v1/bypass", {"on": 1}, "on = 1: .* boolean"),
        ("/v1/panic", {"on": "off"}, "on = 'off'"),
        ("/v1/input", {"on": None}, "on = None"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(
    cli: httpx.Client, service: FakeService, path: str, body: Any, said: str
) -> None:
    answer = cli.post(path, json=body)
    assert answer.status_code == 422
    text = answer.json()["error"]
    assert "\n" not in text
    with pytest.raises(AssertionError, match=said):
        raise AssertionError(text)
    assert service.told == []


def test_bank(cli: httpx.Client, service: FakeService) -> None:
    for body in (
        {"policy": "keep"},
        {"policy": "reset"},
        {"policy": "restore"},
        {"policy": "restore", "scene": "Game"},
    ):
        assert cli.post("/v1/bank", json=body).status_code == 200
    assert service.told == [
        Change(),
        Change(bank="reset"),
        Change(bank="restore", bank_of="Chat"),
        Change(bank="restore", bank_of="Game"),
    ]


def test_presets(cli: httpx.Client, service: FakeService) -> None:
    comic, oil, ink = (change_to(preset) for preset in service.presets.all)
    found = cli.get("/v1/presets").json()
    assert [preset["name"] for preset in found["presets"]] == ["Comic", "Ölbild", "Ink"]
    assert found["presets"][0] == service.presets.all[0].model_dump()
    assert found["current"] is None
    acts: tuple[tuple[dict[str, Any], Change], ...] = (
        ({"name": "Ölbild"}, oil),
        ({"step": 1}, ink),
        ({"step": 1}, comic),
        ({"step": -1}, ink),
        ({"number": 1}, comic),
    )
    for body, change in acts:
        answer = cli.post("/v1/preset", json=body)
        assert answer.json() == {"accepted": {"preset": change.preset}}
        assert service.told.pop() == change
        assert cli.get("/v1/presets").json()["current"] == cli.get("/v1/status").json()["preset"] == change.preset
    cli.post("/v1/bank", json={"policy": "reset"})
    assert cli.get("/v1/presets").json()["current"] == "Comic", "the bank is no part of the look"
    cli.post("/v1/prompt", json={"seed": 3})
    assert cli.get("/v1/presets").json()["current"] is None
    assert cli.post("/v1/preset", json={"step": 1}).json()["accepted"]["preset"] == "Ölbild", "it goes on from there"


def test_switches(cli: httpx.Client, service: FakeService) -> None:
    for name in ("bypass", "panic", "input"):
        for on in (True, False):
            assert cli.post(f"/v1/{name}", json={"on": on}).json() == {"accepted": {"on": on}}
            assert service.told.pop() == (name, on)


def test_stop_answers_first(cli: httpx.Client, service: FakeService) -> None:
    assert cli.post("/v1/stop", json={}).status_code == 202
    assert service.stopped.wait(5)


@pytest.mark.parametrize(
    ("kind", "content", "code"),
    [
        ("text/plain", b'{"on": true}', 415),
        ("application/x-www-form-urlencoded", b"on=true", 415),
        ("multipart/form-data", b"", 415),
        ("", b'{"on": true}', 415),
        ("application/json", b"", 422),
        ("application/json", b"{", 422),
        ("application/json", b"\xff", 422),
        ("application/json", b"[" * 10_000, 422),
        ("application/json", b'{"on": true}' + b" " * 20_000, 413),
        ("Application/JSON; charset=utf-8", b'{"on": true}', 200),
    ],
)
def test_json_only_and_not_too_much(
    cli: httpx.Client, service: FakeService, kind: str, content: bytes, code: int
) -> None:
    answer = cli.post("/v1/panic", content=content, headers={"content-type": kind})
    assert answer.status_code == code
    assert (answer.status_code == 200) == bool(service.told)
    assert "\n" not in answer.json().get("error", "")


def test_a_body_without_an_end_is_cut_off(cli: httpx.Client, service: FakeService) -> None:
    def endless() -> Iterator[bytes]:
        for _ in range(100_000):
            yield b" " * 1000

    with contextlib.suppress(httpx.WriteError):
        answer = cli.post("/v1/panic", content=endless(), headers={"content-type": "application/json"})
        assert answer.status_code == 413
    assert service.told == []


@pytest.mark.parametrize(("method", "path"), [("POST", "/v1/status"), ("GET", "/v1/panic"), ("DELETE", "/v1/stream")])
def test_other_methods_are_refused(cli: httpx.Client, method: str, path: str) -> None:
    answer = cli.request(method, path)
    assert answer.status_code == 405
    assert "error" in answer.json()


def test_a_bug_is_called_one_and_tells_no_secrets(
    cli: httpx.Client, service: FakeService, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken() -> ServiceStatus:
        raise RuntimeError("inner thoughts")

    monkeypatch.setattr(service, "status", broken)
    answer = cli.get("/v1/status")
    assert answer.status_code == 500
    assert "bug" in answer.json()["error"]
    assert "inner thoughts" not in answer.text


# --- pictures ------------------------------------------------------------------------------------------------


def test_preview_is_the_newest_output(cli: httpx.Client, service: FakeService) -> None:
    service.browser.send(picture(10))
    first = cli.get("/v1/preview")
    service.browser.send(picture(200))
    second = cli.get("/v1/preview")
    assert first.headers["content-type"] == "image/jpeg"
    assert first.content[:2] == second.content[:2] == b"\xff\xd8"
    assert first.content != second.content
    assert cli.get("/v1/preview", params={"view": "else"}).status_code == 422


def test_preview_without_a_picture_says_so(cli: httpx.Client) -> None:
    answer = cli.get("/v1/preview")
    assert answer.status_code == 503
    assert "no picture yet" in answer.json()["error"]


def test_the_input_is_shown_only_while_switched_on(cli: httpx.Client, service: FakeService) -> None:
    assert service.input_view is not None
    service.input_view.send(picture())
    for path in ("/v1/preview", "/v1/stream"):
        answer = cli.get(path, params={"view": "input"})
        assert answer.status_code == 409
        assert "/v1/input" in answer.json()["error"]
    cli.post("/v1/input", json={"on": True})
    assert cli.get("/v1/preview", params={"view": "input"}).status_code == 200
    cli.post("/v1/input", json={"on": False})
    assert cli.get("/v1/preview", params={"view": "input"}).status_code == 409


def parts(answer: httpx.Response) -> Iterator[bytes]:
    """The pictures of a multipart answer, each as soon as its closing boundary is there."""
    data = b""
    for chunk in answer.iter_bytes():
        data += chunk
        *whole, data = data.split(b"--picture\r\n")
        for part in whole:
            if part:
                head, _, body = part.partition(b"\r\n\r\n")
                assert b"Content-Type: image/jpeg" in head
                yield body.removesuffix(b"\r\n")


def test_stream_shows_every_picture_at_once(cli: httpx.Client, service: FakeService) -> None:
    seen: list[bytes] = []
    with cli.stream("GET", "/v1/stream") as answer:
        assert answer.headers["content-type"] == "multipart/x-mixed-replace; boundary=picture"
        pictures = parts(answer)
        for value in (1, 80, 160, 240):
            service.browser.send(picture(value))
            seen.append(next(jpeg for jpeg in pictures if jpeg not in seen))
    assert all(jpeg.startswith(b"\xff\xd8") and jpeg.endswith(b"\xff\xd9") for jpeg in seen)


def test_a_picture_that_stays_is_sent_twice_and_no_more(cli: httpx.Client, service: FakeService) -> None:
    # Chromium shows a picture only when another one begins.
    with cli.stream("GET", "/v1/stream") as answer:
        pictures = parts(answer)
        service.browser.send(picture(1))
        assert next(pictures) == (still := next(pictures))
        threading.Timer(0.6, service.browser.send, [picture(200)]).start()
        assert next(pictures) != still


def test_a_slow_client_skips(cli: httpx.Client, server: ControlServer, service: FakeService) -> None:
    noise = np.random.default_rng(0)
    sent = 0
    request = f"GET /v1/stream?key={server.auth.stream_key} HTTP/1.1\r\nHost: 127.0.0.1:{server.auth.port}\r\n\r\n"
    raw = socket.socket()
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    raw.connect(("127.0.0.1", server.auth.port))
    with raw:
        raw.sendall(request.encode())
        until = time.monotonic() + 30
        quiet = 0
        # Whoever reads nothing makes the server stop, not fill up.
        while quiet < 20 and time.monotonic() < until:
            before = service.browser.encoded
            service.browser.send(noise.integers(0, 255, (720, 1280, 3), np.uint8))
            sent += 1
            time.sleep(0.02)
            quiet = quiet + 1 if service.browser.encoded == before else 0
        assert quiet == 20
        assert cli.get("/healthz").status_code == 200
    assert service.browser.encoded < sent


def test_too_many_streams_are_refused(cli: httpx.Client, server: ControlServer) -> None:
    with contextlib.ExitStack() as stack:
        limits = httpx.Limits(max_connections=None)
        headers = {"authorization": f"Bearer {server.auth.token}"}
        client = stack.enter_context(
            httpx.Client(base_url=server.address, trust_env=False, limits=limits, headers=headers)
        )
        codes = [stack.enter_context(client.stream("GET", "/v1/stream")).status_code for _ in range(17)]
        assert codes == [200] * 16 + [503]
        assert cli.post("/v1/panic", json={"on": True}).status_code == 200


def test_streams_that_are_asked_for_at_once_are_counted_too(cli: httpx.Client, server: ControlServer) -> None:
    """Found by a soak: a hundred that came together were all let in, and the outputs stood for 145 ms."""
    request = f"GET /v1/stream?key={server.auth.stream_key} HTTP/1.1\r\nHost: 127.0.0.1:{server.auth.port}\r\n\r\n"
    for _ in range(2):  # when they have gone, there is room again
        with contextlib.ExitStack() as stack:
            address = ("127.0.0.1", server.auth.port)
            sockets = [stack.enter_context(socket.create_connection(address, timeout=10)) for _ in range(60)]
            for one in sockets:
                one.sendall(request.encode())
            codes = [one.recv(12).partition(b" ")[2] for one in sockets]
            assert (codes.count(b"200"), codes.count(b"503")) == (16, 44)
        until = time.monotonic() + 10
        while (code := opened(cli)) != 200 and time.monotonic() < until:
            time.sleep(0.1)
        assert code == 200
        time.sleep(0.5)


def opened(cli: httpx.Client) -> int:
    with cli.stream("GET", "/v1/stream") as answer:
        return answer.status_code


# --- beginning and end ---------------------------------------------------------------------------------------


def test_a_port_in_use_is_said_before_anything_starts(server: ControlServer, service: FakeService) -> None:
    port = server.auth.port
    with pytest.raises(ConfigError, match=rf"control\.port = {port}: .*--set control\.port=0") as caught:
        ControlServer(ControlSettings(port=port), service)
    assert caught.value.exit_code == 2


def test_it_ends_within_two_seconds_with_streams_open(
    service: FakeService, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STREAMV2V_RUNTIME_DIR", str(tmp_path))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    server = ControlServer(ControlSettings(port=0), service)
    others = [thread.name for thread in threading.enumerate()].count("control")
    server.start()
    service.browser.send(np.random.default_rng(0).integers(0, 255, (1080, 1920, 3), np.uint8))
    request = f"GET /v1/stream?key={server.auth.stream_key} HTTP/1.1\r\nHost: 127.0.0.1:{server.auth.port}\r\n\r\n"
    with socket.create_connection(("127.0.0.1", server.auth.port), timeout=5) as idle:
        with socket.create_connection(("127.0.0.1", server.auth.port), timeout=5) as raw:
            raw.sendall(request.encode())
            raw.recv(100)
            began_at = time.monotonic()
            server.stop()
            server.join(5)
            assert time.monotonic() - began_at < 2
            assert [thread.name for thread in threading.enumerate()].count("control") == others
        idle.close()
    assert not (tmp_path / "service.json").exists()
    ControlServer(ControlSettings(port=server.auth.port), service).join(0)  # the port is free again


def test_the_command_line_finds_the_service(server: ControlServer, service: FakeService) -> None:
    client = ServiceClient(require_endpoint())
    assert client.get("/v1/status")["pid"] == 2
    with pytest.raises(ConfigError, match="unknown key x"):
        client.post("/v1/prompt", {"x": 1})
    assert client.post("/v1/prompt", {"prompt": "p"}) == {"accepted": {"prompt": "p"}}
    with pytest.raises(NotRunning, match="does not answer"):
        ServiceClient(require_endpoint().model_copy(update={"address": "http://127.0.0.1:9"})).get("/v1/status")


def test_errors_are_json_everywhere(cli: httpx.Client) -> None:
    for path in ("/nothing", "/v1/nothing"):
        answer = cli.get(path)
        assert answer.status_code == 404
        assert json.loads(answer.content)["error"]
