"""How the command line says things: people read tables, programs read one JSON object, the last line of stdout."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import platformdirs
import typer
from rich.console import Console
from rich.table import Table

from streamv2v_obs.errors import ConfigError

console = Console()
errors = Console(stderr=True)

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object, last on stdout.")]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Override a setting, such as translator.steps=4; repeatable."),
]
Config = Annotated[
    str | None,
    typer.Option("--config", "-c", metavar="PATH|NAME", help="Configuration file, or the name of one that is known."),
]


def print_json(found: Mapping[str, Any]) -> None:
    """One object on one line; plain, whatever the terminal."""
    sys.stdout.write(json.dumps(found, ensure_ascii=False, default=str) + "\n")
    sys.stdout.flush()


def say(text: str) -> None:
    """A line for people, on stdout; never wrapped, so that addresses can be copied."""
    console.print(text, markup=False, highlight=False, soft_wrap=True)


def table(*columns: str, rows: Sequence[Sequence[str]]) -> None:
    """Rows for people."""
    found = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        found.add_column(column, overflow="fold")
    for row in rows:
        found.add_row(*(cell.replace("[", "\\[") for cell in row))
    console.print(found)


def config_path(name: str | None) -> Path | None:
    """The file that ``--config`` means: a path, else the name of a file of the user's or of ours."""
    if name is None:
        return None
    path = Path(name).expanduser()
    if path.exists() or path.suffix or len(path.parts) != 1:
        return path
    known = {found.stem: found for folder in config_folders() for found in sorted(folder.glob("*.yaml"))}
    if name not in known:
        names = ", ".join(sorted(known)) or "none"
        raise ConfigError(f"--config {name}: neither a file nor a known name; allowed: a path, or one of {names}")
    return known[name]


def script_path() -> Path:
    """The script for OBS: in a checkout beside the package, in a wheel inside it."""
    package = Path(__file__).resolve().parent
    folders = (package.parent / "plugin_scripts", package / "plugin_scripts")
    return next(path for folder in folders if (path := folder / "streamv2v_control.py").is_file())


def config_folders() -> list[Path]:
    """Where named configurations lie; the user's own come last and win."""
    package = Path(__file__).resolve().parent
    # In a checkout they lie beside the package, in a wheel inside it.
    ours = [package.parent / "configs", package / "configs"]
    return [*ours, Path(platformdirs.user_config_dir("streamv2v-obs", appauthor=False))]
