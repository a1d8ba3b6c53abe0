"""The API on a real server, for tests that speak HTTP to it; the service behind it is a fake."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest

from streamv2v_obs.control.endpoint import InstanceLock
from streamv2v_obs.control.server import ControlServer
from streamv2v_obs.settings import ControlSettings
from tests.rigs.fake_service import FakeService


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[FakeService, ControlServer]]:
    """One server for all: its start and end take a moment, and have a test of their own."""
    folder = tmp_path_factory.mktemp("user")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STREAMV2V_RUNTIME_DIR", str(folder / "run"))
        patch.setenv("XDG_STATE_HOME", str(folder / "state"))
        lock = InstanceLock()
        lock.acquire()
        fake = FakeService()
        server = ControlServer(ControlSettings(port=0), fake)
        server.start()
        try:
            yield fake, server
        finally:
            server.stop()
            server.join(5)
            lock.release()


@pytest.fixture
def service(running: tuple[FakeService, ControlServer]) -> Iterator[FakeService]:
    fake = running[0]
    vars(fake).update(vars(FakeService()))
    yield fake
    fake.browser.close()
    if fake.input_view is not None:
        fake.input_view.close()


@pytest.fixture
def server(running: tuple[FakeService, ControlServer], service: FakeService) -> ControlServer:
    return running[1]


@pytest.fixture
def anyone(server: ControlServer) -> Iterator[httpx.Client]:
    """A client that knows nothing."""
    with httpx.Client(base_url=server.address, trust_env=False, timeout=10) as client:
        yield client


@pytest.fixture
def cli(server: ControlServer) -> Iterator[httpx.Client]:
    """A client with the token."""
    headers = {"authorization": f"Bearer {server.auth.token}"}
    with httpx.Client(base_url=server.address, trust_env=False, timeout=10, headers=headers) as client:
        yield client


@pytest.fixture
def browser(server: ControlServer) -> Iterator[httpx.Client]:
    """A client that came by a one-time link."""
    headers = {"origin": server.address, "sec-fetch-site": "same-origin"}
    with httpx.Client(base_url=server.address, trust_env=False, timeout=10, headers=headers) as client:
        assert client.get(server.new_link()).status_code == 303
        yield client
