"""Goals beside committed results: what is met, what is missed, what nobody has measured yet."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

import yaml
from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError, model_validator

from streamv2v_obs.errors import ConfigError

GOALS = Path(__file__).with_name("goals.yaml")

Value: TypeAlias = bool | float | str
Verdict: TypeAlias = Literal["met", "missed", "no result"]


class Goal(BaseModel):
    """One line of goals.yaml. Exactly one of ``at_least``, ``at_most`` and ``is_`` (written ``is``) is given."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str
    what: str
    file: str
    figure: str
    about: dict[str, Value] = {}
    at_least: float | None = None
    at_most: float | None = None
    is_: bool | None = None
    target: float | None = None
    unit: str = ""

    @model_validator(mode="before")
    @classmethod
    def _spelled_is(cls, given: Any) -> Any:
        return {("is_" if key == "is" else key): value for key, value in given.items()}

    @model_validator(mode="after")
    def _one_limit(self) -> Goal:
        if sum(limit is not None for limit in (self.at_least, self.at_most, self.is_)) != 1:
            raise ValueError(f"goal {self.id}: needs one of at_least, at_most and is")
        return self

    def met_by(self, value: float) -> bool:
        """Whether the value is as it must be."""
        if self.is_ is not None:
            return bool(value) is self.is_
        return value >= self.at_least if self.at_least is not None else value <= (self.at_most or 0.0)

    def reaches_target(self, value: float) -> bool:
        """Whether there is a target, and the value is as good."""
        if self.target is None:
            return False
        return value >= self.target if self.at_least is not None else value <= self.target

    @property
    def must(self) -> str:
        """The limit in words."""
        if self.is_ is not None:
            return "yes" if self.is_ else "no"
        sign, limit = (">=", self.at_least) if self.at_least is not None else ("<=", self.at_most)
        return f"{sign} {limit:g}{f' {self.unit}' if self.unit else ''}"


@dataclass(frozen=True)
class Judged:
    """A goal, its verdict, and the value or what is wrong."""

    group: str
    goal: Goal
    verdict: Verdict
    said: str

    @property
    def line(self) -> str:
        """For people."""
        return f"{self.verdict:<9} {self.group}/{self.goal.id}: {self.goal.what}: {self.said} (must: {self.goal.must})"


def read_goals(path: Path = GOALS) -> dict[str, list[Goal]]:
    """Group -> goals. Raises ConfigError naming the file and the goal."""
    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
        return TypeAdapter(dict[str, list[Goal]]).validate_python(found)
    except (OSError, yaml.YAMLError, ValidationError) as error:
        raise ConfigError(f"{path}: {' '.join(str(error).split())}") from error


def figure(result: Any, path: str) -> Any:
    """What stands at a dotted path; a number counts into a list. Raises KeyError."""
    found = result
    for part in path.split("."):
        if isinstance(found, list) and part.isdigit() and int(part) < len(found):
            found = found[int(part)]
        elif isinstance(found, dict) and part in found:
            found = found[part]
        else:
            raise KeyError(path)
    return found


def judge(group: str, goal: Goal, folder: Path) -> Judged:
    """Look a goal up in ``folder``."""
    path = folder / goal.file
    if not path.is_file():
        return Judged(group, goal, "no result", f"there is no {goal.file}")
    result = json.loads(path.read_text(encoding="utf-8"))
    for where, wanted in goal.about.items():
        try:
            found = figure(result, where)
        except KeyError:
            return Judged(group, goal, "no result", f"{goal.file} does not say its {where}")
        fits = wanted.lower() in str(found).lower() if isinstance(wanted, str) else found == wanted
        if not fits:
            return Judged(group, goal, "no result", f"{goal.file} is about {where} = {found}, not {wanted}")
    try:
        value = figure(result, goal.figure)
    except KeyError:
        return Judged(group, goal, "no result", f"{goal.file} has no {goal.figure}")
    if not isinstance(value, int | float):
        return Judged(group, goal, "no result", f"{goal.file}: {goal.figure} is no figure: {value}")
    said = ("yes" if value else "no") if isinstance(value, bool) else f"{value:g} {goal.unit}".strip()
    if goal.reaches_target(value):
        said += ", the target too"
    elif goal.target is not None:
        said += f", target {goal.target:g}"
    if result["git"]["dirty"]:
        said += ", measured with uncommitted changes"
    return Judged(group, goal, "met" if goal.met_by(value) else "missed", said)


def judge_all(folder: Path, groups: Sequence[str] = (), goals: Path = GOALS) -> list[Judged]:
    """Every goal of ``groups`` (none: all). Raises ConfigError for a group that is not there."""
    known = read_goals(goals)
    unknown = [group for group in groups if group not in known]
    if unknown:
        raise ConfigError(f"--group {unknown[0]}: allowed are {', '.join(known)}")
    return [judge(group, goal, folder) for group in groups or known for goal in known[group]]
