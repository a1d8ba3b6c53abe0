"""The service as a unit of systemd's for this user."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from streamv2v_obs.errors import StreamV2VError

UNIT = "streamv2v-obs.service"


def unit_path() -> Path:
    """Where the unit lies."""
    return Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "systemd" / "user" / UNIT


def unit(command: list[str]) -> str:
    """The unit's text. What the user has to act on (exit codes 2 to 6) is not tried again."""
    return f"""\
[Unit]
Description=streamv2v-obs: a live picture, redrawn from a prompt
After=graphical-session.target

[Service]
ExecStart={" ".join(_quoted(part) for part in command)}
Restart=on-failure
RestartSec=5
RestartPreventExitStatus=2 3 4 5 6
TimeoutStopSec=10

[Install]
WantedBy=default.target
"""


def install(command: list[str]) -> str:
    """Write, enable and start it; returns where it is."""
    _ask("show-environment")  # without a manager to talk to nothing is written
    path = unit_path()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(unit(command), encoding="utf-8")
    _ask("daemon-reload")
    _ask("enable", UNIT)
    _ask("restart", UNIT)
    return str(path)


def uninstall() -> None:
    """Stop, disable and remove it."""
    if not unit_path().exists():
        raise StreamV2VError("it is not installed; install it with: streamv2v-obs service install")
    _ask("disable", "--now", UNIT)
    unit_path().unlink(missing_ok=True)
    _ask("daemon-reload")


def status() -> str:
    """Such as "enabled, active"."""
    if not unit_path().exists():
        return "not installed"
    return f"{_said('is-enabled', UNIT)}, {_said('is-active', UNIT)}: {unit_path()}"


def _quoted(part: str) -> str:
    escaped = part.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("$", "$$")
    return f'"{escaped}"'


def _systemctl(*arguments: str) -> subprocess.CompletedProcess[str]:
    program = shutil.which("systemctl")
    if program is None:
        raise StreamV2VError("there is no systemd here; start it another way with: streamv2v-obs start")
    return subprocess.run([program, "--user", *arguments], capture_output=True, text=True, timeout=60, check=False)


def _ask(*arguments: str) -> None:
    done = _systemctl(*arguments)
    if done.returncode != 0:
        said = " ".join(done.stderr.split()) or f"exit code {done.returncode}"
        raise StreamV2VError(f"systemctl --user {' '.join(arguments)}: {said}")


def _said(*arguments: str) -> str:
    done = _systemctl(*arguments)
    return done.stdout.strip() or " ".join(done.stderr.split())
