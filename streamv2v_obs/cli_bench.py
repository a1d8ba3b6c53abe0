"""Commands that measure: bench and its parts, and eval."""

from __future__ import annotations

import json
from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from streamv2v_obs import cli_bench_service, cli_bench_speed
from streamv2v_obs.cli_bench_options import ModelName, Out, results_folder
from streamv2v_obs.cli_output import Json, Set, errors, print_json, say
from streamv2v_obs.config import load_settings


class Group(str, Enum):
    """Groups of goals."""

    speed = "speed"
    demo = "demo"
    quality = "quality"
    reliability = "reliability"
    obs = "obs"


def register(app: typer.Typer) -> None:
    """Add the commands of this file and of those that it is split into."""
    bench = typer.Typer(
        help="Measure speed and quality; each command writes one result file that `check` and `table` read.",
        no_args_is_help=True,
    )
    for name, command in (("env", env), ("check", check), ("table", table)):
        bench.command(name)(command)
    for commands in (cli_bench_speed, cli_bench_service):
        commands.register(bench)
    app.add_typer(bench, name="bench")
    app.command("eval")(evaluate)


def env(device: Annotated[str, typer.Option(help="cpu, cuda, cuda:1.")] = "cpu") -> None:
    """Print the machine and the versions as every result names them: one JSON object."""
    from streamv2v_obs.bench.results import environment, load_now

    print_json(environment(device, load_now()))


def check(
    groups: Annotated[list[Group] | None, typer.Option("--group", help="Repeatable; none: all.")] = None,
    out: Out = None,
    as_json: Json = False,
) -> None:
    """Compare results with the goals; exit code 1 if one is missed or has no result."""
    from streamv2v_obs.bench.goals import judge_all

    judged = judge_all(results_folder(out), [group.value for group in groups or ()])
    for one in judged:
        if not as_json:
            say(one.line)
    counts = {verdict: sum(one.verdict == verdict for one in judged) for verdict in ("met", "missed", "no result")}
    if as_json:
        goals = [
            {"group": j.group, "id": j.goal.id, "verdict": j.verdict, "said": j.said, "must": j.goal.must}
            for j in judged
        ]
        print_json({"goals": goals, "counts": counts})
    else:
        say(", ".join(f"{count} {verdict}" for verdict, count in counts.items()))
    if counts["met"] < len(judged):
        raise typer.Exit(1)


def table() -> None:
    """Write the committed results' figures into README.md."""
    from streamv2v_obs.bench.table import write

    write()
    say("README.md: its figures are those of the committed results")


def evaluate(
    model: ModelName = None,
    suite: Annotated[
        str, typer.Option(help="held-out (48 clips), hidden, development, hidden-development, quick, or demo.")
    ] = "held-out",
    videos: Annotated[Path | None, typer.Option(file_okay=False, help="A folder of videos, no suite.")] = None,
    prompts: Annotated[list[str] | None, typer.Option("--prompt", help="Repeatable; none: three.")] = None,
    seeds: Annotated[int, typer.Option(min=1)] = 3,
    arms: Annotated[
        list[str] | None,
        typer.Option(
            "--arms",
            help="all, table2, figure8, positions (A.3), steps (A.4), controls, bank, beyond, noise, or an arm.",
        ),
    ] = None,
    variants: Annotated[
        list[str] | None,
        typer.Option("--variant", help="One more arm: 'NAME: bank.interval=8, fusion.site=block'; repeatable."),
    ] = None,
    frames: Annotated[int, typer.Option(min=2, help="Of each clip; lags it is too short for are left out.")] = 28,
    side: Annotated[int, typer.Option(min=64, help="Width and height of the clips.")] = 256,
    processes: Annotated[int | None, typer.Option(min=1, help="None: one a core, or one on a GPU.")] = None,
    overrides: Set = None,
    report: Annotated[Path, typer.Option(dir_okay=False, help="The page to write.")] = Path("eval-report.html"),
    out: Out = None,
) -> None:
    """Measure how much flicker each way of remembering removes, with controls; resumed where it was interrupted."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    given = [f"model.name={json.dumps(model)}"] if model is not None else []
    settings = load_settings(None, [*(overrides or ()), *given])
    from streamv2v_obs.bench import evaluation
    from streamv2v_obs.eval.evaluation import read_variant

    wish = evaluation.Wish(
        suite=suite,
        folder=videos,
        prompts=prompts or (),
        seeds=seeds,
        arms=arms or (),
        variants=[read_variant(text) for text in variants or ()],
        frames=frames,
        side=side,
        processes=processes,
    )
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=errors, transient=True, disable=not errors.is_terminal) as bar:
        task = bar.add_task("clips and prompts", total=None)

        def tell(done: int, total: int) -> None:
            bar.update(task, completed=done, total=total)

        path = evaluation.evaluate(settings, wish, results_folder(out), report, tell, say)
    say(f"{path} and {report}")
