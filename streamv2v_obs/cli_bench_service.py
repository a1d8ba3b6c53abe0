"""Commands that measure the whole service: watched, broken on purpose, and led by an OBS."""

from __future__ import annotations

from typing import Annotated

import typer

from streamv2v_obs.cli_bench_options import Out, Repeats, results_folder
from streamv2v_obs.cli_output import Set, say

Seconds = Annotated[int, typer.Option(min=3)]
Before = Annotated[float, typer.Option(min=0, help="Seconds between the first picture and the first look.")]
Source = Annotated[str, typer.Option(help="capture.kind: pattern, screen, ..")]


def register(bench: typer.Typer) -> None:
    """Add the commands of this file."""
    bench.command("live")(live)
    bench.command("faults")(faults)
    bench.command("jitter")(jitter)
    bench.command("overhead")(overhead)
    bench.command("obs-capture")(obs_capture)
    bench.command("obs-switch")(obs_switch)


def live(
    seconds: Seconds = 60, warm_up: Before = 10, source: Source = "pattern", overrides: Set = None, out: Out = None
) -> None:
    """Watch the real service for a while."""
    from streamv2v_obs.bench import live as watching

    path = results_folder(out) / f"live_{source}.json"
    watching.measure(
        "pipeline",
        path,
        seconds=seconds,
        warm_up_s=warm_up,
        source=source,
        overrides=overrides or (),
        say=say,
    )
    say(str(path))


def faults(
    only: Annotated[
        list[str] | None,
        typer.Option(help="A fault or a group of them; repeatable. None: all, in about ten minutes."),
    ] = None,
    out: Out = None,
) -> None:
    """Break the real service in every known way, and search all that it shows for a raw picture."""
    from streamv2v_obs.bench import faults as breaking

    say(str(breaking.measure(results_folder(out), only or (), say)))


def jitter(
    seconds: Seconds = 60, warm_up: Before = 10, source: Source = "pattern", overrides: Set = None, out: Out = None
) -> None:
    """How even the service's beat is while its engine translates as fast as it can."""
    from streamv2v_obs.bench import live as watching

    path = results_folder(out) / "jitter.json"
    # More than any machine translates: the engine never rests.
    changes = ["capture.fps=240", *(overrides or ())]
    watching.measure("jitter", path, seconds=seconds, warm_up_s=warm_up, source=source, overrides=changes, say=say)
    say(str(path))


def overhead(seconds: Seconds = 60, warm_up: Before = 15, overrides: Set = None, out: Out = None) -> None:
    """What the service adds to translating: delay, memory, work, over a screen of its own (needs Xvfb)."""
    from streamv2v_obs.bench import overhead as measuring

    say(str(measuring.measure(results_folder(out), seconds, warm_up, overrides or (), say)))


def obs_capture(
    seconds: Annotated[float, typer.Option(min=1, help="Of each repeat.")] = 20,
    repeats: Repeats = 3,
    changes: Annotated[int, typer.Option(min=2, help="Of colour, for the delay.")] = 100,
    overrides: Set = None,
    out: Out = None,
) -> None:
    """What capturing a source of a running OBS costs; its password from OBS_PASSWORD, or --set obs.password."""
    from streamv2v_obs.bench import obs_capture as measuring

    path = results_folder(out) / "obs_capture.json"
    measuring.measure(path, seconds=seconds, repeats=repeats, changes=changes, overrides=overrides or (), say=say)
    say(str(path))


def obs_switch(
    switches: Annotated[int, typer.Option(min=2, help="Of each kind: fade, cut, custom event.")] = 20,
    rounds: Annotated[int, typer.Option(min=2, help="Of leaving a scene and coming back to it.")] = 5,
    overrides: Set = None,
    out: Out = None,
) -> None:
    """How soon scenes and events of a running OBS are seen; its password from OBS_PASSWORD, or --set obs.password."""
    from streamv2v_obs.bench import obs_switch as measuring

    path = results_folder(out) / "obs_switch.json"
    measuring.measure(path, switches=switches, rounds=rounds, overrides=overrides or (), say=say)
    say(str(path))
