"""A planted secret is nowhere to be found, files that hold one are private, and nobody outside is spoken to."""

from __future__ import annotations

import json
import os
import socket
import stat
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import psutil
import pytest

from streamv2v_obs.bench.fault_injection import Injection
from streamv2v_obs.config import load_settings
from tests.conftest import Require
from tests.rigs.linux_network import network_obstacle, private_network
from tests.rigs.service import RunningService, running_service

PLANTED = "planted-pass-word-0451"

# Python's own events of sockets: whoever connects, or asks for a name, in any process that has this on its path.
WITNESS = """
import os, sys
def hear(event, arguments):
    if event in ("socket.connect", "socket.getaddrinfo", "socket.sendto"):
        where = arguments[0] if event == "socket.getaddrinfo" else arguments[1]
        with open(os.environ["WITNESS"], "a") as file:
            file.write(repr(where) + "\\n")
sys.addaudithook(hear)
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def environment(folder: Path) -> dict[str, str]:
    injection = Injection(folder / "injection")
    site = folder / "injection" / "sitecustomize.py"
    site.write_text(site.read_text() + WITNESS)
    below = {"XDG_STATE_HOME": "state", "XDG_CACHE_HOME": "cache", "XDG_DATA_HOME": "data"}
    private = {name: str(folder / name_of) for name, name_of in below.items()}
    return injection.environment | private | {"OBS_PASSWORD": PLANTED, "WITNESS": str(folder / "spoken-to")}


@pytest.fixture(scope="module")
def service(folder: Path, environment: dict[str, str], require: Require) -> Iterator[RunningService]:
    """One whose password is planted, in a network of its own, with an OBS that is not there, and a crash behind it."""
    obstacle = network_obstacle()
    require("obs", not obstacle, obstacle)
    with (
        private_network(),
        running_service(
            folder,
            *("capture.kind=pattern", "log.level=debug", "obs.enabled=true", "obs.password={env: OBS_PASSWORD}"),
            environment=environment,
        ) as running,
    ):
        running.until_on_air("TRANSLATED")
        orders = Path(environment["STREAMV2V_FAULTS"])
        (orders / "sticky").touch()
        running.until(lambda: "illegal memory access" in running.said, "the engine has crashed")
        running.until(lambda: bool(running.status()["engine_restarts"]), "it is started anew")
        running.until_on_air("TRANSLATED")
        yield running


def test_it_works_without_any_network_and_speaks_to_nobody_outside(service: RunningService, folder: Path) -> None:
    spoken_to = (folder / "spoken-to").read_text().splitlines()
    assert any("4455" in line for line in spoken_to), "OBS at this machine was looked for, so the witness hears"
    outside = [line for line in spoken_to if "127.0.0.1" not in line and "::1" not in line and "localhost" not in line]
    assert [line for line in outside if not line.startswith(("'/", "b'/", "b'\\x00", "'\\x00"))] == []


def test_the_witness_hears_who_speaks_to_the_outside(environment: dict[str, str], tmp_path: Path) -> None:
    code = "import socket; s = socket.socket(); s.settimeout(0.01); s.connect_ex(('192.0.2.1', 9))"
    heard = tmp_path / "heard"
    subprocess.run([sys.executable, "-c", code], env=os.environ | environment | {"WITNESS": str(heard)}, check=True)
    assert "192.0.2.1" in heard.read_text()


def test_the_secret_is_in_no_file_no_answer_and_no_process_list(
    service: RunningService, folder: Path, environment: dict[str, str]
) -> None:
    assert "Traceback" in service.said, "the crash was reported, with a traceback"
    for path in folder.rglob("*"):
        if path.is_file():
            assert PLANTED.encode() not in path.read_bytes(), path
    assert PLANTED not in json.dumps(service.status())
    for process in (psutil.Process(service.process.pid), *service.children()):
        assert PLANTED not in " ".join(process.cmdline())
    endpoint = service.endpoint()
    assert endpoint is not None
    for text in (service.said, json.dumps(service.status())):
        assert endpoint["token"] not in text


def test_a_report_to_send_along_does_not_hold_it(
    service: RunningService, folder: Path, environment: dict[str, str]
) -> None:
    target = folder / "report.zip"
    private = {"STREAMV2V_RUNTIME_DIR": str(folder / "runtime"), "XDG_CONFIG_HOME": str(folder)}
    config = folder / "mine.yaml"
    config.write_text("obs: {enabled: true, password: {env: OBS_PASSWORD}}\n")
    words = [sys.executable, "-m", "streamv2v_obs", "doctor", "--bundle", str(target), "--config", str(config)]
    done = subprocess.run(words, env=os.environ | environment | private, capture_output=True, encoding="utf-8")
    assert PLANTED not in done.stdout + done.stderr
    endpoint = service.endpoint()
    assert endpoint is not None
    with zipfile.ZipFile(target) as file:
        for name in file.namelist():
            text = file.read(name).decode()
            assert PLANTED not in text, name
            assert endpoint["token"] not in text, name


def test_what_holds_a_secret_is_private(service: RunningService, folder: Path) -> None:
    found = [path for name in ("service.json", "stream-key") for path in folder.rglob(name)]
    assert len(found) == 2, found
    for path in found:
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, path
    assert stat.S_IMODE((folder / "runtime").stat().st_mode) & 0o077 == 0


def test_nothing_in_memory_tells_it_by_its_repr(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OBS_PASSWORD", PLANTED)
    settings = load_settings(None, ["obs.password={env: OBS_PASSWORD}"])
    assert settings.obs.password.get_secret_value() == PLANTED
    for text in (repr(settings), str(settings.obs), f"{settings.model_dump()}", settings.model_dump_json()):
        assert PLANTED not in text


def test_the_port_is_this_machines_alone(service: RunningService) -> None:
    endpoint = service.endpoint()
    assert endpoint is not None
    port = int(endpoint["address"].rpartition(":")[2])
    listening = [c.laddr for c in psutil.Process(service.process.pid).net_connections("inet") if c.status == "LISTEN"]
    assert [address.ip for address in listening if address.port == port] == ["127.0.0.1"]
    assert {address.ip for address in listening} == {"127.0.0.1"}
    with closing(socket.create_connection(("127.0.0.1", port), timeout=5)):
        pass
