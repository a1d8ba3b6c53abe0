"""Commands that tell what is there: doctor, models, sources, cameras, script."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated

import typer

from streamv2v_obs.cli_log import log_path
from streamv2v_obs.cli_output import Config, Json, Set, config_path, console, print_json, say, script_path, table
from streamv2v_obs.config import load_settings


def register(app: typer.Typer) -> None:
    """Add the commands of this file."""
    app.command()(doctor)
    app.command()(models)
    app.command()(sources)
    app.command()(cameras)
    app.command()(script)


def doctor(
    config: Config = None,
    overrides: Set = None,
    bundle: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write a report for a bug tracker: these lines, settings, log; no secrets."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Check this machine, line by line, and say how to mend what is missing."""
    from streamv2v_obs.doctor import examine

    settings = load_settings(config_path(config), overrides or ())
    marks = {"ok": "[green]ok  [/]", "note": "[yellow]note[/]", "fail": "[red]FAIL[/]"}
    failed = False
    found = []
    for check in examine(settings):
        failed = failed or check.verdict == "fail"
        found.append(check)
        if not as_json:
            console.print(marks[check.verdict], f"[bold]{check.name}[/]:", end=" ", highlight=False)
            say(check.detail + (f"  ->  {check.fix}" if check.fix else ""))
    if bundle is not None:
        from streamv2v_obs.doctor_bundle import write_bundle

        names = write_bundle(bundle, settings, found, log_path())
        if not as_json:
            say(f"{bundle}: {', '.join(names)}; your prompts are in it, passwords are not; look before you send")
    if as_json:
        print_json({"ok": not failed, "checks": [dataclasses.asdict(check) for check in found]})
    if failed:
        raise typer.Exit(2)


def models(as_json: Json = False) -> None:
    """List the models known by name, and how to get those that are missing."""
    from streamv2v_obs.translator.presets import list_models

    found = list_models()
    if as_json:
        print_json({"models": [dataclasses.asdict(model) for model in found]})
        return
    rows = [
        (m.name, "here" if m.present else f"missing; get it with: {m.download_command}", m.licence, m.note)
        for m in found
    ]
    table("name", "state", "licence", "note", rows=rows)


def sources(as_json: Json = False) -> None:
    """List what can be captured, and the setting that captures it."""
    from streamv2v_obs.capture.listing import list_sources

    found = list_sources()
    if as_json:
        print_json({"sources": [dataclasses.asdict(source) for source in found]})
        return
    rows = [(s.kind, s.name, s.setting or f"not possible: {s.problem}") for s in found]
    table("kind", "name", "setting", rows=rows)


def cameras(as_json: Json = False) -> None:
    """List the cameras."""
    from streamv2v_obs.capture.listing import list_cameras

    found = list_cameras()
    if as_json:
        print_json({"cameras": [dataclasses.asdict(camera) for camera in found]})
    elif not found:
        say("there is no camera")
    else:
        table("device", "name", rows=[(str(camera.device), camera.name) for camera in found])


def script(as_json: Json = False) -> None:
    """Say where the script is that OBS loads (Tools, Scripts, +)."""
    if as_json:
        print_json({"script": str(script_path())})
    else:
        say(str(script_path()))
