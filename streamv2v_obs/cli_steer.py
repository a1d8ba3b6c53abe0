"""Commands that talk to the running service: status, prompt, preset, bank, bypass, panic, open."""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from streamv2v_obs.cli_output import Json, console, print_json, say

if TYPE_CHECKING:
    from streamv2v_obs.control.client import ServiceClient


class Policy(str, Enum):
    """What becomes of the feature bank."""

    keep = "keep"
    reset = "reset"
    restore = "restore"
    fade = "fade"


class Switch(str, Enum):
    """On or off."""

    on = "on"
    off = "off"


def register(app: typer.Typer) -> None:
    """Add the commands of this file."""
    app.command()(status)
    app.command()(prompt)
    app.command()(preset)
    app.command()(bank)
    app.command()(bypass)
    app.command()(panic)
    app.command("open")(open_panel)


def _client() -> ServiceClient:
    from streamv2v_obs.control.client import ServiceClient
    from streamv2v_obs.control.endpoint import require_endpoint

    return ServiceClient(require_endpoint())


def _post(path: str, body: dict[str, Any], text: str, as_json: bool) -> None:
    answer = _client().post(path, {key: value for key, value in body.items() if value is not None})
    if as_json:
        print_json(answer)
    else:
        say(text)


def status(as_json: Json = False) -> None:
    """Show what the running service does."""
    found = _client().get("/v1/status")
    if as_json:
        print_json(found)
        return
    from streamv2v_obs.cli_status import status_table

    console.print(status_table(found))


def prompt(
    text: Annotated[str | None, typer.Argument(help="What the picture becomes.")] = None,
    strength: Annotated[float | None, typer.Option(help="Share of the noise schedule, above 0 and up to 1.")] = None,
    seed: Annotated[int | None, typer.Option(help="Of the noise.")] = None,
    style: Annotated[str | None, typer.Option(help="A name among model.styles; '' for none.")] = None,
    bank: Annotated[Policy | None, typer.Option(help="What becomes of the feature bank.")] = None,
    blend: Annotated[float | None, typer.Option(help="Seconds from the prompt before to this one.")] = None,
    as_json: Json = False,
) -> None:
    """Change prompt, strength, seed and style from the next frame on."""
    body = {"prompt": text, "strength": strength, "seed": seed, "style": style, "blend_s": blend}
    body["bank"] = bank.value if bank else None
    _post("/v1/prompt", body, "changed", as_json)


def preset(
    which: Annotated[
        str | None, typer.Argument(help="Its name, its number from 1, next or previous; none: list them.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Put a preset of the settings in force, or list them."""
    if which is None:
        found = _client().get("/v1/presets")
        if as_json:
            print_json(found)
            return
        for number, one in enumerate(found["presets"], 1):
            mark = "*" if one["name"] == found["current"] else " "
            say(f"{mark}{number:2} {one['name']}: {one['prompt']}")
        if not found["presets"]:
            say("the settings hold no presets (section presets)")
        return
    steps = {"next": 1, "previous": -1}
    if which in steps:
        body: dict[str, Any] = {"step": steps[which]}
    else:
        body = {"number": int(which)} if which.isdecimal() else {"name": which}
    answer = _client().post("/v1/preset", body)
    if as_json:
        print_json(answer)
    else:
        say(f"preset: {answer['accepted']['preset']}")


def bank(
    policy: Annotated[
        Policy, typer.Argument(help="keep: leave it; reset: empty it; fade: within a second; restore: a scene's own.")
    ],
    scene: Annotated[str | None, typer.Option(help="Whose bank is restored; none: the scene's on air.")] = None,
    as_json: Json = False,
) -> None:
    """Keep, empty or bring back the feature bank."""
    _post("/v1/bank", {"policy": policy.value, "scene": scene}, f"bank: {policy.value}", as_json)


def bypass(to: Annotated[Switch, typer.Argument()], as_json: Json = False) -> None:
    """Show the captured picture itself (on) or its translation (off)."""
    _post("/v1/bypass", {"on": to is Switch.on}, f"bypass {to.value}", as_json)


def panic(to: Annotated[Switch, typer.Argument()], as_json: Json = False) -> None:
    """Show the slate at once (on) until released (off)."""
    _post("/v1/panic", {"on": to is Switch.on}, f"panic {to.value}", as_json)


def open_panel(as_json: Json = False) -> None:
    """Print a fresh panel link, and the addresses for an OBS browser source."""
    found = _client().get("/v1/link")
    if as_json:
        print_json(found)
        return
    say(f"panel (once, within {found['panel_life_s'] / 60:.0f} minutes): {found['panel']}")
    if "panel_lan" in found:
        say(f"panel on your phone (once, not encrypted): {found['panel_lan']}")
    say(f"OBS browser source (view only, lasting):  {found['view']}")
    say(f"OBS media source (view only, lasting):    {found['stream']}")
