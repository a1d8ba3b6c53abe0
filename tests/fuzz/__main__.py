"""``python -m tests.fuzz 10000 [TARGET ..]``: so many inputs for each; ``--guided``: atheris looks for paths.

``--out tests/fuzz/fuzzed.json`` writes down what came of it, beside what other runs on the same commit wrote there;
``python -m tests.fuzz.page`` puts that into the developer's page.
"""

from __future__ import annotations

import argparse
import json
import platform
import re
import subprocess
import sys
import time
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path
from typing import Any

from tests.fuzz.drive import feed
from tests.fuzz.targets import TARGETS

_ROOT = Path(__file__).parents[2]
_DONE = re.compile(r"^#(\d+)\s+DONE\s+cov: (\d+)", re.MULTILINE)


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("inputs", type=int, nargs="?", default=10_000)
    # argparse holds the default, too, against the choices: none named is a choice, and means all of them.
    parser.add_argument("targets", nargs="*", choices=[*TARGETS, []], default=[], metavar="TARGET")
    parser.add_argument("--guided", action="store_true")
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    for name in given.targets or TARGETS:
        found = _guided(name, given.inputs) if given.guided else _spoiled(name, given.inputs)
        print(f"{name}: {json.dumps(found)}", flush=True)
        if given.out is not None:
            _write(given.out, "guided" if given.guided else "spoiled", name, found)


def _spoiled(name: str, inputs: int) -> dict[str, Any]:
    """Raises on the first input that crashes, hangs or is told badly, so what it returns has neither."""
    found = feed(TARGETS[name], inputs)
    return {
        "inputs": found.inputs,
        "crashes": 0,
        "hangs": 0,
        "seconds": round(found.seconds, 1),
        "longest_s": round(found.longest_s, 3),
        "coverage": {parser: round(share, 3) for parser, share in found.coverage.items()},
        "coverage.py": version("coverage"),
    }


def _guided(name: str, inputs: int) -> dict[str, Any]:
    """Likewise. It never gives its process back, so each target has one of its own."""
    began_at = time.monotonic()
    words = [sys.executable, "-m", "tests.fuzz.guided", name, str(inputs)]
    ended = subprocess.run(words, capture_output=True, encoding="utf-8", errors="replace")
    done = _DONE.search(ended.stderr)
    if ended.returncode or done is None:
        sys.exit(f"{name}: exit code {ended.returncode}\n{ended.stderr[-5000:]}")
    return {
        "inputs": int(done[1]),
        "crashes": 0,
        "hangs": 0,
        "seconds": round(time.monotonic() - began_at, 1),
        "branches": int(done[2]),
        "atheris": version("atheris"),
    }


def _write(path: Path, how: str, name: str, found: dict[str, Any]) -> None:
    commit = _git("rev-parse", "HEAD")
    told: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    if told.get("commit") != commit:
        told = {"commit": commit}
    told |= {
        "created_utc": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "dirty": bool(_git("status", "--porcelain", "--", ".", f":(exclude,glob)**/{path.name}")),
        "python": platform.python_version(),
    }
    told.setdefault(how, {})[name] = found
    path.write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")


def _git(*words: str) -> str:
    return subprocess.run(["git", *words], cwd=_ROOT, capture_output=True, text=True, check=True).stdout.strip()


if __name__ == "__main__":
    main()
