"""One evaluation: every clip, prompt, seed and arm, spread over processes, resumed where it was interrupted."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import cv2
import torch
from platformdirs import user_cache_path

from streamv2v_obs.errors import ConfigError
from streamv2v_obs.eval.arms import APPENDIX, ARMS, BEYOND, NOISE, SETS, Arm
from streamv2v_obs.eval.metrics import LAGS
from streamv2v_obs.eval.pictures import write_pictures
from streamv2v_obs.eval.suite import ClipSpec, Record, donor_of, measure_clip
from streamv2v_obs.processes import in_processes
from streamv2v_obs.settings import ModelSettings, TranslatorSettings
from streamv2v_obs.translator.loading import Model, load_model
from streamv2v_obs.translator.origins import check_name

SHOWN_KINDS = ("still", "parallax", "hidden", "video")


@dataclass(frozen=True)
class Plan:
    """What is evaluated. Each (clip, prompt) is one job; its records are those of all seeds and arms."""

    model: ModelSettings
    base: TranslatorSettings
    specs: tuple[ClipSpec, ...]
    prompts: tuple[str, ...]
    seeds: tuple[int, ...]
    arms: tuple[Arm, ...]
    frames: int = 20
    side: int = 256
    lags: tuple[int, ...] = LAGS

    def fingerprint(self, code: str, weights: str) -> str:
        """Of all that decides the records: only records of the same one may be put together."""
        described = {
            "model": self.model.model_dump(mode="json"),
            "base": self.base.model_dump(mode="json"),
            "specs": [
                asdict(spec) | {"path": str(spec.path), "files": [] if spec.path is None else stamps([spec.path])}
                for spec in self.specs
            ],
            "arms": [asdict(arm) for arm in self.arms],
            "rest": [self.prompts, self.seeds, self.frames, self.side, self.lags, code, weights],
        }
        return hashlib.sha256(json.dumps(described, sort_keys=True).encode()).hexdigest()[:16]

    @property
    def jobs(self) -> list[tuple[int, int]]:
        """Numbers of clip and prompt."""
        return [(clip, prompt) for clip in range(len(self.specs)) for prompt in range(len(self.prompts))]

    def shows(self, clip: int, prompt: int) -> bool:
        """Whether the report shows this job's pictures: the first clip of some kinds, with the first prompt."""
        kinds = [spec.kind for spec in self.specs]
        return prompt == 0 and kinds[clip] in SHOWN_KINDS and kinds.index(kinds[clip]) == clip


def stamps(paths: Iterable[Path]) -> list[str]:
    """Path, size and time of change of each file, and of those in each folder; what is not there is left out."""
    found = []
    for path in paths:
        for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
            if file.is_file():
                about = file.stat()
                found.append(f"{file.absolute()} {about.st_size} {about.st_mtime_ns}")
    return found


def choose_arms(names: Sequence[str], variants: Sequence[Arm] = ()) -> tuple[Arm, ...]:
    """Arms by name or by the name of a set, ``off`` always among them, in the order of ``ARMS``, then ``variants``.

    Raises ConfigError for a name that is not known, and for a variant of a name that is taken.
    """
    every = (*ARMS, *APPENDIX, *BEYOND, *NOISE)
    known = {arm.name for arm in every}
    wanted = {"off"}
    for name in names:
        if name not in known and name not in SETS:
            raise ConfigError(f"--arms {name}: allowed are {', '.join([*SETS, *sorted(known)])}")
        wanted |= set(SETS.get(name, (name,)))
    taken = set(known)
    for variant in variants:
        if variant.name in taken:
            raise ConfigError(f"--variant {variant.name}: there is an arm of this name; choose another one")
        taken.add(variant.name)
    return (*(arm for arm in every if arm.name in wanted), *variants)


def read_variant(text: str) -> Arm:
    """``NAME: key=value, key=value`` with keys of translator.bank, translator.fusion or translator itself."""
    name, colon, rest = text.partition(":")
    changes: dict[str, Any] = {}
    for part in rest.split(","):
        key, equals, value = part.strip().partition("=")
        if not colon or not equals or not name.strip():
            raise ConfigError(f"--variant {text!r}: write NAME: bank.interval=8, fusion.site=block")
        try:
            read: Any = json.loads(value)
        except json.JSONDecodeError:
            read = value
        section, dot, inner = key.partition(".")
        if dot:
            changes.setdefault(section, {})[inner] = read
        else:
            changes[section] = read
    return Arm(name.strip(), changes)


def check_arms(plan: Plan) -> None:
    """Raise ConfigError for an arm whose settings are not right, before anything is run."""
    for arm in plan.arms:
        try:
            arm.settings(plan.base, plan.prompts[0], plan.seeds[0])
        except (KeyError, TypeError, ValueError) as error:
            raise ConfigError(f"arm {arm.name}: {' '.join(str(error).split())}") from error


# --- a job, in a process of its own -------------------------------------------------------------------------

_model: Model | None = None


def _start(settings: ModelSettings, threads: int) -> None:
    global _model
    torch.set_num_threads(threads)
    cv2.setNumThreads(1)
    _model = load_model(settings)


def job_path(folder: Path, clip: int, prompt: int) -> Path:
    """Where a job's records lie when it is done."""
    return folder / f"{clip:03d}-{prompt:02d}.json"


def run_job(model: Model, plan: Plan, folder: Path, clip: int, prompt: int) -> None:
    """Measure one clip with one prompt, and write its records, and the pictures to show, into ``folder``."""
    records, shown = measure_clip(
        model,
        plan.specs[clip],
        donor_of(plan.specs, clip),
        base=plan.base,
        prompt=plan.prompts[prompt],
        seeds=plan.seeds,
        arms=plan.arms,
        frames=plan.frames,
        side=plan.side,
        lags=plan.lags,
    )
    if plan.shows(clip, prompt):
        write_pictures(folder, clip, shown)
    path = job_path(folder, clip, prompt)
    half = path.with_suffix(".part")
    half.write_text(json.dumps(records), encoding="utf-8")
    # Last: a job counts from here on, so that one half done by a killed run is done again.
    half.replace(path)


def _job(plan: Plan, folder: Path, clip: int, prompt: int) -> None:
    if _model is None:
        raise RuntimeError("this process was not started by run")
    run_job(_model, plan, folder, clip, prompt)


def work_folder(fingerprint: str) -> Path:
    """Where an evaluation keeps what it has done so far."""
    folder = user_cache_path("streamv2v-obs", appauthor=False) / "eval" / fingerprint
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def run(plan: Plan, folder: Path, processes: int, tell: Callable[[int, int], None]) -> list[Record]:
    """Do what is missing in ``folder``, and give all records; ``tell`` hears how many jobs are done, of how many."""
    check_arms(plan)
    # Before the processes: what is wrong with a model is one line then, and not one from each.
    check_name(plan.model.name)
    missing = [job for job in plan.jobs if not job_path(folder, *job).is_file()]
    total = len(plan.jobs)
    tell(total - len(missing), total)
    # One thread each where there are as many processes as cores: small matrices gain little from two.
    threads = max(1, (os.cpu_count() or 1) // processes)
    tasks = [(plan, folder, *job) for job in missing]
    with in_processes(_job, tasks, processes, _start, (plan.model, threads)) as done:
        for number, _ in enumerate(done, total - len(missing) + 1):
            tell(number, total)
    return [record for job in plan.jobs for record in json.loads(job_path(folder, *job).read_text(encoding="utf-8"))]
