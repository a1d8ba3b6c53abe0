"""Spoils good inputs and feeds them: counts, times, and which lines of the parsers were reached."""

from __future__ import annotations

import ast
import json
import time
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import coverage
import hypothesis
from hypothesis import strategies as st

import streamv2v_obs
from tests.fuzz.targets import Target

PACKAGE = Path(streamv2v_obs.__file__).parent
_SLOWER = 10
"""So many times, while they are watched: the tracer is called for each call of every library, too."""
_PATIENT = 20


@dataclass
class Fed:
    """What was fed to one target."""

    inputs: int = 0
    longest_s: float = 0.0
    seconds: float = 0.0
    coverage: dict[str, float] = field(default_factory=dict)
    """Of each parser, the share of the lines inside its functions that were reached."""


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
    files = [str(PACKAGE / parser.partition(":")[0]) for parser in target.parsers]
    watching = coverage.Coverage(data_file=None, config_file=False, include=files)

    def one(data: bytes) -> None:
        found.inputs += 1
        began_at, cpu_s = time.monotonic(), time.process_time()
        watched = found.inputs <= target.watched
        with watching.collect() if watched else nullcontext():
            target.feed(data)
        # Other programs of a busy machine must not look like a hang of ours; sleep is looked at with patience.
        took_s = max(time.process_time() - cpu_s, (time.monotonic() - began_at) / _PATIENT)
        if not watched:
            found.longest_s = max(found.longest_s, took_s)
        limit_s = target.longest_s * (_SLOWER if watched else 1)
        assert took_s < limit_s, f"{took_s:.1f} s for one input of {len(data)} bytes"

    # What was found once lies in tests as a case of its own, so nothing is kept between runs.
    quiet = hypothesis.settings(
        database=None, deadline=None, max_examples=inputs, suppress_health_check=list(hypothesis.HealthCheck)
    )
    began_at = time.monotonic()
    for seed in seeds:
        one(seed)
    quiet(hypothesis.given(spoiled(seeds))(one))()
    found.seconds = time.monotonic() - began_at
    found.coverage = {parser: _reached(watching, parser) for parser in target.parsers}
    return found


def _reached(watching: coverage.Coverage, parser: str) -> float:
    """The share of a parser's lines that were reached: those inside functions, or of one of them.

    The module's own lines ran when it was imported.
    """
    name, _, function = parser.partition(":")
    path = PACKAGE / name
    _, statements, _, missing, _ = watching.analysis2(str(path))
    inside: set[int] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef) and function in ("", node.name):
            inside.update(range(node.body[0].lineno, (node.end_lineno or node.lineno) + 1))
    wanted = inside & set(statements)
    return len(wanted - set(missing)) / len(wanted)


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
