"""The evaluation as a result file and a page: what ``streamv2v-obs eval`` does."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from streamv2v_obs.bench import results
from streamv2v_obs.bench.subject import Say
from streamv2v_obs.errors import ConfigError
from streamv2v_obs.eval.arms import Arm
from streamv2v_obs.eval.evaluation import Plan, choose_arms, run, stamps, work_folder
from streamv2v_obs.eval.report import render
from streamv2v_obs.eval.suite import SUITES, videos
from streamv2v_obs.eval.summary import summarize
from streamv2v_obs.settings import ModelSettings, Settings
from streamv2v_obs.translator.devices import choose_device, choose_dtype
from streamv2v_obs.translator.origins import Origin, find

PROMPTS = ("an oil painting", "a watercolor", "a pencil drawing")
"""Pencil too, though the demo model hatches at 32x32, where no attention is: a table leaves out nothing that fails."""


@dataclass(frozen=True)
class Wish:
    """What was asked for on the command line."""

    suite: str
    folder: Path | None
    prompts: Sequence[str]
    seeds: int
    arms: Sequence[str]
    variants: Sequence[Arm]
    frames: int
    side: int
    processes: int | None


def make_plan(settings: Settings, wish: Wish) -> Plan:
    """Without the arm ``foreign`` where there is no other clip to take features from.

    Raises ConfigError for a suite, an arm or a folder that is not there.
    """
    if wish.folder is None and wish.suite not in SUITES:
        raise ConfigError(f"--suite {wish.suite}: allowed are {', '.join(SUITES)}")
    specs = videos(wish.folder) if wish.folder is not None else SUITES[wish.suite]
    arms = choose_arms(wish.arms or ["all"], wish.variants)
    if len(specs) < 2:  # the one clip would be shown its own features
        arms = tuple(arm for arm in arms if arm.control != "foreign")
    return Plan(
        model=settings.model,
        base=settings.translator,
        specs=specs,
        prompts=tuple(wish.prompts or PROMPTS),
        seeds=tuple(range(wish.seeds)),
        arms=arms,
        frames=wish.frames,
        side=wish.side,
    )


def file_name(wish: Wish) -> str:
    """The whole of the held-out suite is ``quality.json``; a part of the arms, or another suite, is named so."""
    arms = [] if "all" in (wish.arms or ["all"]) else [arm.replace(",", "").replace(" ", "-") for arm in wish.arms]
    suite = wish.folder.name if wish.folder is not None else wish.suite
    return "_".join(["quality", *arms, *([] if suite == "held-out" else [suite])]) + ".json"


def processes_for(settings: Settings, wished: int | None) -> int:
    """One on a GPU; on a CPU one for each core, since a small model gains little from two."""
    on_gpu = choose_device(settings.model.device).type == "cuda"
    return wished or (1 if on_gpu else os.cpu_count() or 1)


def sources() -> str:
    """Of the package's code as it lies here, committed or not."""
    package = Path(__file__).parents[1]
    digest = hashlib.sha256()
    for path in sorted(package.rglob("*.py")):
        digest.update(path.relative_to(package).as_posix().encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()


def weights_of(settings: ModelSettings, origin: Origin) -> str:
    """All files that the model is read from, with size and time of change."""
    ours = (origin.path, origin.config, origin.tiny_autoencoder, *origin.loras)
    named = (settings.autoencoder, *(lora.path for lora in (*settings.loras, *settings.styles.values())))
    given = (Path(name).expanduser() for name in named)
    return "\n".join(stamps([*(path for path in ours if path is not None), *given]))


def evaluate(
    settings: Settings, wish: Wish, out: Path, report: Path, tell: Callable[[int, int], None], say: Say
) -> Path:
    """Run what is missing, write ``out``/quality*.json and the page ``report``. Resumed where it was interrupted."""
    load_before = results.load_now()
    origin = find(settings.model.name, choose_device(settings.model.device), say)
    if settings.model.name == "auto":  # which may be another one tomorrow
        settings = settings.model_copy(update={"model": settings.model.model_copy(update={"name": origin.name})})
    plan = make_plan(settings, wish)
    name = settings.model.name
    if len(plan.arms) < len(choose_arms(wish.arms or ["all"], wish.variants)):
        say("one clip alone: without the arm foreign, which takes another clip's features")
    code = results.commit()
    work = work_folder(plan.fingerprint(sources(), weights_of(settings.model, origin)))
    say(f"{len(plan.jobs)} jobs of {len(plan.arms)} arms and {len(plan.seeds)} seeds; what is done lies in {work}")
    records = run(plan, work, processes_for(settings, wish.processes), tell)
    found = summarize(records)
    for pair in found["quality"]["order_pairs"]:
        low, high = pair["delta"]["ci95"]
        verdict = "holds" if pair["holds"] else "DOES NOT HOLD"
        say(f"{pair['name']}: {verdict}; difference {pair['delta']['mean']:.4g} ({low:.4g} to {high:.4g})")
    for arm in found["quality"]["arms"]:
        ratios = ", ".join(
            f"lag {lag} {entry['ratio']['mean']:.4f}" for lag, entry in arm["by_lag"].items() if entry["ratio"]
        )
        say(f"{arm['name']}: warp error beside no bank: {ratios}; sharpness {arm['sharpness_ratio']['mean']:.3f}")
    device = choose_device(settings.model.device)
    dtype = str(choose_dtype(settings.model.dtype, device)).removeprefix("torch.")
    suite = wish.suite if wish.folder is None else wish.folder.name
    lengths = " or ".join(str(length) for length in sorted({spec.frames(plan.frames) for spec in plan.specs}))
    shown = (
        f"{len(plan.specs)} clips ({suite}) of {lengths} frames, {len(plan.seeds)} seeds, "
        f"prompts {', '.join(plan.prompts)}"
    )
    about = f"{shown}; {plan.side}x{plan.side}, model {name}, {plan.base.steps} steps, {dtype}, commit {code[:12]}"
    page = render(plan, found, work, "Flicker, with and without the feature bank", about)
    report.parent.mkdir(parents=True, exist_ok=True)
    report.write_text(page, encoding="utf-8")
    path = out / file_name(wish)
    results.write(
        path,
        "quality",
        command=results.command_line(),
        env=results.environment(str(device), load_before, torch.get_num_threads()),
        config=results.configuration(
            settings,
            model=name,
            dtype=dtype,
            schedule="stream" if plan.base.steps > 1 and plan.base.schedule != "sequential" else "sequential",
            width=plan.side,
            height=plan.side,
        ),
        protocol={
            "warmup_frames": 0,
            "timed_frames": plan.specs[0].frames(plan.frames),
            "repeats": len(plan.seeds),
            "timer": "perf_counter+sync",
            "input": shown,
        },
        results=found,
        checks=[{"name": name, "pass": held} for name, held in found["holds"].items()],
        notes="warp_mse: grey levels squared, along the clip's exact flow (real clips: DIS flow of the input with a "
        "forward-backward check) where a pixel is seen in every frame between, the stream batch's delay taken out. "
        "Figures are means over clips, of each clip's mean over prompts and seeds; intervals are a paired bootstrap "
        "over clips. Controls ran with the first seed alone. ms is the UNet alone, several processes at work. "
        "No CLIP score was taken.",
    )
    return path
