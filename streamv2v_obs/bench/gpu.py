"""Everything about a GPU within ten minutes, offline: ``python -m streamv2v_obs.bench.gpu --out FOLDER``.

``ladder`` climbs every rung but compiling; ``compiled`` climbs that one as well, into a folder of its own.

Random weights of Stable Diffusion 1.5's architecture, since speed does not depend on them. Pieces run by themselves
(``--only pipeline --only bank``); one that fails does not keep the others from running. What is left of the time goes
to the soak, and where four minutes are left after it, to compiling.
"""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import typer

from streamv2v_obs.bench import behaviour, comparison, throughput
from streamv2v_obs.bench.models import RANDOM
from streamv2v_obs.bench.subject import Say, Subject, open_subject
from streamv2v_obs.bench.throughput import Effort
from streamv2v_obs.config import load_settings
from streamv2v_obs.errors import ConfigError, StreamV2VError

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Run:
    """What the pieces share. ``scale`` 1 takes ten minutes on a GPU that needs 30 ms a frame."""

    subject: Subject
    out: Path
    say: Say
    scale: float
    ends_at: float

    def of(self, steps: int) -> Subject:
        """The same model with another number of steps."""
        translator = self.subject.translator(steps=steps)
        settings = self.subject.settings.model_copy(update={"translator": translator})
        return replace(self.subject, settings=settings)

    def effort(self, frames: int, repeats: int) -> Effort:
        """So many timed frames, scaled."""
        windows = max(1, int(12 * min(1.0, self.scale)))
        return Effort(max(8, int(frames * self.scale)), repeats, max(4, int(50 * self.scale)), windows)

    def short(self) -> Effort:
        """For a dozen arms side by side."""
        return Effort(self.count(40), 2, self.count(25), max(1, int(4 * min(1.0, self.scale))))

    def count(self, frames: int) -> int:
        """So many frames, scaled."""
        return max(4, int(frames * self.scale))


def _pipeline(run: Run) -> None:
    for steps in (1, 2, 4):
        throughput.pipeline(run.of(steps), run.effort(200, 5), run.out, run.say)


def _bank(run: Run) -> None:
    throughput.bank(run.of(4), run.effort(80, 3), run.out, run.say)


def _ladder(run: Run) -> None:
    throughput.ladder(run.of(4), run.short(), run.out, run.say)


COMPILING_S = 240.0
"""What compiling Stable Diffusion's step takes, with room to spare."""


def _compiled(run: Run) -> None:
    left_s = max(0.0, run.ends_at - time.monotonic())
    if left_s < COMPILING_S * min(1.0, run.scale):
        run.say(f"compiled: left out, {left_s:.0f} s are left of the time; run it alone (--only compiled)")
        return
    throughput.ladder(run.of(4), run.short(), run.out / "compiled", run.say, compiling=True)


def _compare(run: Run) -> None:
    comparison.compare(run.of(4), run.effort(120, 3), run.out, run.say)


def _latency(run: Run) -> None:
    for steps in (1, 4):
        behaviour.latency(run.of(steps), 30, max(0.5, 8 * run.scale), run.count(60), run.out, run.say)


def _prompt_switch(run: Run) -> None:
    behaviour.prompt_switch(run.of(4), max(2, int(8 * run.scale)), run.count(30), run.count(60), run.out, run.say)


def _soak(run: Run) -> None:
    subject = run.of(1)
    arm, _ = subject.arm("sizing")
    try:
        arm.run(run.count(20))
        taken = arm.run(run.count(20))
    finally:
        arm.translator.close()
    left_s = max(0.0, run.ends_at - time.monotonic())
    frames = int(min(10_000 * min(1.0, run.scale), 1000 * left_s / (sum(taken) / len(taken))))
    if frames < 10_000:
        run.say(f"soak: {frames} frames is what the time left allows; run it alone for 10,000 (--only soak)")
    behaviour.soak(subject, max(12, frames), 50, run.count(60), run.out, run.say)


PIECES: dict[str, Callable[[Run], None]] = {
    "pipeline": _pipeline,
    "bank": _bank,
    "compare": _compare,
    "ladder": _ladder,
    "latency": _latency,
    "prompt-switch": _prompt_switch,
    "soak": _soak,
    "compiled": _compiled,
}


def run_pieces(run: Run, names: list[str]) -> list[str]:
    """Run the pieces ``names`` (none: all) in their order; gives those that failed. Raises ConfigError for others."""
    unknown = [name for name in names if name not in PIECES]
    if unknown:
        raise ConfigError(f"--only {unknown[0]}: allowed are {', '.join(PIECES)}")
    failed = []
    for name, piece in PIECES.items():
        if names and name not in names:
            continue
        began_at = time.monotonic()
        try:
            piece(run)
        except (StreamV2VError, RuntimeError, OSError):
            # An hour with somebody's GPU is not lost because one kernel is not there.
            log.exception("%s failed", name)
            failed.append(name)
        run.say(f"-- {name}: {time.monotonic() - began_at:.0f} s")
    return failed


def main(
    out: Annotated[Path, typer.Option(file_okay=False, help="Folder for the result files.")],
    only: Annotated[list[str] | None, typer.Option(help=f"Of {', '.join(PIECES)}; repeatable; none: all.")] = None,
    model: Annotated[str, typer.Option(help="As model.name; none: SD 1.5's architecture, random weights.")] = RANDOM,
    device: Annotated[str, typer.Option(help="cuda, or cpu to try the script.")] = "cuda",
    size: Annotated[int, typer.Option(min=64, help="Width and height.")] = 512,
    minutes: Annotated[float, typer.Option(min=0.1, help="The soak gets what is left of it.")] = 9.0,
    scale: Annotated[float, typer.Option(min=0.001, help="Of the number of frames.")] = 1.0,
) -> None:
    """Measure this GPU and write a result file of each piece."""
    logging.basicConfig(level=logging.WARNING)
    ends_at = time.monotonic() + 60 * minutes
    given: dict[str, Any] = {"model.name": model, "model.device": device, "model.width": size, "model.height": size}
    try:
        settings = load_settings(None, [f"{key}={value}" for key, value in given.items()])
        run = Run(open_subject(settings), out, typer.echo, scale, ends_at)
        typer.echo(f"{run.subject.name}: {run.subject.model.device}, {run.subject.model.dtype}")
        failed = run_pieces(run, only or [])
    except StreamV2VError as error:
        typer.echo(f"error: {error}", err=True)
        sys.exit(error.exit_code)
    if failed:
        typer.echo(f"failed: {', '.join(failed)}", err=True)
        sys.exit(1)


if __name__ == "__main__":
    typer.run(main)
