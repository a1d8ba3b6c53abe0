"""What the package depends on, at the versions installed here, held against what is known to be vulnerable."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from tests.conftest import Require

SHIPPED = "streamv2v-obs"
EXTRAS = ("hotkeys", "openvino")
"""What users may install of it; tools of the tests do not reach them."""
ACCEPTED: dict[str, str] = {}
"""Advisory -> why it does not concern this program; looked at again whenever a version changes."""
PATIENCE_S = 150


def shipped() -> dict[str, str]:
    """Name -> version of everything that an installation brings, as installed here."""
    found: dict[str, str] = {}
    waiting: list[tuple[str, tuple[str, ...]]] = [(SHIPPED, EXTRAS)]
    while waiting:
        name, extras = waiting.pop()
        try:
            distribution = importlib.metadata.distribution(name)
        except importlib.metadata.PackageNotFoundError:
            continue  # an optional one of another system
        if name in found:
            continue
        # The index knows no local versions, such as 2.10.0+cpu.
        found[name] = Version(distribution.version).public
        for line in distribution.requires or ():
            wanted = Requirement(line)
            marker = wanted.marker
            if marker is None or any(marker.evaluate({"extra": extra}) for extra in ("", *extras)):
                waiting.append((canonicalize_name(wanted.name), tuple(wanted.extras)))
    del found[SHIPPED]
    return found


def vulnerable(audited: list[dict[str, Any]]) -> set[str]:
    """What is wrong with which of them, but for what is accepted."""
    return {
        f"{one['name']} {one['version']}: {bad['id']}, mended in {', '.join(bad['fix_versions']) or 'no version yet'}"
        for one in audited
        for bad in one["vulns"]
        if bad["id"] not in ACCEPTED
    }


def test_a_vulnerable_version_is_named_with_the_one_that_mends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    bad = {"id": "PYSEC-2020-96", "fix_versions": ["5.3.1"], "aliases": ["CVE-2020-1747"], "description": "…"}
    told: list[dict[str, Any]] = [
        {"name": "h11", "version": "0.16.0", "vulns": []},
        {"name": "pyyaml", "version": "5.3", "vulns": [bad]},
    ]
    assert vulnerable(told) == {"pyyaml 5.3: PYSEC-2020-96, mended in 5.3.1"}
    monkeypatch.setitem(ACCEPTED, "PYSEC-2020-96", "only full_load, which nothing here calls")
    assert vulnerable(told) == set()


def test_what_is_installed_is_what_is_audited() -> None:
    found = shipped()
    assert {"torch", "pydantic", "uvicorn", "openvino", "h11", "websocket-client"} <= set(found)
    assert not {"pytest", "mypy", "scikit-image", SHIPPED} & set(found)


def test_no_dependency_is_known_to_be_vulnerable(tmp_path: Path, require: Require) -> None:
    require("advisories", importlib.util.find_spec("pip_audit") is not None, "pip install pip-audit")
    pinned = tmp_path / "requirements.txt"
    pinned.write_text("".join(f"{name}=={version}\n" for name, version in sorted(shipped().items())))
    words = [sys.executable, "-m", "pip_audit", "--requirement", str(pinned), "--no-deps", "--disable-pip"]
    words += ["--format", "json", "--progress-spinner", "off", "--timeout", "10"]
    unaudited = f"none of the {len(shipped())} packages that an installation brings is audited"
    try:
        ended = subprocess.run(words, capture_output=True, encoding="utf-8", timeout=PATIENCE_S)
        audited = json.loads(ended.stdout)["dependencies"]
    except (subprocess.TimeoutExpired, ValueError, KeyError):
        audited = []
    known = [one for one in audited if "skip_reason" not in one]
    require("advisories", bool(known), f"no service that knows vulnerable versions answers: {unaudited}")
    assert not vulnerable(known)
    unknown = sorted(one["name"] for one in audited if "skip_reason" in one)
    require("advisories", not unknown, f"the service does not know these, which are not audited: {', '.join(unknown)}")
