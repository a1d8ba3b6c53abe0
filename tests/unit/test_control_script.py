"""The script for OBS against the real control API; obspython is a fake, because it only exists inside OBS."""

from __future__ import annotations

import json
import socket
import stat
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import platformdirs.macos
import platformdirs.unix
import platformdirs.windows
import pytest

from streamv2v_obs.commands import Change
from streamv2v_obs.control.endpoint import APP, InstanceLock
from streamv2v_obs.control.server import ControlServer
from streamv2v_obs.presets import change_to
from streamv2v_obs.settings import ControlSettings
from streamv2v_obs.stats import EngineStatus, PublishStatus
from tests.rigs.fake_obspython import FakeObspython, loaded_script
from tests.rigs.fake_service import FakeService

posix = pytest.mark.skipif(sys.platform == "win32", reason="file modes are POSIX's")


class Running:
    """The script, loaded by a fake OBS, and what it may talk to."""

    def __init__(self, module: Any, obs: FakeObspython) -> None:
        self.module = module
        self.obs = obs
        self.settings: dict[str, Any] = {}

    def load(self, **settings: Any) -> None:
        self.settings |= settings
        self.module.script_defaults(self.settings)
        self.module.script_load(self.settings)
        self.module.script_update(self.settings)  # as OBS does
        self.form = self.module.script_properties()

    def set(self, **settings: Any) -> None:
        self.settings |= settings
        self.module.script_update(self.settings)

    def click(self, name: str) -> None:
        assert self.form[name]["kind"](self.form, self.form[name]), "the form is drawn again"

    def press(self, name: str) -> None:
        self.obs.hotkeys[name](True)
        self.obs.hotkeys[name](False)

    def status(self) -> str:
        self.click("refresh")
        return str(self.form["status"]["text"])

    @property
    def lines(self) -> list[str]:
        return [line for _, line in self.obs.log]


def until(reached: Callable[[], bool], what: Callable[[], object], within_s: float = 10.0) -> None:
    end_at = time.monotonic() + within_s
    while not reached():
        assert time.monotonic() < end_at, what()
        time.sleep(0.01)


