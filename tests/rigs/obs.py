"""A real OBS for a test: its own display, network, home and scenes; it can be killed, frozen and started again."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from pydantic import SecretStr
from Xlib import X
from Xlib.display import Display as XDisplay
from Xlib.error import XError
from Xlib.protocol.event import ClientMessage

from streamv2v_obs.errors import ObsError, ObsRefused, ObsUnreachable
from streamv2v_obs.obs.client import Requests, no_is_an_answer, open_requests
from streamv2v_obs.settings import ObsSettings, SceneRule
from tests.rigs.linux_network import network_obstacle, private_network
from tests.rigs.xvfb import Display, xvfb, xvfb_installed

PASSWORD = "a-password-that-no-log-may-show"
PORT = 4455
WIDTH, HEIGHT = 320, 180
SCENES = {"A": (255, 0, 0), "B": (0, 255, 0), "C": (0, 0, 255)}
"""Name -> the colour, RGB, that fills the scene by a source called ``<name> colour``."""
START_S = 60.0
_CLOSE_S = 15.0
_LEFT = "[WebSocketServer::onClose]"
_CRASHED = (-signal.SIGSEGV, -signal.SIGABRT, -signal.SIGBUS)


def obs_obstacle() -> str:
    """Why no OBS can be run here; ``require("obs", not obs_obstacle(), obs_obstacle())``."""
    if shutil.which("obs") is None:
        return "install obs-studio"
    if not xvfb_installed():
        return "install xvfb"
    # It listens on all interfaces and cannot be told otherwise, so it runs in a network of its own or not at all.
    return network_obstacle()


class RealObs:
    """One OBS with the scenes of SCENES, present scene A, transition Cut; see ``real_obs``."""

    def __init__(
        self,
        folder: Path,
        display: Display,
        scenes: Mapping[str, tuple[int, int, int]],
        scripts: Sequence[tuple[Path, Mapping[str, Any]]] = (),
        environment: Mapping[str, str] | None = None,
        launcher: Sequence[str] = (),
    ) -> None:
        self.password = PASSWORD
        self.port = PORT
        self.display = display
        self._folder = folder
        self._scenes = scenes
        self._scripts = scripts
        self._environment = dict(environment or {})
        self._launcher = launcher
        self._process: subprocess.Popen[bytes] | None = None
        self._requests: Requests | None = None
        self._write_configuration()

    def settings(self, *rules: SceneRule, password: str | None = None, timeout_s: float = 1.0) -> ObsSettings:
        """The settings that reach this OBS."""
        secret = SecretStr(self.password if password is None else password)
        return ObsSettings(enabled=True, port=self.port, password=secret, timeout_s=timeout_s, rules=rules)

    @property
    def requests(self) -> Requests:
        """A connection of the test's own, to steer this OBS by; made when it is first asked for."""
        if self._requests is None:
            self._requests = open_requests(self.settings(timeout_s=10))
        return self._requests

    def scene(self, name: str) -> None:
        """Switch the program to this scene, as a click in OBS would."""
        self.requests.call("SetCurrentProgramScene", {"sceneName": name})

    def preview(self, name: str) -> None:
        """Select this scene in studio mode, and wait until OBS has: a take before that takes another one."""
        until = time.monotonic() + START_S
        while self.requests.call("GetCurrentPreviewScene")["currentPreviewSceneName"] != name:
            assert time.monotonic() < until, f"OBS does not take {name} for its preview"
            self.requests.call("SetCurrentPreviewScene", {"sceneName": name})
            time.sleep(0.1)

    def transition(self, name: str, duration_ms: int | None = None) -> None:
        """Switch with ``Cut`` or ``Fade`` from now on."""
        self.requests.call("SetCurrentSceneTransition", {"transitionName": name})
        if duration_ms is not None:
            self.requests.call("SetCurrentSceneTransitionDuration", {"transitionDuration": duration_ms})

    def start(self) -> None:
        """Launch, wait until it answers, and make those scenes that its collection does not hold yet."""
        home = str(self._folder)
        # Where a script's Python stands when OBS crashes is in its log then.
        private = dict.fromkeys(("HOME", "XDG_CONFIG_HOME", "XDG_RUNTIME_DIR"), home) | {"PYTHONFAULTHANDLER": "1"}
        private |= self._environment
        with (self._folder / "obs.log").open("ab") as said:
            self._process = subprocess.Popen(
                [
                    *(*self._launcher, "obs", "--multi", "--disable-updater", "--disable-missing-files-check"),
                    *("--collection", "Test", "--profile", "Test"),
                ],
                env=self.display.environment() | private | {"LIBGL_ALWAYS_SOFTWARE": "1", "QT_QPA_PLATFORM": "xcb"},
                stdout=said,
                stderr=said,
            )
        self._wait_until_it_answers()
        known = {str(scene["sceneName"]) for scene in self.requests.call("GetSceneList")["scenes"]}
        if missing := [name for name in self._scenes if name not in known]:
            for name in missing:
                self._create(name, self._scenes[name])
            self.transition("Cut")
        # Killed, it may come back with its scenes and without the one that was on air.
        if missing or self.requests.program_scene() not in self._scenes:
            self.scene(next(iter(self._scenes)))

    @property
    def said(self) -> str:
        """Its log so far, over all its starts."""
        return (self._folder / "obs.log").read_text(encoding="utf-8", errors="replace")

    def _wait_until_it_answers(self) -> None:
        assert self._process is not None
        until = time.monotonic() + START_S
        while True:
            try:
                self.requests.version()
                return
            except ObsUnreachable as error:
                self._forget_requests()
                if self._process.poll() is not None or time.monotonic() > until:
                    said = (self._folder / "obs.log").read_text(errors="replace")[-2000:]
                    raise RuntimeError(
                        f"OBS did not come up ({error}; exit {self._process.poll()}): {said}"
                    ) from error
                time.sleep(0.05)

    def _create(self, name: str, colour: tuple[int, int, int]) -> None:
        red, green, blue = colour
        settings = {"color": 0xFF000000 | blue << 16 | green << 8 | red, "width": WIDTH, "height": HEIGHT}
        source = {"inputName": f"{name} colour", "inputKind": "color_source_v3", "inputSettings": settings}
        until = time.monotonic() + START_S
        while True:
            with no_is_an_answer():
                self.requests.call("CreateScene", {"sceneName": name})
            try:
                self.requests.call("CreateInput", {"sceneName": name} | source)
                return
            except (ObsUnreachable, ObsRefused):
                raise
            except ObsError:
                # Once in some hundred starts the scene that was made first is gone again at once.
                if time.monotonic() > until:
                    raise
                time.sleep(0.1)

    @property
    def running(self) -> bool:
        """Whether it was started and neither killed nor stopped since."""
        return self._process is not None

    def kill(self) -> None:
        """Let it die as in a crash."""
        self._signal(signal.SIGKILL)
        self._end()

    def stop(self) -> int | None:
        """Close its window, as a user does; its exit code, negative if it had to be killed, None without one.

        Not by SIGINT: OBS 29 closes the window inside its handler, which waits for ever if the signal came while
        its thread wrote to the X server, as it does after each switch of the scene; or it crashes.
        """
        if self._process is None:
            return None
        self._leave()
        display: Any = XDisplay(self.display.name)
        try:
            until = time.monotonic() + _CLOSE_S
            while self._alive() and time.monotonic() < until:
                # Again after a while: OBS answers requests before it shows itself, and forgets an early close.
                _close_main_window(display)
                with suppress(subprocess.TimeoutExpired):
                    self._process.wait(1)
        finally:
            display.close()
        return self._end()

    def restart(self) -> None:
        """Start it again after ``kill`` or ``stop``."""
        self.start()

    def change_password(self, password: str) -> None:
        """Another one from its next start on, as if somebody had typed it into its settings."""
        for path in (self._folder / "obs-studio").rglob("*"):
            if path.name in ("global.ini", "config.json"):
                path.write_text(path.read_text().replace(self.password, password))
        self.password = password

    def freeze(self) -> None:
        """Stop it in its tracks: its connections stay open and nothing answers."""
        assert self._process is not None, "OBS does not run"
        self._signal(signal.SIGSTOP)
        os.waitid(os.P_PID, self._process.pid, os.WSTOPPED)  # until its last thread stands

    def thaw(self) -> None:
        """Let a frozen one go on."""
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        assert self._process is not None, "OBS does not run"
        self._process.send_signal(number)

    def _end(self) -> int:
        assert self._process is not None
        self._forget_requests()
        try:
            self._process.wait(15)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(15)
        code, self._process = self._process.returncode, None
        if code in _CRASHED:
            print(f"OBS crashed ({code}): {self.said[-4000:]}")  # which pytest shows under a failure
        return code

    def _leave(self) -> None:
        """Close our connection and wait until OBS has seen it: met by its end, it can crash (obs-studio #9861)."""
        if self._requests is None:
            return
        before, until = self.said.count(_LEFT), time.monotonic() + _CLOSE_S
        self._forget_requests()
        while self.said.count(_LEFT) == before and self._alive() and time.monotonic() < until:
            time.sleep(0.05)

    def _alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def _forget_requests(self) -> None:
        if self._requests is not None:
            with suppress(ObsError):
                self._requests.close()
            self._requests = None

    def _write_configuration(self) -> None:
        root = self._folder / "obs-studio"
        profile = root / "basic" / "profiles" / "Test"
        plugin = root / "plugin_config" / "obs-websocket"
        for folder in (profile, plugin, root / "basic" / "scenes"):
            folder.mkdir(parents=True)
        (root / "global.ini").write_text(
            "[General]\nFirstRun=true\nEnableAutoUpdates=false\nConfirmOnExit=false\n"
            "HotkeyFocusType=NeverDisableHotkeys\n"
            "[BasicWindow]\nPreviewEnabled=false\nSysTrayEnabled=false\n"
            "[Basic]\nProfile=Test\nProfileDir=Test\nSceneCollection=Test\nSceneCollectionFile=Test\n"
            f"[OBSWebSocket]\nFirstLoad=false\nServerEnabled=true\nServerPort={self.port}\nAlertsEnabled=false\n"
            f"AuthRequired=true\nServerPassword={self.password}\n"
        )
        # From OBS 30 on, the websocket's settings are here and no longer in global.ini.
        (plugin / "config.json").write_text(
            '{"first_load": false, "server_enabled": true, "alerts_enabled": false, "auth_required": true, '
            f'"server_port": {self.port}, "server_password": "{self.password}"}}'
        )
        (profile / "basic.ini").write_text(
            "[General]\nName=Test\n[Video]\n"
            f"BaseCX={WIDTH}\nBaseCY={HEIGHT}\nOutputCX={WIDTH}\nOutputCY={HEIGHT}\nFPSType=1\nFPSInt=30\n"
        )
        if self._scripts:
            scripts = [{"path": str(path), "settings": dict(settings)} for path, settings in self._scripts]
            # Without any scene OBS 30 ends itself while it loads this.
            scene = {"id": "scene", "versioned_id": "scene", "name": "Scene", "settings": {}}
            scenes = {"sources": [scene], "scene_order": [{"name": "Scene"}], "current_scene": "Scene"}
            collection = {"name": "Test", "modules": {"scripts-tool": scripts}, **scenes}
            (root / "basic" / "scenes" / "Test.json").write_text(json.dumps(collection))
        os.chmod(self._folder, 0o700)  # noqa: PTH101  Qt refuses a runtime folder that others can read


