"""What all tests share: loud skips, and the closing line that CI reads."""

from __future__ import annotations

import gc
import os
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

# Set before torch is imported anywhere: spinning workers of one test would starve the processes another one started.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

# Compiled graphs of the demo model: made once for all tests and their processes, and not in the user's own folder.
_cache = tempfile.TemporaryDirectory(prefix="streamv2v-cache-")
os.environ["STREAMV2V_CACHE"] = _cache.name

COUNTS = "STREAMV2V_TEST_COUNTS"
"""Names a file that ``tests/run`` adds up: it runs pytest more than once."""

_NOT_TESTED = "NOT TESTED, needs "

Require = Callable[[str, bool, str], None]


def require_or_skip(name: str, available: bool, why: str) -> None:
    """Go on if ``available``; else fail where STREAMV2V_REQUIRE names this need, and skip loudly where it does not."""
    if available:
        return
    if name in os.environ.get("STREAMV2V_REQUIRE", "").split(","):
        pytest.fail(f"STREAMV2V_REQUIRE names {name!r}, and it is not available: {why}")
    pytest.skip(f"{_NOT_TESTED}{name}: {why}")


@pytest.fixture(scope="session")
def require() -> Require:
    """``require("obs", available, why)``, or obs30, display, browser, vcam, loop, advisories, faketime, gpu, triton"""
    return require_or_skip


@pytest.fixture(scope="module", autouse=True)
def what_is_left_open_is_told_here() -> Iterator[None]:
    """A socket or file that nobody closed is told when it is collected: here, and not in some later module's test."""
    yield
    gc.collect()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say what was not tested, each reason once with how many tests it left out."""
    # From the reports: those of other processes come here, too.
    skipped = [report.longrepr[2] for report in terminalreporter.stats.get("skipped", [])]
    reasons = Counter(said.removeprefix("Skipped: ").removeprefix(_NOT_TESTED) for said in skipped)
    for reason, tests in sorted(reasons.items()):
        terminalreporter.write_line(f"NOT TESTED HERE ({tests})  {reason}", yellow=True, bold=True)


@pytest.hookimpl(trylast=True)
def pytest_unconfigure(config: pytest.Config) -> None:
    """End with the plain count, after pytest's own last line."""
    _cache.cleanup()
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    if reporter is not None and not hasattr(config, "workerinput"):
        passed, failed, errors = (len(reporter.stats.get(kind, [])) for kind in ("passed", "failed", "error"))
        print(f"{passed} passed, {failed + errors} failed")
        if COUNTS in os.environ:
            with Path(os.environ[COUNTS]).open("a", encoding="utf-8") as counts:
                counts.write(f"{passed} {failed + errors}\n")
