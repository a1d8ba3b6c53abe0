"""Ours beside the published order of operations: in one process, in turns, and first shown to paint the same."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from torch import Tensor

from streamv2v_obs.bench import results
from streamv2v_obs.bench.reference import ReferenceTranslator
from streamv2v_obs.bench.subject import Say, Subject
from streamv2v_obs.bench.throughput import Effort, protocol, time_arms
from streamv2v_obs.bench.timing import Arm, moving_input, waiting
from streamv2v_obs.errors import ConfigError
from streamv2v_obs.frames import Frame
from streamv2v_obs.settings import TranslatorSettings
from streamv2v_obs.translator.merging import partitions
from streamv2v_obs.translator.translator import Translator


def pictures_alike(subject: Subject, settings: TranslatorSettings, frames: int) -> tuple[float, float]:
    """PSNR in dB and the largest difference in grey levels of both arms' pictures; the partitions are the same.

    Identical pictures give 100 dB.
    """
    size = subject.width, subject.height
    ours = Translator(subject.model, settings, width=size[0], height=size[1])
    theirs = ReferenceTranslator(subject.model, settings, *size)

    def draw(update: int, layer: int, rows: int) -> Tensor:
        return partitions(settings.bank.partition, settings.seed, update, rows, theirs.tokens)[layer]

    theirs.draw = draw
    _, pictures = moving_input(*size)
    errors = []
    furthest = 0.0
    try:
        for number in range(frames):
            frame = Frame(next(pictures), float(number), number)
            first, second = ours.step(frame), theirs.step(frame)
            if first is None or second is None:
                raise RuntimeError("a live translator answers from the first picture on")
            difference = first.pixels.astype(np.float64) - second.pixels.astype(np.float64)
            errors.append(float(np.mean(np.square(difference))))
            furthest = max(furthest, float(np.abs(difference).max()))
    finally:
        theirs.close()
        ours.close()
    mean = float(np.mean(errors))
    return (min(100.0, 10 * float(np.log10(255**2 / mean))) if mean > 0 else 100.0), furthest


def compare(subject: Subject, effort: Effort, out: Path, say: Say) -> Path:
    """Write ``out``/compare_NAME.json. Raises ConfigError for a bank that the published method does not have.

    torch computes both arms, whatever model.backend says: OpenVINO has no order of operations to compare.
    """
    subject = replace(subject, model=replace(subject.model, backend="torch"))
    settings = subject.translator(schedule="stream")
    if settings.bank.kind != "dyme" or not settings.bank.attend or settings.fusion.site != "attention":
        raise ConfigError(
            "compare knows the published method alone: set translator.bank.kind=dyme, translator.bank.attend=true "
            "and translator.fusion.site=attention"
        )
    alike_frames = 3 * settings.bank.interval + 2
    psnr, furthest = pictures_alike(subject, settings, alike_frames)
    say(f"{alike_frames} pictures of both: {psnr:.1f} dB alike, {furthest:.0f} grey levels apart at most")
    ours, described = subject.arm("ours", schedule="stream")
    _, pictures = moving_input(subject.width, subject.height)
    reference = ReferenceTranslator(subject.model, settings, subject.width, subject.height)
    theirs = Arm("reference", reference, pictures, waiting(subject.model), settings.steps - 1)
    try:
        warm, steady = time_arms([ours, theirs], subject, effort)
        speedup, interval = results.ratio_of_medians(theirs.blocks_ms, ours.blocks_ms)
        found = ours.figures()
        found["compare"] = {
            "baseline_impl": "reference-eager",
            "baseline_ms_p50": round(float(np.median(theirs.blocks_ms)), 3),
            "ours_ms_p50": round(float(np.median(ours.blocks_ms)), 3),
            "speedup": speedup,
            "speedup_ci95": interval,
            "psnr_db": round(psnr, 2),
            "max_grey_levels": furthest,
            "frames_compared": alike_frames,
        }
    finally:
        reference.close()
        ours.translator.close()
    say(f"ours is {speedup} times as fast as the published order of operations {interval}")
    return subject.write(
        out / f"compare_{subject.name}.json",
        "compare",
        ours.translator,
        protocol(effort, warm, described, interleaved=True, timed=len(ours.frame_ms) // effort.repeats),
        found,
        "The reference is ours, written after the paper: keys and values concatenated, the whole similarity matrix, "
        "merging inside the call. Both arms share model, autoencoder and stream batch, and torch computes "
        "both. 100 dB: identical.",
        [{"name": "three windows of the warm-up agreed within 2 %", "pass": steady}],
    )
