"""Spoils good inputs and feeds them: counts, times, and which lines of the parsers were reached."""

from __future__ import annotations

import inspect
import json
import sys
import time
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import hypothesis
from hypothesis import strategies as st

import streamv2v_obs
from tests.fuzz.targets import Target

PACKAGE = Path(streamv2v_obs.__file__).parent
_TRACED = 300
"""Inputs whose lines are noted."""
_PATIENT = 20
_SLOWER = 10
"""So many times, while they are."""


@dataclass
class Fed:
    """What was fed to one target."""

    inputs: int = 0
    longest_s: float = 0.0
    lines: dict[str, set[int]] = field(default_factory=dict)

    def coverage(self, target: Target) -> float:
        """The share of the parsers' lines inside functions that were reached."""
        reached = wanted = 0
        for parser in target.parsers:
            name, _, function = parser.partition(":")
            lines = _lines_of(PACKAGE / name, function)
            wanted += len(lines)
            reached += len(lines & self.lines.get(name, set()))
        return reached / wanted


def spoiled(seeds: list[bytes]) -> st.SearchStrategy[bytes]:
    """Good inputs with pieces cut out, overwritten, doubled or cut off; JSON with other values; and plain noise."""

    @st.composite
    def edited(draw: st.DrawFn) -> bytes:
        data = bytearray(draw(st.sampled_from(seeds)))
        for _ in range(draw(st.integers(0, 4))):
            at, length = draw(st.integers(0, len(data))), draw(st.integers(0, 40))
            piece = draw(st.one_of(st.binary(max_size=12), st.sampled_from(_NASTY)))
            match draw(st.sampled_from("ocid")):
                case "o":
                    data[at : at + len(piece)] = piece
                case "c":
                    del data[at : at + length]
                case "i":
                    data[at:at] = piece
                case _:
                    data[at:at] = data[at : at + length]
        return bytes(data[: draw(st.integers(0, len(data)))] if draw(st.booleans()) else data)

    values: Any = st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=3),
        max_leaves=6,
    )
    trees = [tree for seed in seeds if isinstance(tree := _json(seed), dict)]

    @st.composite
    def revalued(draw: st.DrawFn) -> bytes:
        tree = json.loads(json.dumps(draw(st.sampled_from(trees))))
        node = tree
        while True:
            key = draw(st.sampled_from(sorted(node)))
            if isinstance(node[key], dict) and node[key] and draw(st.booleans()):
                node = node[key]
                continue
            node[key] = draw(values)
            return json.dumps(tree).encode()

    kinds = [edited(), st.binary(max_size=200), *([revalued()] if trees else [])]
    return st.one_of(kinds)


def feed(target: Target, inputs: int) -> Fed:
    """Feed about so many; raises on the first that crashes, hangs or is told badly."""
    found = Fed()
    seeds = list(target.seeds())

    def one(data: bytes) -> None:
        found.inputs += 1
        began_at, cpu_s = time.monotonic(), time.process_time()
        traced = found.inputs <= _TRACED
        with _Traced(found.lines) if traced else nullcontext():
            target.feed(data)
        # Other programs of a busy machine must not look like a hang of ours; sleep is looked at with patience.
        took_s = max(time.process_time() - cpu_s, (time.monotonic() - began_at) / _PATIENT)
        if not traced:
            found.longest_s = max(found.longest_s, took_s)
        assert took_s < target.longest_s * (_SLOWER if traced else 1), (
            f"{took_s:.1f} s for one input of {len(data)} bytes"
        )

    for seed in seeds:
        one(seed)
    # What was found once lies in tests as a case of its own, so nothing is kept between runs.
    quiet = hypothesis.settings(
        database=None, deadline=None, max_examples=inputs, suppress_health_check=list(hypothesis.HealthCheck)
    )
    quiet(hypothesis.given(spoiled(seeds))(one))()
    return found


class _Traced:
    """Notes the lines of the package that are run in this thread."""

    def __init__(self, lines: dict[str, set[int]]) -> None:
        self._lines = lines

    def __enter__(self) -> None:
        self._before = sys.gettrace()
        sys.settrace(self._call)

    def __exit__(self, *error: object) -> None:
        sys.settrace(self._before)

    def _call(self, frame: FrameType, event: str, argument: object) -> Any:
        path = frame.f_code.co_filename
        if not path.startswith(str(PACKAGE)):
            return None
        lines = self._lines.setdefault(Path(path).relative_to(PACKAGE).as_posix(), set())

        def line(frame: FrameType, event: str, argument: object) -> Any:
            lines.add(frame.f_lineno)
            return line

        return line


def _lines_of(path: Path, only: str = "") -> set[int]:
    """Lines inside functions, or of one of them; those of the module itself ran when it was imported."""

    def inside(code: CodeType, function: bool) -> set[int]:
        own = {line for *_, line in code.co_lines() if line is not None} if function else set()
        own -= {code.co_firstlineno}
        nested = [
            inside(one, bool(one.co_flags & inspect.CO_NEWLOCALS))
            for one in code.co_consts
            if isinstance(one, CodeType) and (function or not only or one.co_name == only)
        ]
        return own.union(*nested)

    return inside(compile(path.read_text(encoding="utf-8"), str(path), "exec"), False)


def _json(data: bytes) -> Any:
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        return None


_NASTY = [
    *(
        b"\x00",
        b"\xff\xfe",
        b"\xed\xa0\x80",
        b"&a [*a]",
        b"!!python/object:os.system x",
        b"{[",
        b": :",
        b"\t- ",
        b"<<: *a",
    ),
    *(b"1e999", b"-0", b"9" * 400, b"0x", b".inf", b"NaN", b'"', b"'", b"\r\n", b"\x81\x7e", b"\x88\x02", b"\x89\x00"),
]
