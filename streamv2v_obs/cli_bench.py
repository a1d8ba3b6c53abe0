"""Commands that measure: bench and its parts, and eval."""

from __future__ import annotations

import json
from collections.abc import Sequence
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from streamv2v_obs.cli_output import Json, Set, errors, print_json, say
from streamv2v_obs.config import load_settings

if TYPE_CHECKING:  # they import torch
    from streamv2v_obs.bench.subject import Subject
    from streamv2v_obs.bench.throughput import Effort

bench = typer.Typer(
    help="Measure speed and quality; each command writes one result file that `check` and `table` read.",
    no_args_is_help=True,
)


class Group(str, Enum):
    """Groups of goals."""

    speed = "speed"
    demo = "demo"
    quality = "quality"
    reliability = "reliability"
    obs = "obs"


def register(app: typer.Typer) -> None:
    """Add the commands of this file."""
    app.add_typer(bench, name="bench")
    app.command("eval")(evaluate)


Out = Annotated[
    Path | None,
    typer.Option(file_okay=False, help="Folder for results; none: a checkout's own, elsewhere bench-results."),
]
ModelName = Annotated[
    str | None, typer.Option("--model", help="As model.name; sd15-random: SD 1.5's architecture, random weights.")
]
Steps = Annotated[int | None, typer.Option(min=1, max=8, help="As translator.steps.")]
Size = Annotated[int | None, typer.Option(min=64, help="Width and height of the picture; none: the model's own.")]
Frames = Annotated[int, typer.Option(min=4, help="Timed frames of each repeat.")]
Repeats = Annotated[int, typer.Option(min=1)]
Window = Annotated[int, typer.Option(min=4, help="Frames in a window of the warm-up, which ends when three agree.")]
WarmUp = Annotated[int, typer.Option(min=1, help="Frames that come first and do not count.")]


def _out(folder: Path | None) -> Path:
    from streamv2v_obs.bench.results import results_folder

    return folder or results_folder()


def _subject(model: str | None, steps: int | None, size: int | None, overrides: Sequence[str] | None) -> Subject:
    chosen: dict[str, Any] = {
        "model.name": model,
        "translator.steps": steps,
        "model.width": size,
        "model.height": size,
    }
    given = [f"{key}={json.dumps(value)}" for key, value in chosen.items() if value is not None]
    settings = load_settings(None, [*(overrides or ()), *given])
    from streamv2v_obs.bench.subject import open_subject

    return open_subject(settings)


def _effort(frames: int, repeats: int, window: int) -> Effort:
    from streamv2v_obs.bench.throughput import Effort

    return Effort(frames, repeats, window)


@bench.command()
def env(device: Annotated[str, typer.Option(help="cpu, cuda, cuda:1.")] = "cpu") -> None:
    """Print the machine and the versions as every result names them: one JSON object."""
    from streamv2v_obs.bench.results import environment, load_now

    print_json(environment(device, load_now()))


@bench.command()
def pipeline(
    model: ModelName = None,
    steps: Steps = None,
    size: Size = None,
    overrides: Set = None,
    frames: Frames = 500,
    repeats: Repeats = 5,
    window: Window = 50,
    out: Out = None,
) -> None:
    """Pictures a second of the translator, as fast as it can."""
    from streamv2v_obs.bench import throughput

    subject = _subject(model, steps, size, overrides)
    say(str(throughput.pipeline(subject, _effort(frames, repeats, window), _out(out), say)))


@bench.command()
def bank(
    model: ModelName = None,
    steps: Steps = None,
    size: Size = None,
    overrides: Set = None,
    frames: Frames = 500,
    repeats: Repeats = 5,
    window: Window = 50,
    out: Out = None,
) -> None:
    """Time and memory of each kind of bank beside none, all in turns."""
    from streamv2v_obs.bench import throughput

    subject = _subject(model, steps, size, overrides)
    say(str(throughput.bank(subject, _effort(frames, repeats, window), _out(out), say)))


@bench.command()
def ladder(
    model: ModelName = None,
    steps: Steps = None,
    size: Size = None,
    overrides: Set = None,
    frames: Frames = 500,
    repeats: Repeats = 5,
    window: Window = 50,
    out: Out = None,
) -> None:
    """What each way of running the same model gains over the one before."""
    from streamv2v_obs.bench import throughput

    subject = _subject(model, steps, size, overrides)
    say(str(throughput.ladder(subject, _effort(frames, repeats, window), _out(out), say)))


@bench.command()
def compare(
    model: ModelName = None,
    steps: Steps = None,
    size: Size = None,
    overrides: Set = None,
    frames: Frames = 500,
    repeats: Repeats = 5,
    window: Window = 50,
    out: Out = None,
) -> None:
    """Ours beside the published order of operations, in turns, and how alike their pictures are."""
    from streamv2v_obs.bench import comparison

    subject = _subject(model, steps, size, overrides)
    say(str(comparison.compare(subject, _effort(frames, repeats, window), _out(out), say)))


