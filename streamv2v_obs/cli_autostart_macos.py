"""The service as an agent of launchd's for this user. Written from the documentation; not yet tried."""

from __future__ import annotations

import os
import plistlib
import subprocess
import sys
from pathlib import Path

from streamv2v_obs.errors import StreamV2VError

LABEL = "streamv2v-obs"


def agent_path() -> Path:
    """Where the agent lies."""
    return Path.home() / "Library" / "LaunchAgents" / f"{LABEL}.plist"


def agent(command: list[str]) -> bytes:
    """The property list: at login, and again when it crashes."""
    return plistlib.dumps(
        {
            "Label": LABEL,
            "ProgramArguments": command,
            "RunAtLoad": True,
            "KeepAlive": {"Crashed": True},
            "ProcessType": "Interactive",
        }
    )


def install(command: list[str]) -> str:
    """Write it and have launchd take it up; returns where it is."""
    path = agent_path()
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists():
        _launchctl("bootout", f"{_domain()}/{LABEL}")
    path.write_bytes(agent(command))
    done = _launchctl("bootstrap", _domain(), str(path))
    if done.returncode != 0:
        raise StreamV2VError(f"launchctl bootstrap: {' '.join((done.stderr or done.stdout).split())}")
    return str(path)


def uninstall() -> None:
    """End and remove it."""
    if not agent_path().exists():
        raise StreamV2VError("it is not installed; install it with: streamv2v-obs service install")
    _launchctl("bootout", f"{_domain()}/{LABEL}")
    agent_path().unlink(missing_ok=True)


def status() -> str:
    """Whether it is there, and whether launchd runs it."""
    if not agent_path().exists():
        return "not installed"
    running = "state = running" in _launchctl("print", f"{_domain()}/{LABEL}").stdout
    return f"installed, {'running' if running else 'not running'}: {agent_path()}"


def _domain() -> str:
    return f"gui/{os.getuid()}" if sys.platform != "win32" else ""


def _launchctl(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["launchctl", *arguments], capture_output=True, text=True, timeout=60, check=False)
