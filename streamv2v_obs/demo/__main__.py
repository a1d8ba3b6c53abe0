"""The demo model's workshop: ``python -m streamv2v_obs.demo`` draws, trains, exports, shows and measures it.

    pool POOL                 pictures and what the teachers make of them
    autoencoder POOL RUN      first stage
    unet POOL RUN             second stage: UNet and text encoder
    flats POOL RUN            third stage: flat areas clean, some styles anew, all else kept
    moving MOVING             scenes in motion, some moments of each
    memory MOVING RUN         fourth stage: a bank of another scene is left alone
    export RUN FOLDER         a diffusers folder
    adopt FOLDER RUN          a run that goes on from an exported one
    sheet FOLDER OUT          contact sheets
    evaluate FOLDER           figures, as JSON

Each command is seeded, and goes on where it was interrupted.
"""

from __future__ import annotations

import json
import logging
import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from streamv2v_obs.errors import StreamV2VError

app = typer.Typer(help=__doc__, no_args_is_help=True, pretty_exceptions_enable=False, rich_markup_mode=None)

Folder = Annotated[Path, typer.Argument(file_okay=False)]
Device = Annotated[str, typer.Option(help="auto, cpu or cuda.")]
Seed = Annotated[int, typer.Option(min=0)]


@app.command()
def pool(
    folder: Folder,
    shards: Annotated[
        int, typer.Option(min=1, help="Parts, each of 64 sources and 384 styled pictures (88 MB).")
    ] = 60,
    workers: Annotated[int, typer.Option(min=1)] = os.cpu_count() or 1,
    seed: Seed = 0,
) -> None:
    """Draw scenes and let the teachers restyle them."""
    from streamv2v_obs.demo.pool import draw_pool

    draw_pool(folder, shards=shards, workers=workers, seed=seed)


@app.command()
def autoencoder(
    pool: Folder,
    run: Folder,
    steps: Annotated[int, typer.Option(min=1)] = 20_000,
    batch: Annotated[int, typer.Option(min=1)] = 16,
    crop: Annotated[int, typer.Option(min=32, help="Pixels, a multiple of 8.")] = 96,
    rate: Annotated[float, typer.Option(help="Peak learning rate.")] = 1.5e-3,
    decoder_only: Annotated[bool, typer.Option(help="Keep the encoder, and so what a UNet learned.")] = False,
    seed: Seed = 0,
    device: Device = "auto",
) -> None:
    """Train the autoencoder, or go on with it."""
    from streamv2v_obs.demo.train_autoencoder import AutoencoderPlan, train_autoencoder

    plan = AutoencoderPlan(
        steps=steps,
        batch=batch,
        crop=crop // 8 * 8,
        rate=rate,
        decoder_only=decoder_only,
        seed=seed,
        device=device,
    )
    train_autoencoder(pool, run, plan)


@app.command()
def unet(
    pool: Folder,
    run: Folder,
    steps: Annotated[int, typer.Option(min=1)] = 40_000,
    batch: Annotated[int, typer.Option(min=2)] = 16,
    crop: Annotated[int, typer.Option(min=8, max=32, help="Latents, a multiple of 4.")] = 16,
    rate: Annotated[float, typer.Option(help="Peak learning rate.")] = 1.5e-3,
    critic_from: Annotated[float, typer.Option(min=0, max=1, help="Share of the steps done before the critic.")] = 0.6,
    critic_share: Annotated[float, typer.Option(min=0, help="Of the other loss's gradient.")] = 0.25,
    seed: Seed = 0,
    device: Device = "auto",
) -> None:
    """Train UNet and text encoder, or go on with them; wants a trained autoencoder in RUN."""
    from streamv2v_obs.demo.train_unet import UNetPlan, train_unet

    plan = UNetPlan(
        steps=steps,
        batch=batch,
        crop=crop // 4 * 4,
        rate=rate,
        critic_from=critic_from,
        critic_share=critic_share,
        seed=seed,
        device=device,
    )
    train_unet(pool, run, plan)


