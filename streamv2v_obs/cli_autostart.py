"""The service at each login: ``service install``, ``uninstall`` and ``status``, on each system by its own means."""

from __future__ import annotations

import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Protocol

import typer

from streamv2v_obs import cli_autostart_linux, cli_autostart_macos, cli_autostart_windows
from streamv2v_obs.cli_log import log_path
from streamv2v_obs.cli_output import Config, Json, Set, config_path, print_json, say
from streamv2v_obs.config import load_settings
from streamv2v_obs.errors import ConfigError


class System(Protocol):
    """What one system's module does. ``install`` replaces what was there; all raise StreamV2VError."""

    def install(self, command: list[str]) -> str: ...
    def uninstall(self) -> None: ...
    def status(self) -> str: ...


@dataclass(frozen=True)
class Installed:
    """For --json."""

    where: str
    command: list[str]
    log: str


def register(app: typer.Typer) -> None:
    """Add the commands of this file."""
    service = typer.Typer(help="Run it at each login.", no_args_is_help=True)
    service.command("install")(install)
    service.command("uninstall")(uninstall)
    service.command("status")(status)
    app.add_typer(service, name="service")


def _system() -> System:
    known: dict[str, System] = {
        "linux": cli_autostart_linux,
        "win32": cli_autostart_windows,
        "darwin": cli_autostart_macos,
    }
    if sys.platform not in known:
        raise ConfigError(f"service: not on {sys.platform}; allowed: {', '.join(known)}")
    return known[sys.platform]


def install(config: Config = None, overrides: Set = None, as_json: Json = False) -> None:
    """Have it begin now, and at each login from now on."""
    path = config_path(config)
    load_settings(path, overrides or ())  # a mistake is told here, not at the next login
    command = [_python(), "-m", "streamv2v_obs", "run", "--background"]
    command += ["--config", str(path.resolve())] if path else []
    command += [part for override in overrides or () for part in ("--set", override)]
    found = Installed(_system().install(command), command, str(log_path()))
    if as_json:
        print_json(asdict(found))
    else:
        say(f"installed: {found.where}; log: {found.log}; its panel: streamv2v-obs open")


def uninstall(as_json: Json = False) -> None:
    """End it, and have it begin at no login any more."""
    _system().uninstall()
    if as_json:
        print_json({"installed": False})
    else:
        say("uninstalled")


def status(as_json: Json = False) -> None:
    """Say whether it begins at login, and whether the system runs it now."""
    found = _system().status()
    if as_json:
        print_json({"service": found})
    else:
        say(found)


def _python() -> str:
    # On Windows, python.exe would open a console window at each login.
    windowless = Path(sys.executable).with_name("pythonw.exe")
    return str(windowless) if sys.platform == "win32" and windowless.exists() else sys.executable
