"""One line of the doctor's."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

Verdict: TypeAlias = Literal["ok", "note", "fail"]


@dataclass(frozen=True)
class Check:
    """``fail``: it cannot run so. ``note``: it runs, with less than there could be. ``fix`` may be empty."""

    name: str
    verdict: Verdict
    detail: str
    fix: str = ""