@app.command()
def flats(
    pool: Folder,
    run: Folder,
    steps: Annotated[int, typer.Option(min=1)] = 7500,
    batch: Annotated[int, typer.Option(min=1, help="Whole pictures.")] = 6,
    rate: Annotated[float, typer.Option(help="Peak learning rate.")] = 1e-3,
    seed: Seed = 0,
    device: Device = "auto",
) -> None:
    """Correct the UNet of RUN in flat areas, and three styles all over; wants what `unet` or `adopt` wrote."""
    from streamv2v_obs.demo.train_flats import FlatsPlan, train_flats

    train_flats(pool, run, FlatsPlan(steps=steps, batch=batch, rate=rate, seed=seed, device=device))


@app.command()
def moving(
    folder: Folder,
    shards: Annotated[int, typer.Option(min=1, help="Parts, each of 128 scenes (57 MB).")] = 20,
    workers: Annotated[int, typer.Option(min=1)] = os.cpu_count() or 1,
    seed: Seed = 0,
) -> None:
    """Draw scenes in motion, four moments of each."""
    from streamv2v_obs.demo.moving import draw_moving_pool

    draw_moving_pool(folder, shards=shards, workers=workers, seed=seed)


@app.command()
def memory(
    pool: Annotated[Path, typer.Argument(file_okay=False, help="Of `moving`.")],
    run: Folder,
    steps: Annotated[int, typer.Option(min=1)] = 1300,
    batch: Annotated[int, typer.Option(min=2, help="Scenes.")] = 6,
    rate: Annotated[float, typer.Option(help="Peak learning rate.")] = 6e-4,
    seed: Seed = 0,
    device: Device = "auto",
) -> None:
    """Teach the UNet of RUN to leave a foreign bank alone; wants what `unet`, `flats` or `adopt` wrote."""
    from streamv2v_obs.demo.train_memory import MemoryPlan, train_memory

    train_memory(pool, run, MemoryPlan(steps=steps, batch=batch, rate=rate, seed=seed, device=device))


@app.command()
def export(run: Folder, folder: Folder) -> None:
    """Write the averaged weights as a diffusers folder in float16."""
    from streamv2v_obs.demo.export import export as write

    typer.echo(f"{folder}: {write(run, folder) / 1e6:.1f} MB")


@app.command()
def adopt(folder: Folder, run: Folder) -> None:
    """Begin a run with an exported model's weights; then `unet` trains them on, or `autoencoder --decoder-only`."""
    from streamv2v_obs.demo.export import adopt as read

    read(folder, run)


@app.command()
def blend(
    first: Folder,
    second: Folder,
    out: Folder,
    share: Annotated[float, typer.Option(help="0 gives FIRST, 1 SECOND; below and above, what lies beyond.")] = 0.5,
    since: Annotated[Path | None, typer.Option(help="Add what led from here to SECOND; else from FIRST.")] = None,
    only: Annotated[str, typer.Option(help="Regular expression: which weights, as in unet.conv_in.weight.")] = "",
) -> None:
    """Write FIRST + share (SECOND - since): a model between two of one training, or beyond them."""
    from streamv2v_obs.demo.blend import blend as write

    write(first, second, out, share=share, since=since, only=only)


@app.command()
def sheet(folder: Folder, out: Folder) -> None:
    """Draw contact sheets with the model in FOLDER."""
    from streamv2v_obs.demo.sheet import write_sheets

    for path in write_sheets(folder, out):
        typer.echo(path)


@app.command()
def evaluate(folder: Folder, scenes: Annotated[int, typer.Option(min=1)] = 12) -> None:
    """Measure the model in FOLDER."""
    from streamv2v_obs.demo.evaluate import evaluate as measure

    typer.echo(json.dumps(measure(folder, scenes), indent=2))


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    try:
        app()
    except StreamV2VError as error:
        typer.echo(f"error: {error}", err=True)
        sys.exit(error.exit_code)
