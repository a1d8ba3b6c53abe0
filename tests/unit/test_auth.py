"""Tokens, one-time links, sessions, the lasting key, and the files they are kept in."""

from __future__ import annotations

import stat
import sys
from pathlib import Path

import pytest

from streamv2v_obs.control.auth import LINK_LIFE_S, Auth, lasting_stream_key
from streamv2v_obs.control.endpoint import (
    InstanceLock,
    find_endpoint,
    publish_endpoint,
    refuse_second,
    require_endpoint,
    runtime_folder,
)
from streamv2v_obs.errors import AlreadyRunning, ConfigError, NotRunning

posix = pytest.mark.skipif(sys.platform == "win32", reason="file modes are POSIX")


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def auth(clock: Clock) -> Auth:
    return Auth("127.0.0.1", 8770, "k" * 32, clock)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("STREAMV2V_RUNTIME_DIR", str(tmp_path / "run"))
    return tmp_path / "run"


def test_a_link_opens_one_session_once(auth: Auth) -> None:
    key = auth.new_link_key()
    session = auth.redeem(key)
    assert session is not None
    assert auth.is_session(session)
    assert auth.redeem(key) is None
    assert not auth.is_session(key)


def test_a_link_grows_too_old(auth: Auth, clock: Clock) -> None:
    early, late = auth.new_link_key(), auth.new_link_key()
    clock.now = LINK_LIFE_S - 1
    assert auth.redeem(early) is not None
    clock.now = LINK_LIFE_S + 1
    assert auth.redeem(late) is None


def test_links_and_sessions_do_not_grow_without_end(auth: Auth) -> None:
    first = auth.redeem(auth.new_link_key())
    for _ in range(100):
        last = auth.redeem(auth.new_link_key())
    oldest_link = auth.new_link_key()
    for _ in range(100):
        auth.new_link_key()
    assert first is not None
    assert last is not None
    assert not auth.is_session(first)
    assert auth.is_session(last)
    assert auth.redeem(oldest_link) is None


@pytest.mark.parametrize("text", ["", "x", "k" * 31, "k" * 33, "ä", "\udcff"])
def test_no_other_text_is_a_secret(auth: Auth, text: str) -> None:
    assert not auth.is_token(text)
    assert not auth.is_session(text)
    assert not auth.is_stream_key(text)
    assert auth.redeem(text) is None


def test_each_service_has_a_token_of_its_own() -> None:
    tokens = {Auth("127.0.0.1", 1, "k").token for _ in range(8)}
    assert len(tokens) == 8
    assert all(len(token) >= 40 for token in tokens)


def test_hosts_are_this_machine_at_this_port(auth: Auth) -> None:
    assert auth.hosts == {"127.0.0.1:8770", "localhost:8770", "[::1]:8770"}
    assert "http://127.0.0.1:8770" in auth.origins
    assert "127.0.0.1" in Auth("127.0.0.1", 80, "k").hosts


def test_the_network_is_served_under_addresses_in_digits_only() -> None:
    auth = Auth("192.0.2.7", 8770, "k" * 32, lan=True)
    for host in ("192.0.2.7:8770", "10.1.2.3:8770", "[fe80::1]:8770", "127.0.0.1:8770", "localhost:8770"):
        assert auth.serves(host)
        assert auth.accepts(f"http://{host}", host)
    for host in ("evil.example:8770", "10.1.2.3", "10.1.2.3:80", "10.1.2.3.evil.example:8770", "", ":8770", "x:y"):
        assert not auth.serves(host)
    for zone in ("eth0", "?x", "#x", "x/y?"):
        assert not auth.serves(f"[fe80::1%{zone}]:8770")
        assert not auth.serves(f"fe80::1%{zone}:8770")
    assert not auth.accepts("http://10.9.9.9:8770", "192.0.2.8:8770")
    assert not auth.accepts("http://evil.example:8770", "192.0.2.7:8770")


def test_without_lan_no_other_address_is_served(auth: Auth) -> None:
    assert not auth.serves("10.1.2.3:8770")
    assert not auth.accepts("http://10.1.2.3:8770", "10.1.2.3:8770")


def test_the_stream_key_lasts_and_can_be_renewed(tmp_path: Path) -> None:
    key = lasting_stream_key(tmp_path / "state")
    assert len(key) >= 32
    assert lasting_stream_key(tmp_path / "state") == key
    (tmp_path / "state" / "stream-key").unlink()
    assert lasting_stream_key(tmp_path / "state") != key


@posix
def test_a_stream_key_that_others_could_read_is_replaced(tmp_path: Path) -> None:
    key = lasting_stream_key(tmp_path)
    path = tmp_path / "stream-key"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    path.chmod(0o644)
    assert lasting_stream_key(tmp_path) != key
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_without_a_service_the_command_that_starts_it_is_named() -> None:
    assert find_endpoint() is None
    with pytest.raises(NotRunning, match="streamv2v-obs start"):
        require_endpoint()
    refuse_second()


def test_the_running_service_is_found_and_a_second_refused(folder: Path) -> None:
    lock = InstanceLock()
    lock.acquire()
    try:
        path = publish_endpoint("http://127.0.0.1:1", "secret")
        assert path.parent == folder
        assert require_endpoint().token == "secret"
        with pytest.raises(AlreadyRunning, match=r"process \d+ at http://127\.0\.0\.1:1"):
            refuse_second()
        with pytest.raises(AlreadyRunning):
            InstanceLock().acquire()
        assert [found.name for found in folder.iterdir() if found.name.startswith(".")] == []
    finally:
        lock.release()
    # As if it had been killed: the file is still there, and the next one clears it away.
    assert path.exists()
    assert find_endpoint() is None
    lock.acquire()
    assert not path.exists()
    lock.release()


@posix
def test_the_endpoint_is_for_this_user_alone(folder: Path) -> None:
    path = publish_endpoint("http://127.0.0.1:1", "secret")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    path.chmod(0o640)
    with pytest.raises(ConfigError, match="others can read it"):
        find_endpoint()


def test_a_damaged_endpoint_is_named(folder: Path) -> None:
    path = publish_endpoint("http://127.0.0.1:1", "secret")
    path.write_text("{", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"service\.json: cannot be read"):
        find_endpoint()


@posix
def test_a_folder_that_is_a_link_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    monkeypatch.setenv("STREAMV2V_RUNTIME_DIR", str(tmp_path / "link"))
    with pytest.raises(ConfigError, match="STREAMV2V_RUNTIME_DIR"):
        runtime_folder()


@posix
def test_no_guessable_folder_in_the_shared_temporary_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("STREAMV2V_RUNTIME_DIR")
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "missing" / "xdg"))
    (tmp_path / "missing").write_text("a file, so that no folder can be made there", encoding="utf-8")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    for _ in range(3):  # platformdirs says only the first time that it falls back
        assert runtime_folder() == tmp_path / "state" / "streamv2v-obs" / "run"
    monkeypatch.delenv("XDG_RUNTIME_DIR")
    assert not str(runtime_folder()).startswith("/tmp/runtime-")
    assert runtime_folder() == runtime_folder()
