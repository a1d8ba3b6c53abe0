"""Commands that measure the translator: its speed, what it needs, what the embedded model's pictures are worth."""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from streamv2v_obs.cli_bench_options import (
    Frames,
    ModelName,
    Out,
    Repeats,
    Size,
    Steps,
    WarmUp,
    Window,
    Windows,
    results_folder,
)
from streamv2v_obs.cli_output import Set, say
from streamv2v_obs.config import load_settings

if TYPE_CHECKING:  # it imports torch
    from streamv2v_obs.bench.subject import Subject


_TIMED = (
    ("pipeline", "throughput", "Pictures a second of the translator, as fast as it can."),
    ("ladder", "throughput", "What each way of running the same model gains over the one before."),
    (
        "compare",
        "comparison",
        "Ours beside the published order of operations, in turns, and how alike their pictures are.",
    ),
)


def register(bench: typer.Typer) -> None:
    """Add the commands of this file."""
    for name, module, text in _TIMED:
        bench.command(name, help=text)(_timed(name, module))
    bench.command("bank")(bank)
    bench.command("latency")(latency)
    bench.command("soak")(soak)
    bench.command("prompt-switch")(prompt_switch)
    bench.command("flops")(flops)
    bench.command("launches")(launches)
    bench.command("memory")(memory)
    bench.command("cpu-demo")(cpu_demo)
    bench.command("demo-quality")(demo_quality)


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


def _timed(name: str, module: str) -> Callable[..., None]:
    """The command that has ``module`` time a model: all of them take the same."""

    def command(
        model: ModelName = None,
        steps: Steps = None,
        size: Size = None,
        overrides: Set = None,
        frames: Frames = 500,
        repeats: Repeats = 5,
        window: Window = 50,
        windows: Windows = 12,
        out: Out = None,
    ) -> None:
        subject = _subject(model, steps, size, overrides)
        from streamv2v_obs.bench.throughput import Effort

        measure = getattr(importlib.import_module(f"streamv2v_obs.bench.{module}"), name)
        say(str(measure(subject, Effort(frames, repeats, window, windows), results_folder(out), say)))

    return command


def bank(
    model: ModelName = None,
    steps: Steps = None,
    size: Size = None,
    overrides: Set = None,
    queues: Annotated[bool, typer.Option(help="Queues of 1, 2 and 4 frames, too.")] = True,
    frames: Frames = 500,
    repeats: Repeats = 5,
    window: Window = 50,
    windows: Windows = 12,
    out: Out = None,
) -> None:
    """Time and memory of each kind of bank beside none, all in turns."""
    subject = _subject(model, steps, size, overrides)
    from streamv2v_obs.bench import throughput

    effort = throughput.Effort(frames, repeats, window, windows)
    say(str(throughput.bank(subject, effort, results_folder(out), say, queues=queues)))


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

    say(
        str(
            behaviour.latency(_subject(model, steps, size, overrides), fps, seconds, warm_up, results_folder(out), say)
        )
    )


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

        say(str(soak_service.measure(minutes, seed, results_folder(out), say)))
        return
    from streamv2v_obs.bench import behaviour

    say(
        str(
            behaviour.soak(_subject(model, steps, size, overrides), frames, samples, warm_up, results_folder(out), say)
        )
    )


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
    say(str(behaviour.prompt_switch(subject, switches, every, warm_up, results_folder(out), say)))


def flops(
    steps: Annotated[int, typer.Option(min=1, max=8, help="As translator.steps.")] = 4,
    size: Annotated[int, typer.Option(min=64, help="Width and height of the picture.")] = 512,
    out: Out = None,
) -> None:
    """SD 1.5's arithmetic with and without bank, counted; needs no weights and no GPU, but some GB of memory."""
    from streamv2v_obs.bench import arithmetic

    say(str(arithmetic.measure(steps, size, results_folder(out), say)))


def launches(
    steps: Annotated[int, typer.Option(min=1, max=8, help="As translator.steps.")] = 4,
    size: Annotated[int, typer.Option(min=64, help="Width and height of the picture.")] = 512,
    out: Out = None,
) -> None:
    """Kernels that a frame of SD 1.5 launches: every rung off, as it is, compiled; counted, without a GPU."""
    from streamv2v_obs.bench import launches as counting

    say(str(counting.measure(steps, size, results_folder(out), say)))


def memory(out: Out = None) -> None:
    """What SD 1.5 needs of a card's memory, by size, steps and bank, counted; which cards it fits; needs no GPU."""
    from streamv2v_obs.bench import memory as counting

    say(str(counting.measure(results_folder(out), say)))


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
    say(str(measuring.measure(plan, results_folder(out), say)))


def demo_quality(
    model: Annotated[Path | None, typer.Option(file_okay=False, help="A diffusers folder; none: what ships.")] = None,
    scenes: Annotated[int, typer.Option(min=1, help="Drawn scenes beside the held-out photographs.")] = 48,
    frames: Annotated[int, typer.Option(min=10, help="Of each clip.")] = 16,
    out: Out = None,
) -> None:
    """The demo model's pictures in figures: autoencoder, styles, structure, flicker with and without the bank."""
    from streamv2v_obs.bench import demo_quality as measuring

    say(str(measuring.measure(model, scenes, frames, results_folder(out), say)))
