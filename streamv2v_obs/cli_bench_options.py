"""Options that several of the commands that measure take."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

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
Windows = Annotated[int, typer.Option(min=1, help="Windows of the warm-up, at the most.")]
WarmUp = Annotated[int, typer.Option(min=1, help="Frames that come first and do not count.")]


def results_folder(folder: Path | None) -> Path:
    """The folder asked for, else where results go."""
    from streamv2v_obs.bench import results

    return folder or results.results_folder()
