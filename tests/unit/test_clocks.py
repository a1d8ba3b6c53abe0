"""A clock that jumps (NTP, another time zone) moves nothing: no wall clock is asked for durations."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "streamv2v_obs"
OFFLINE = ("bench", "demo", "eval")
"""They measure with other clocks too, and name the date of a result."""
SOURCES = sorted(path for path in PACKAGE.rglob("*.py") if path.relative_to(PACKAGE).parts[0] not in OFFLINE)
JUMPING = {"time.time", "time.time_ns", "datetime.now", "datetime.utcnow", "datetime.datetime.now"}


@pytest.mark.parametrize("path", SOURCES, ids=[path.relative_to(PACKAGE).as_posix() for path in SOURCES])
def test_only_clocks_that_never_jump_are_asked(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call):
            assert ast.unparse(node.func) not in JUMPING, f"{path.relative_to(PACKAGE)}:{node.lineno}"