@pytest.fixture
def runtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("STREAMV2V_RUNTIME_DIR", str(tmp_path / "run"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return tmp_path / "run"


@pytest.fixture
def script(runtime: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Running]:
    with loaded_script() as (module, obs):
        monkeypatch.setattr(module, "LOOK_S", 0.05)
        yield Running(module, obs)
    assert not [thread for thread in threading.enumerate() if thread.name == "streamv2v-control"]


@pytest.fixture
def service(runtime: Path) -> Iterator[FakeService]:
    lock = InstanceLock()
    lock.acquire()
    fake = FakeService()
    fake.publish = PublishStatus(state="TRANSLATED")
    fake.engine = EngineStatus(prompt="a pencil sketch", translate_fps=24.25, scene="Chat", scenes_stored=("Chat",))
    server = ControlServer(ControlSettings(port=0), fake)
    fake.server = server  # type: ignore[attr-defined]
    server.start()
    yield fake
    server.stop()
    server.join(5)
    lock.release()


def told(service: FakeService, *expected: object) -> None:
    until(lambda: len(service.told) >= len(expected), lambda: service.told)
    assert service.told == list(expected)


def test_buttons_and_hotkeys_reach_the_service(script: Running, service: FakeService) -> None:
    script.load(prompt="a watercolor", prompt_1="a blueprint", prompt_3="neon lights", bank="reset", preset="Ink")
    comic, oil, ink = (change_to(preset) for preset in service.presets.all)
    acts: tuple[tuple[Callable[[], None], object], ...] = (
        (lambda: script.click("apply"), Change("a watercolor", bank="reset")),
        (lambda: script.press("streamv2v_prompt_1"), Change("a blueprint", bank="reset")),
        (lambda: script.press("streamv2v_prompt_3"), Change("neon lights", bank="reset")),
        (lambda: script.click("bank_reset"), Change(bank="reset")),
        (lambda: script.press("streamv2v_bank_reset"), Change(bank="reset")),
        (lambda: script.click("bank_restore"), Change(bank="restore", bank_of="Chat")),
        (lambda: script.click("panic_on"), ("panic", True)),
        (lambda: script.click("panic_off"), ("panic", False)),
        (lambda: script.press("streamv2v_panic"), ("panic", True)),
        (lambda: script.press("streamv2v_panic_off"), ("panic", False)),
        (lambda: script.click("bypass_off"), ("bypass", False)),
        (lambda: script.press("streamv2v_bypass_off"), ("bypass", False)),
        (lambda: script.set(strength=0.55), Change(strength=0.55)),
        (lambda: script.click("preset_apply"), ink),
        (lambda: script.press("streamv2v_preset_next"), comic),
        (lambda: script.click("preset_next"), oil),
        (lambda: script.press("streamv2v_preset_3"), ink),
        (lambda: script.click("preset_previous"), oil),
        (lambda: script.press("streamv2v_preset_previous"), comic),
    )
    for act, expected in acts:
        service.told.clear()
        act()
        told(service, expected)
    assert not [name for name in script.obs.hotkeys if "bypass_on" in name]
    script.click("stop")
    assert service.stopped.wait(5)


def test_the_list_of_presets_is_the_services(script: Running, service: FakeService) -> None:
    script.load(preset="One of another service")
    assert script.form["preset"]["kind"] == ["", "One of another service"]
    until(lambda: "on air" in script.status(), script.status)
    assert script.form["preset"]["kind"] == ["", "Comic", "Ölbild", "Ink", "One of another service"]
    script.click("preset_apply")
    until(lambda: "there is none of that name; allowed: Comic, Ölbild, Ink" in script.status(), script.status)
    script.press("streamv2v_preset_9")
    until(lambda: "there is none of that number" in script.status(), script.status)
    script.set(preset="")
    script.click("preset_apply")
    assert "no preset is chosen" in script.status()
    assert service.told == []


def test_two_presses_of_next_are_two_steps(script: Running, service: FakeService) -> None:
    script.load()
    for _ in range(5):
        script.press("streamv2v_preset_next")
    told(service, *(change_to(service.presets.all[number % 3]) for number in range(5)))
    until(lambda: "preset Ölbild" in script.status(), script.status)


def test_loading_and_other_settings_send_nothing(script: Running, service: FakeService) -> None:
    script.load(strength=0.7, prompt="a watercolor", prompt_2="")
    until(lambda: "on air" in script.status(), script.status)
    script.set(prompt="half a wor", prompt_1="x", address="")
    script.press("streamv2v_prompt_2")
    assert "prompt 2 is empty" in script.status()
    time.sleep(0.2)
    assert service.told == []


def test_the_raw_picture_takes_two_clicks(
    script: Running, service: FakeService, monkeypatch: pytest.MonkeyPatch
) -> None:
    script.load()
    script.click("bypass_on")
    assert "click again" in script.form["bypass_on"]["text"]
    time.sleep(0.1)
    assert service.told == []
    script.click("bypass_on")
    told(service, ("bypass", True))
    assert "click again" not in script.form["bypass_on"]["text"]

    service.told.clear()
    monkeypatch.setattr(script.module, "CONFIRM_S", 0.05)
    script.click("bypass_on")
    time.sleep(0.1)
    script.click("bypass_on")  # too late: it asks anew
    time.sleep(0.1)
    assert service.told == []


def test_the_status_line_says_state_prompt_and_fps(script: Running, service: FakeService) -> None:
    script.load()
    until(lambda: "TRANSLATED" in script.status(), script.status)
    assert "a pencil sketch" in script.status()
    assert "24.2 fps" in script.status()
    service.publish = PublishStatus(state="SLATE", panic=True)
    until(lambda: "PANIC" in script.status(), script.status)
    service.publish = PublishStatus(state="BYPASS", bypass=True)
    until(lambda: "raw picture" in script.status(), script.status)
    assert len(script.lines) == 1, "the log tells that the service is there, and no more"


def test_a_refusal_is_said_once(script: Running, service: FakeService) -> None:
    service.engine = EngineStatus(scene="Other")
    script.load()
    for _ in range(5):
        script.click("bank_restore")
        time.sleep(0.05)
    until(lambda: "no bank is stored" in script.status(), script.status)
    assert len([line for line in script.lines if "no bank is stored" in line]) == 1


def test_without_a_service_it_says_so_once_and_orders_are_dropped(script: Running, runtime: Path) -> None:
    script.load(prompt="a watercolor")
    until(lambda: "not running" in script.status(), script.status)
    for _ in range(20):
        script.click("apply")
        script.press("streamv2v_panic")
        time.sleep(0.02)
    assert "Last: p" in script.status()
    assert len(script.lines) == 1
    assert script.lines[0].startswith("streamv2v: the service is not running")
    fake = FakeService()
    lock = InstanceLock()
    lock.acquire()
    server = ControlServer(ControlSettings(port=0), fake)
    server.start()
    try:
        until(lambda: "on air" in script.status(), script.status)
        time.sleep(0.1)
        assert fake.told == [], "what nobody heard is not said later"
    finally:
        server.stop()
        server.join(5)
        lock.release()
    until(lambda: "not running" in script.status(), script.status)


def test_the_newest_of_each_kind_wins_and_panic_goes_first(script: Running, service: FakeService) -> None:
    gate, came = threading.Event(), threading.Event()
    status = service.status

    def slow() -> Any:
        came.set()
        assert gate.wait(10)
        return status()

    service.status = slow  # type: ignore[method-assign]
    script.load(prompt_1="one", prompt_2="two", prompt_3="three")
    assert came.wait(5)
    began_at = time.monotonic()
    for slot in (1, 2, 3):
        script.press(f"streamv2v_prompt_{slot}")
    for strength in range(50, 90):
        script.set(strength=strength / 100)
    script.press("streamv2v_panic")
    assert time.monotonic() - began_at < 1.0, "callbacks wait for nothing"
    gate.set()
    told(service, ("panic", True), Change("three"), Change(strength=0.89))


def test_unloading_does_not_wait_for_a_service_that_hangs(script: Running) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        script.load(address=f"127.0.0.1:{port}", token="t" * 43)
        peer, _ = silent.accept()
        with peer:
            began_at = time.monotonic()
            script.module.script_unload()
            assert time.monotonic() - began_at < 0.45


def test_a_hung_service_and_a_stranger_are_named(script: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(script.module, "PATIENCE_S", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as stranger:
        script.load(address=f"127.0.0.1:{stranger.getsockname()[1]}", token="t")
        until(lambda: "does not answer" in script.status(), script.status)
        threading.Thread(target=_answer_nonsense, args=(stranger,), daemon=True).start()
        until(lambda: "is not streamv2v-obs" in script.status(), script.status)


def _answer_nonsense(stranger: socket.socket) -> None:
    try:
        while True:
            peer, _ = stranger.accept()
            with peer:
                peer.recv(4096)
                peer.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello")
    except OSError:
        return  # closed at the end of the test


def test_address_and_token_may_be_typed(script: Running, service: FakeService) -> None:
    server = service.server  # type: ignore[attr-defined]
    script.load(address=server.address.removeprefix("http://"), token=f" {server.auth.token} ")
    until(lambda: "on air" in script.status(), script.status)
    script.set(token="not the token")
    until(lambda: "refuses the token" in script.status(), script.status)
    script.set(token="", address=f"http://localhost:{server.auth.port}")
    until(lambda: "on air" in script.status(), script.status)
    script.set(address="127.0.0.1:1")
    until(lambda: "left word" in script.status(), script.status)
    assert server.auth.token not in repr(script.lines)
    assert "not the token" not in repr(script.lines)


@pytest.mark.parametrize("address", ["http://192.168.1.5:8770", "https://127.0.0.1:1", "example.org:80", "x", "[::1"])
def test_the_token_goes_to_this_machine_only(script: Running, address: str) -> None:
    with pytest.raises(script.module.Trouble, match="allowed: http://127"):
        script.module.parse_address(address, "token")


@posix
def test_a_file_that_others_can_read_is_not_trusted(script: Running, service: FakeService, runtime: Path) -> None:
    path = runtime / "service.json"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    path.chmod(0o644)
    script.load()
    until(lambda: "others can read it" in script.status(), script.status)
    path.chmod(0o600)
    until(lambda: "on air" in script.status(), script.status)


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"address": 5, "token": null}', '{"address": "http://evil:1", "token": "t"}']
)
def test_a_broken_file_is_named(script: Running, runtime: Path, text: str) -> None:
    runtime.mkdir(mode=0o700)
    path = runtime / "service.json"
    path.touch(mode=0o600)
    path.write_text(text)
    script.load()
    until(lambda: "service.json" in script.status(), script.status)
    assert len(script.lines) <= 2


def test_a_stale_file_counts_as_no_service(script: Running, runtime: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as gone:
        port = gone.getsockname()[1]
    runtime.mkdir(mode=0o700)
    (runtime / "service.json").touch(mode=0o600)
    (runtime / "service.json").write_text(json.dumps({"address": f"http://127.0.0.1:{port}", "pid": 1, "token": "t"}))
    script.load()
    until(lambda: "not running" in script.status(), script.status)


def test_it_looks_where_the_service_leaves_its_file(
    script: Running, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """For each system against the library that the service asks; paths of the other systems are only compared."""
    monkeypatch.setattr(platformdirs.windows, "get_win_folder", lambda name: str(tmp_path / "Local"))
    private = tmp_path / "private"
    private.mkdir(mode=0o700)
    for named in ({}, {"XDG_RUNTIME_DIR": str(private), "XDG_STATE_HOME": "/s", "XDG_CACHE_HOME": "/c"}):
        for name in ("XDG_RUNTIME_DIR", "XDG_STATE_HOME", "XDG_CACHE_HOME", "XDG_DATA_HOME"):
            monkeypatch.delenv(name, raising=False)
        environment = {"HOME": str(tmp_path), "LOCALAPPDATA": str(tmp_path / "Local")} | named
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        for platform, library in (
            ("linux", platformdirs.unix.Unix),
            ("darwin", platformdirs.macos.MacOS),
            ("win32", platformdirs.windows.Windows),
        ):
            if platform == "linux" and not named:
                continue  # then the service leaves the runtime folder out
            dirs = library(APP, appauthor=False)
            expected = [dirs.user_runtime_dir, f"{dirs.user_state_dir}/run", f"{dirs.user_cache_dir}/run"]
            found = list(script.module.candidates(environment, platform))
            assert found == [Path(path) for path in expected], platform
    chosen = script.module.candidates({"STREAMV2V_RUNTIME_DIR": "/elsewhere"}, "linux")
    assert list(chosen) == [Path("/elsewhere")]


@posix
def test_start_runs_the_program_and_says_why_it_failed(script: Running, tmp_path: Path) -> None:
    program = tmp_path / "streamv2v-obs"
    program.write_text(f'#!/bin/sh\necho "$@" > {tmp_path}/asked\necho "error: $2 is wrong" >&2\nexit 2\n')
    program.chmod(0o755)
    script.load(program=str(program), config="/my/settings.yaml")
    script.click("start")
    until(lambda: "--config is wrong" in script.status(), script.status)
    assert (tmp_path / "asked").read_text() == "start --config /my/settings.yaml\n"
    until(lambda: "start: --config is wrong" in script.lines[-1], lambda: script.lines)
    assert len(script.lines) == 2, "that no service runs was said before"
    script.set(program=str(tmp_path / "missing"))
    script.click("start")
    until(lambda: "cannot be started" in script.status(), script.status)


@posix
def test_it_starts_the_service_with_obs_unless_one_runs(script: Running, tmp_path: Path) -> None:
    program = tmp_path / "streamv2v-obs"
    program.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/asked\n')
    program.chmod(0o755)
    script.load(program=str(program), start_with_obs=True)
    until(lambda: "service started" in script.status(), script.status)
    script.module.script_unload()

    lock, fake = InstanceLock(), FakeService()
    lock.acquire()
    server = ControlServer(ControlSettings(port=0), fake)
    server.start()
    try:
        script.load()
        until(lambda: "runs already" in script.status(), script.status)
        assert (tmp_path / "asked").read_text() == "start\n", "once"
    finally:
        server.stop()
        server.join(5)
        lock.release()


def test_start_without_a_program_names_the_property(script: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    script.load()
    script.click("start")
    until(lambda: "on the PATH" in script.status(), script.status)


def test_keys_are_kept(script: Running) -> None:
    keys = [{"key": "OBS_KEY_F9", "control": True}]
    script.load(streamv2v_panic=keys)
    saved: dict[str, Any] = {}
    script.module.script_save(saved)
    assert saved["streamv2v_panic"] == keys
    assert len(saved) == 18


def test_nothing_runs_on_the_graphics_thread(script: Running) -> None:
    assert not hasattr(script.module, "script_tick")
    assert "timer_add" not in Path(script.module.__file__).read_text(encoding="utf-8")
