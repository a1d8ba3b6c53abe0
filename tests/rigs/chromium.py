"""A headless Chromium, told what to do over its DevTools protocol."""

from __future__ import annotations

import base64
import json
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
from websockets.sync.client import ClientConnection, connect

PROGRAM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
_FLAGS = [
    *("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync", "--remote-debugging-port=0"),
]


class Page:
    """One tab. ``complaints`` holds what it logged: errors of scripts, and what the security policy kept out."""

    def __init__(self, socket: ClientConnection) -> None:
        self._socket = socket
        self._number = 0
        self.complaints: list[str] = []
        for domain in ("Log", "Runtime", "Page"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """One request of the protocol and its answer."""
        self._number += 1
        self._socket.send(json.dumps({"id": self._number, "method": method, "params": parameters}))
        while True:
            message = json.loads(self._socket.recv(30))
            if message.get("id") == self._number:
                assert "error" not in message, message
                return dict(message["result"])
            if message.get("method") in ("Log.entryAdded", "Runtime.exceptionThrown"):
                self.complaints.append(json.dumps(message["params"]))

    def open(self, address: str, width: int = 1280, height: int = 900) -> None:
        """Go there."""
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        self.call("Emulation.setDeviceMetricsOverride", **size)
        self.call("Page.navigate", url=address)

    def ask(self, expression: str) -> Any:
        """The value of a JavaScript expression."""
        answer = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def until(self, expression: str, within_s: float = 30.0) -> None:
        """Wait until a JavaScript expression is true."""
        until = time.monotonic() + within_s
        while not self.ask(f"!!({expression})"):  # an element as such would arrive here as an empty object
            assert time.monotonic() < until, f"not within {within_s} s: {expression}; {self.complaints}"
            time.sleep(0.05)

    def press(self, key: str, code: int, text: str = "") -> None:
        """One key, down and up, where the focus is."""
        same = {"key": key, "code": key, "windowsVirtualKeyCode": code}
        self.call("Input.dispatchKeyEvent", type="keyDown", text=text, **same)
        self.call("Input.dispatchKeyEvent", type="keyUp", **same)

    def shoot(self, path: Path) -> None:
        """The whole page as a PNG, below the window's edge too."""
        width, height = self.ask("[innerWidth, document.documentElement.scrollHeight]")
        clip = {"x": 0, "y": 0, "width": width, "height": height, "scale": 1}
        shot = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=True, clip=clip)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(base64.b64decode(shot["data"]))

    def type(self, text: str) -> None:
        """Text, where the focus is."""
        self.call("Input.insertText", text=text)


@contextmanager
def chromium(folder: Path) -> Iterator[Page]:
    """A browser with a new profile in ``folder``, ended with the block."""
    assert PROGRAM is not None
    with (folder / "chromium.log").open("wb") as log:
        process = subprocess.Popen([PROGRAM, *_FLAGS, f"--user-data-dir={folder}/profile", "about:blank"], stderr=log)
    try:
        with connect(_page_address(folder, process), max_size=None) as socket:
            yield Page(socket)
    finally:
        process.terminate()
        process.wait(20)


def _page_address(folder: Path, process: subprocess.Popen[bytes]) -> str:
    until = time.monotonic() + 60
    while time.monotonic() < until and process.poll() is None:
        said = (folder / "chromium.log").read_text(encoding="utf-8", errors="replace")
        if found := re.search(r"DevTools listening on ws://([^/]+)/", said):
            pages = httpx.get(f"http://{found[1]}/json", trust_env=False).json()
            for page in pages:
                if page["type"] == "page":
                    return str(page["webSocketDebuggerUrl"])
        time.sleep(0.1)
    raise AssertionError(f"Chromium did not start: {(folder / 'chromium.log').read_text(errors='replace')[-2000:]}")
