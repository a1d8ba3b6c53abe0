"""Commands around files: translate, config, download."""

from __future__ import annotations

import dataclasses
import json
from enum import Enum
from pathlib import Path
from typing import Annotated, Any

import typer

from streamv2v_obs.cli_output import Config, Json, Set, config_path, console, errors, print_json, say
from streamv2v_obs.config import default_path, load_settings, show
from streamv2v_obs.errors import ConfigError, SourceLost
from streamv2v_obs.settings import Settings


class Bank(str, Enum):
    """Kinds of feature bank."""

    dyme = "dyme"
    queue = "queue"
    off = "off"


class Schedule(str, Enum):
    """How the denoising steps of a frame are laid out in time."""

    stream = "stream"
    sequential = "sequential"


def register(app: typer.Typer) -> None:
    """Add the commands of this file."""
    app.command()(translate)
    app.command()(download)
    config = typer.Typer(help="Check and show the configuration.", no_args_is_help=True)
    config.command("check")(check_config)
    config.command("show")(show_config)
    config.command("schema")(config_schema)
    app.add_typer(config, name="config")


def translate(
    source: Annotated[Path, typer.Argument(metavar="IN", help="A video file.")],
    target: Annotated[Path, typer.Argument(metavar="OUT", help="The mp4 to write; replaced if it exists.")],
    prompt: Annotated[str | None, typer.Option(help="What the picture becomes.")] = None,
    model: Annotated[str | None, typer.Option(help="A preset, a folder, a .safetensors file, owner/name.")] = None,
    strength: Annotated[float | None, typer.Option(help="Share of the noise schedule, above 0 and up to 1.")] = None,
    steps: Annotated[int | None, typer.Option(help="Denoising steps a frame, 1 to 8.")] = None,
    bank: Annotated[Bank | None, typer.Option(help="Feature bank.")] = None,
    seed: Annotated[int | None, typer.Option(help="Of the noise.")] = None,
    schedule: Annotated[Schedule | None, typer.Option(help="How steps are laid out in time.")] = None,
    config: Config = None,
    overrides: Set = None,
    as_json: Json = False,
) -> None:
    """Translate a video file into another, frame by frame."""
    chosen: dict[str, Any] = {
        "translator.prompt": prompt,
        "model.name": model,
        "translator.strength": strength,
        "translator.steps": steps,
        "translator.bank.kind": bank.value if bank else None,
        "translator.seed": seed,
        "translator.schedule": schedule.value if schedule else None,
    }
    # As JSON, which is YAML: a prompt with a colon stays a text.
    given = [f"{key}={json.dumps(value, ensure_ascii=False)}" for key, value in chosen.items() if value is not None]
    settings = load_settings(config_path(config), [*(overrides or ()), *given])
    if not source.is_file():
        raise SourceLost(f"{source}: there is no such file")
    if target.is_dir() or not target.parent.is_dir():
        raise ConfigError(f"OUT = {target}: allowed: a file in a folder that exists")
    if target.exists() and target.samefile(source):
        raise ConfigError(f"OUT = {target}: is the file that is read; allowed: another one")
    found = _translate(settings, source, target)
    if as_json:
        print_json(found)
    else:
        say(f"{target}: {found['frames_out']} frames in {found['seconds']:.1f} s, {found['translated_per_s']:.1f}/s")


def _translate(settings: Settings, source: Path, target: Path) -> dict[str, Any]:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=errors, transient=True, disable=not errors.is_terminal) as bar:
        task = bar.add_task("loading the model", total=None)
        from streamv2v_obs.engine.translate import translate_file

        def tell(done: int, total: int | None) -> None:
            bar.update(task, description=source.name, completed=done, total=total)

        return dataclasses.asdict(translate_file(settings, source, target, tell))


def download(
    preset: Annotated[str, typer.Argument(help="A name that `streamv2v-obs models` lists.")], as_json: Json = False
) -> None:
    """Fetch a model and verify every file of it."""
    from streamv2v_obs.translator.download import download_preset

    folder = download_preset(preset)
    if as_json:
        print_json({"preset": preset, "folder": str(folder)})
    else:
        say(f"{preset}: complete and verified in {folder}")


def check_config(
    file: Annotated[str | None, typer.Argument(metavar="[PATH|NAME]", help="None: your own file.")] = None,
    overrides: Set = None,
    as_json: Json = False,
) -> None:
    """Say whether a configuration is right, and what is wrong with it."""
    path = config_path(file)
    load_settings(path, overrides or ())
    checked = path or (default_path() if default_path().is_file() else None)
    if as_json:
        print_json({"ok": True, "file": str(checked) if checked else None})
    else:
        say(f"{checked}: right" if checked else f"no file given and none at {default_path()}: the defaults are right")


def show_config(
    file: Annotated[str | None, typer.Argument(metavar="[PATH|NAME]", help="None: your own file.")] = None,
    overrides: Set = None,
    as_json: Json = False,
) -> None:
    """Show every setting in force, secrets masked."""
    settings = load_settings(config_path(file), overrides or ())
    if as_json:
        print_json(settings.model_dump(mode="json"))
    else:
        console.out(show(settings), end="", highlight=False)


def config_schema() -> None:
    """Print the JSON schema of the configuration, for editors."""
    console.out(json.dumps(Settings.model_json_schema(), indent=2, ensure_ascii=False), highlight=False)
