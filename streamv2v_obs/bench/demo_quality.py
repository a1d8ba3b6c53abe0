"""The demo model's pictures in figures, as one result: what its autoencoder, its styles and its bank are worth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from streamv2v_obs.bench import results
from streamv2v_obs.bench.subject import Say
from streamv2v_obs.demo.evaluate import (
    OTHER_SCENES,
    StyleFigures,
    StyleJudge,
    autoencoder_decibels,
    judge_styles,
    judged_rightly,
)
from streamv2v_obs.demo.photographs import HELD_OUT, square
from streamv2v_obs.demo.pool import held_out
from streamv2v_obs.demo.train_flats import CLEAN
from streamv2v_obs.eval.arms import ARMS, BEYOND, SETS
from streamv2v_obs.eval.statistics import ratio_of_means
from streamv2v_obs.eval.suite import SUITES, Record, donor_of, measure_clip
from streamv2v_obs.settings import ModelSettings, Settings, TranslatorSettings
from streamv2v_obs.translator.loading import Model, load_model
from streamv2v_obs.translator.presets import demo_folder

FILE = "demo_quality.json"
PROMPTS = ("an oil painting", "a pencil drawing")
_LAGS = (1, 4, 8)
_FEW = 4


def flicker(model: Model, frames: int, side: int, say: Say, clips: int | None = None) -> results.Section:
    """Error along exact motion and unrest of still scenes, with our bank and without, over ``demo`` clips.

    Ratios are of means, with a bootstrap over clips and prompts together; beside them those of the published bank.
    """
    chosen = [arm for arm in (*ARMS, *BEYOND) if arm.name in SETS["bank"]]
    specs = SUITES["demo"][:clips]
    records: list[Record] = []
    for number, spec in enumerate(specs):
        for prompt in PROMPTS:
            found, _ = measure_clip(
                model,
                spec,
                donor_of(specs, number),
                base=TranslatorSettings(),
                prompt=prompt,
                seeds=(0,),
                arms=chosen,
                frames=frames,
                side=side,
                lags=_LAGS,
            )
            records += found
        say(f"flicker: {number + 1} of {len(specs)} clips")

    def beside(values: dict[str, list[float]]) -> results.Section:
        off, on = values["off"], values["dyme by age"]
        ratio = ratio_of_means(on, off).as_json()
        published = ratio_of_means(values["dyme"], off).as_json()
        return {
            "off": round(float(np.mean(off)), 4),
            "on": round(float(np.mean(on)), 4),
            "ratio": ratio["mean"],
            "ratio_ci95": ratio["ci95"],
            "published_ratio": published["mean"],
            "published_ratio_ci95": published["ci95"],
            "n": len(off),
        }

    figures: results.Section = {}
    for lag in map(str, _LAGS):
        values = {
            arm.name: [r["warp_mse"][lag] for r in records if r["arm"] == arm.name and lag in r["warp_mse"]]
            for arm in chosen
        }
        figures[f"warp_mse_{lag}"] = beside(values)
    still = {
        arm.name: [r["static_std"] for r in records if r["arm"] == arm.name and r["static_std"] is not None]
        for arm in chosen
    }
    if still["off"]:
        figures["static_std"] = beside(still)
    sharp = {arm.name: [r["sharpness"] for r in records if r["arm"] == arm.name] for arm in chosen}
    figures["sharpness"] = beside(sharp)
    return figures


def structure(styles: Sequence[StyleFigures]) -> results.Section:
    """Shares of the input's edges found in the output, over styles; ``of_teachers`` counts from chance."""
    kept = float(np.mean([figures.edges_kept for figures in styles]))
    teachers = float(np.mean([figures.edges_taught for figures in styles]))
    chance = float(np.mean([figures.edges_by_chance for figures in styles]))
    named = {
        "kept": kept,
        "teachers": teachers,
        "chance": chance,
        "of_teachers": (kept - chance) / (teachers - chance),
    }
    return {name: round(value, 4) for name, value in named.items()}


def flats(styles: Mapping[str, StyleFigures]) -> results.Section:
    """How even the answers are where the teachers' are flat, of the styles that leave flat areas flat; grey levels."""
    found: results.Section = {name: styles[name].uneven for name in sorted(CLEAN)}
    found["worst"] = max((value for value in found.values() if value is not None), default=None)
    return found


def measure(folder: Path | None, scenes: int, frames: int, out: Path, say: Say) -> Path:
    """Write ``out``/demo_quality.json of the model in ``folder``, or of the one that ships."""
    load_before = results.load_now()
    model = load_model(ModelSettings(name=str(folder) if folder else "demo", device="cpu", backend="torch"))
    side = model.width
    pictures = [*(square(name, side) for name in HELD_OUT), *held_out(scenes, OTHER_SCENES)]
    judge = StyleJudge()
    say("autoencoder")
    found: results.Section = {"autoencoder_db": autoencoder_decibels(model, scenes), "recognised": {}, "styles": {}}
    for steps in (2, 1, 4):
        say(f"styles, {steps} steps")
        styles = judge_styles(model, judge, pictures if steps == 2 else pictures[:_FEW], steps=steps)
        found["styles"][str(steps)] = {name: vars(figures) for name, figures in styles.items()}
        found["recognised"][str(steps)] = round(float(np.mean([s.named for s in styles.values()])), 4)
        if steps == 2:
            found["structure"] = structure(list(styles.values()))
            found["flats"] = flats(styles)
    found["judge"] = judged_rightly(judge)
    found["flicker"] = flicker(model, frames, side, say)
    weights = sorted((folder or demo_folder()).rglob("*.safetensors"))
    found["weights_mb"] = round(sum(path.stat().st_size for path in weights) / 1e6, 3)
    path = out / FILE
    results.write(
        path,
        "quality",
        command=results.command_line(),
        env=results.environment("cpu", load_before),
        config=results.configuration(
            Settings(),
            model=str(folder) if folder else "demo",
            dtype=str(model.dtype).removeprefix("torch."),
            schedule="stream",
            width=side,
            height=side,
        ),
        protocol={
            "warmup_frames": 0,
            "timed_frames": 0,
            "repeats": 1,
            "timer": "perf_counter+sync",
            "input": f"{len(HELD_OUT)} held-out photographs, {scenes} drawn scenes; {len(SUITES['demo'])} clips of "
            f"{frames} frames with exact flow, two prompts",
        },
        results=found,
        checks=[],
        notes="Nothing was timed. recognised: share of pictures whose style a judge made of the teachers' answers "
        f"names rightly; with 1 and 4 steps over the first {_FEW} pictures. judge: the share of the teachers' own "
        "answers to other scenes that he names rightly, by the blur (pixels) they were given. "
        "structure: of the tenth of the input with "
        "the steepest gradient, the share that has such a place of the output within two pixels; chance: the same "
        "for another picture's edges. flats: the mean deviation, in grey levels, within 24 pixels where the teacher's "
        "own answer has less than half a level. flicker: the delay of the stream batch is taken out; off and on are "
        "means; on merges by age (translator.bank.partition), published by random halves.",
    )
    return path