def _close_main_window(display: Any) -> None:
    """Ask it to close, as a window manager does, if it is there."""
    title, protocols = display.intern_atom("_NET_WM_NAME"), display.intern_atom("WM_PROTOCOLS")
    delete = (32, [display.intern_atom("WM_DELETE_WINDOW"), X.CurrentTime, 0, 0, 0])
    for window in display.screen().root.query_tree().children:
        with suppress(XError):  # closed between two questions
            held = window.get_full_property(title, X.AnyPropertyType)
            if held is not None and b"Profile: Test" in bytes(held.value):
                window.send_event(ClientMessage(window=window, client_type=protocols, data=delete))
    display.sync()


@contextmanager
def real_obs(
    scenes: Mapping[str, tuple[int, int, int]] = SCENES,
    scripts: Sequence[tuple[Path, Mapping[str, Any]]] = (),
    environment: Mapping[str, str] | None = None,
    launcher: Sequence[str] = (),
) -> Iterator[RealObs]:
    """A running OBS in a private network, which the calling thread shares as long as the block lasts.

    So do the threads and processes that it starts in the block; end them in it. OBS is dead when the block ends.
    ``scripts`` are files that it loads, each with its settings; ``environment`` is added to what it gets; ``launcher``
    stands before its command line.
    """
    with private_network(), xvfb(640, 480) as display, tempfile.TemporaryDirectory(prefix="obs-") as folder:
        obs = RealObs(Path(folder), display, scenes, scripts, environment, launcher)
        try:
            obs.start()
            yield obs
        finally:
            if obs.running:
                obs.kill()


if __name__ == "__main__":
    # ``python -m tests.rigs.obs COMMAND``: beside a real OBS, whose password is in OBS_PASSWORD.
    with real_obs():
        sys.exit(subprocess.run(sys.argv[1:], env=os.environ | {"OBS_PASSWORD": PASSWORD}, check=False).returncode)