@bench.command()
def latency(
    model: ModelName = None,
    steps: Steps = None,
    size: Size = None,
    overrides: Set = None,
    fps: Annotated[float, typer.Option(min=1, help="Of the source.")] = 30,
    seconds: Annotated[float, typer.Option(min=1, help="For each schedule.")] = 20,
    warm_up: WarmUp = 100,
    out: Out = None,
) -> None:
    """The age of pictures from a source of a given rate, under both schedules."""
    from streamv2v_obs.bench import behaviour

    say(str(behaviour.latency(_subject(model, steps, size, overrides), fps, seconds, warm_up, _out(out), say)))


@bench.command()
def soak(
    model: ModelName = None,
    steps: Steps = None,
    size: Size = None,
    overrides: Set = None,
    frames: Frames = 10_000,
    samples: Annotated[int, typer.Option(min=3, help="Looks at the memory.")] = 50,
    warm_up: WarmUp = 100,
    minutes: Annotated[
        float | None, typer.Option(min=1, help="The whole service instead, for so long, broken again and again.")
    ] = None,
    seed: Annotated[int, typer.Option(help="With --minutes: of what changes and breaks, and when.")] = 1,
    out: Out = None,
) -> None:
    """Memory over a long run: of the translator alone, or with --minutes of the service under faults."""
    if minutes is not None:
        from streamv2v_obs.bench import soak_service

        say(str(soak_service.measure(minutes, seed, _out(out), say)))
        return
    from streamv2v_obs.bench import behaviour

    say(str(behaviour.soak(_subject(model, steps, size, overrides), frames, samples, warm_up, _out(out), say)))


@bench.command("prompt-switch")
def prompt_switch(
    model: ModelName = None,
    steps: Steps = None,
    size: Size = None,
    overrides: Set = None,
    switches: Annotated[int, typer.Option(min=1)] = 10,
    every: Annotated[int, typer.Option(min=4, help="Frames from one change to the next.")] = 40,
    warm_up: WarmUp = 100,
    out: Out = None,
) -> None:
    """What a change of prompt costs, and how soon it is seen."""
    from streamv2v_obs.bench import behaviour

    subject = _subject(model, steps, size, overrides)
    say(str(behaviour.prompt_switch(subject, switches, every, warm_up, _out(out), say)))


@bench.command()
def flops(
    steps: Annotated[int, typer.Option(min=1, max=8, help="As translator.steps.")] = 4,
    size: Annotated[int, typer.Option(min=64, help="Width and height of the picture.")] = 512,
    out: Out = None,
) -> None:
    """SD 1.5's arithmetic with and without bank, counted; needs no weights and no GPU, but some GB of memory."""
    from streamv2v_obs.bench import arithmetic

    say(str(arithmetic.measure(steps, size, _out(out), say)))


@bench.command()
def memory(out: Out = None) -> None:
    """What SD 1.5 needs of a card's memory, by size, steps and bank, counted; which cards it fits; needs no GPU."""
    from streamv2v_obs.bench import memory as counting

    say(str(counting.measure(_out(out), say)))


@bench.command("cpu-demo")
def cpu_demo(
    sizes: Annotated[list[int] | None, typer.Option("--size", help="Repeatable; none: 256, 384, 512.")] = None,
    steps: Annotated[list[int] | None, typer.Option("--steps", help="Repeatable; none: 1, 2, 4.")] = None,
    seconds: Annotated[float, typer.Option(min=0, help="For each size and number of steps.")] = 5,
    headline: Annotated[float, typer.Option(min=0, help="Seconds for 256x256, two steps, in place of those.")] = 25,
    cold: Annotated[int, typer.Option(min=1, help="Fresh processes whose start is timed.")] = 3,
    out: Out = None,
) -> None:
    """The demo model on this CPU: every size and number of steps, with and without the bank; under four minutes."""
    from streamv2v_obs.bench import cpu_demo as measuring

    plan = measuring.Plan(
        tuple(sizes or measuring.SIZES), tuple(steps or measuring.STEPS), seconds, headline, cold=cold
    )
    say(str(measuring.measure(plan, _out(out), say)))


@bench.command("demo-quality")
def demo_quality(
    model: Annotated[Path | None, typer.Option(file_okay=False, help="A diffusers folder; none: what ships.")] = None,
    scenes: Annotated[int, typer.Option(min=1, help="Drawn scenes beside the held-out photographs.")] = 12,
    frames: Annotated[int, typer.Option(min=10, help="Of each clip.")] = 16,
    out: Out = None,
) -> None:
    """The demo model's pictures in figures: autoencoder, styles, structure, flicker with and without the bank."""
    from streamv2v_obs.bench import demo_quality as measuring

    say(str(measuring.measure(model, scenes, frames, _out(out), say)))


