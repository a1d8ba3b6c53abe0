"""Every reader of foreign bytes with a few hundred spoiled inputs; ``python -m tests.fuzz`` feeds any number."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from streamv2v_obs.errors import ModelLoadError
from streamv2v_obs.translator.safe_weights import read_description
from tests.fuzz import page
from tests.fuzz.drive import feed
from tests.fuzz.targets import TARGETS

FEW = {"config": 60, "obs-server": 30, "video": 60}


@pytest.mark.parametrize("name", TARGETS)
def test_hostile_bytes_are_refused_in_one_line(name: str) -> None:
    found = feed(TARGETS[name], FEW.get(name, 200))
    assert found.inputs >= FEW.get(name, 200)
    assert min(found.coverage.values()) > 0.3, "the inputs get nowhere"


def test_a_description_nested_a_thousand_deep_is_no_json(tmp_path: Path) -> None:
    """Found by the fuzzer: the library's RecursionError came through."""
    path = tmp_path / "config.json"
    path.write_bytes(b"[" * 3000)
    with pytest.raises(ModelLoadError, match=r"no readable JSON .*; download it again"):
        read_description(path)


def test_the_page_shows_what_the_committed_runs_found() -> None:
    shown = page.PAGE.read_text(encoding="utf-8")
    assert page.filled(shown) == shown
    told = json.loads(page.READERS.read_text(encoding="utf-8"))
    assert not told["dirty"]
    assert set(told["spoiled"]) == set(TARGETS) == set(page._NAMES), "every reader was fed"
