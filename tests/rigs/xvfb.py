"""A private X display for a test: an Xvfb of its own, which nobody else knows and which goes with the block."""

from __future__ import annotations

import os
import select
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

START_S = 20.0


@dataclass(frozen=True)
class Display:
    """A running X server."""

    name: str
    """As in DISPLAY, such as ``:7``."""
    process: subprocess.Popen[bytes]

    def environment(self) -> dict[str, str]:
        """This process's environment, on that display and no other desktop."""
        kept = {k: v for k, v in os.environ.items() if k not in ("WAYLAND_DISPLAY", "XDG_SESSION_TYPE", "XAUTHORITY")}
        return kept | {"DISPLAY": self.name}

    def kill(self) -> None:
        """Let the server die as in a crash; every client loses it."""
        self.process.kill()
        self.process.wait(10)


def xvfb_installed() -> bool:
    """Whether there is an Xvfb to start; ``require("display", xvfb_installed(), "install xvfb")``."""
    return shutil.which("Xvfb") is not None


@contextmanager
def xvfb(width: int = 1280, height: int = 720, *arguments: str) -> Iterator[Display]:
    """A display of ``width`` x ``height`` pixels, 24 bit deep, with the server's own choice of a free number.

    ``arguments`` are further ones of Xvfb, such as ``"+xinerama"``. The server is dead when the block ends.
    """
    read_end, write_end = os.pipe()
    with tempfile.TemporaryFile() as said:
        # -noreset: without it the server restarts itself, all windows gone, when its last client leaves.
        server = subprocess.Popen(
            [
                *("Xvfb", "-displayfd", str(write_end), "-screen", "0", f"{width}x{height}x24"),
                *("-noreset", "-nolisten", "tcp", *arguments),
            ],
            pass_fds=(write_end,),
            stdout=subprocess.DEVNULL,
            stderr=said,
        )
        try:
            os.close(write_end)
            number = _first_line(read_end, server)
            if not number:
                said.seek(0)
                words = said.read().decode(errors="replace").strip()
                raise RuntimeError(f"Xvfb named no display (exit status {server.poll()}): {words}")
            yield Display(f":{number}", server)
        finally:
            os.close(read_end)
            server.terminate()
            try:
                server.wait(10)
            except subprocess.TimeoutExpired:
                server.kill()
                server.wait(10)


def _first_line(descriptor: int, server: subprocess.Popen[bytes]) -> str:
    """What Xvfb writes to ``descriptor``, up to the newline; empty if it ends or takes too long.

    The newline has to be read before the pipe is closed: Xvfb writes number and newline apart, and dies of SIGPIPE
    in between.
    """
    until = time.monotonic() + START_S
    text = b""
    while not text.endswith(b"\n"):
        readable, _, _ = select.select([descriptor], [], [], max(0.0, until - time.monotonic()))
        piece = os.read(descriptor, 64) if readable else b""
        if not piece:
            return ""
        text += piece
    return text.decode().strip()