Seconds = Annotated[int, typer.Option(min=3)]
Before = Annotated[float, typer.Option(min=0, help="Seconds between the first picture and the first look.")]
Source = Annotated[str, typer.Option(help="capture.kind: pattern, screen, ..")]


@bench.command()
def live(
    seconds: Seconds = 60, warm_up: Before = 10, source: Source = "pattern", overrides: Set = None, out: Out = None
) -> None:
    """Watch the real service for a while."""
    from streamv2v_obs.bench import live as watching

    path = _out(out) / f"live_{source}.json"
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


@bench.command()
def faults(
    only: Annotated[
        list[str] | None,
        typer.Option(help="A fault or a group of them; repeatable. None: all, in about five minutes."),
    ] = None,
    out: Out = None,
) -> None:
    """Break the real service in every known way, and search all that it shows for a raw picture."""
    from streamv2v_obs.bench import faults as breaking

    say(str(breaking.measure(_out(out), only or (), say)))


@bench.command()
def jitter(
    seconds: Seconds = 60, warm_up: Before = 10, source: Source = "pattern", overrides: Set = None, out: Out = None
) -> None:
    """How even the service's beat is while its engine translates as fast as it can."""
    from streamv2v_obs.bench import live as watching

    path = _out(out) / "jitter.json"
    # More than any machine translates: the engine never rests.
    changes = ["capture.fps=240", *(overrides or ())]
    watching.measure("jitter", path, seconds=seconds, warm_up_s=warm_up, source=source, overrides=changes, say=say)
    say(str(path))


def evaluate(
    model: ModelName = None,
    suite: Annotated[str, typer.Option(help="held-out (18 clips), development, or quick.")] = "held-out",
    videos: Annotated[Path | None, typer.Option(file_okay=False, help="A folder of videos, no suite.")] = None,
    prompts: Annotated[list[str] | None, typer.Option("--prompt", help="Repeatable; none: two.")] = None,
    seeds: Annotated[int, typer.Option(min=1)] = 3,
    arms: Annotated[
        list[str] | None, typer.Option("--arms", help="all, table2, figure8, controls, bank, or an arm; repeatable.")
    ] = None,
    variants: Annotated[
        list[str] | None,
        typer.Option("--variant", help="One more arm: 'NAME: bank.interval=8, fusion.site=block'; repeatable."),
    ] = None,
    frames: Annotated[int, typer.Option(min=2, help="Of each clip; lags it is too short for are left out.")] = 20,
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

        path = evaluation.evaluate(settings, wish, _out(out), report, tell, say)
    say(f"{path} and {report}")


@bench.command("obs-capture")
def obs_capture(
    seconds: Annotated[float, typer.Option(min=1, help="Of each repeat.")] = 20,
    repeats: Repeats = 3,
    changes: Annotated[int, typer.Option(min=2, help="Of colour, for the delay.")] = 100,
    overrides: Set = None,
    out: Out = None,
) -> None:
    """What capturing a source of a running OBS costs; its password from OBS_PASSWORD, or --set obs.password."""
    from streamv2v_obs.bench import obs_capture as measuring

    path = _out(out) / "obs_capture.json"
    measuring.measure(path, seconds=seconds, repeats=repeats, changes=changes, overrides=overrides or (), say=say)
    say(str(path))


@bench.command("obs-switch")
def obs_switch(
    switches: Annotated[int, typer.Option(min=2, help="Of each kind: fade, cut, custom event.")] = 20,
    rounds: Annotated[int, typer.Option(min=2, help="Of leaving a scene and coming back to it.")] = 5,
    overrides: Set = None,
    out: Out = None,
) -> None:
    """How soon scenes and events of a running OBS are seen; its password from OBS_PASSWORD, or --set obs.password."""
    from streamv2v_obs.bench import obs_switch as measuring

    path = _out(out) / "obs_switch.json"
    measuring.measure(path, switches=switches, rounds=rounds, overrides=overrides or (), say=say)
    say(str(path))


@bench.command()
def check(
    groups: Annotated[list[Group] | None, typer.Option("--group", help="Repeatable; none: all.")] = None,
    out: Out = None,
    as_json: Json = False,
) -> None:
    """Compare results with the goals; exit code 1 if one is missed or has no result."""
    from streamv2v_obs.bench.goals import judge_all

    judged = judge_all(_out(out), [group.value for group in groups or ()])
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


@bench.command()
def table() -> None:
    """Write the committed results' figures into README.md."""
    from streamv2v_obs.bench.table import write

    write()
    say("README.md: its figures are those of the committed results")
