"""Shared memory that outlived its service: removed by the next one, and nothing else is."""

from __future__ import annotations

from multiprocessing.shared_memory import SharedMemory
from pathlib import Path

import pytest

from streamv2v_obs.engine import leftovers
from streamv2v_obs.engine.slot import FrameSlot


def test_what_is_noted_is_removed_and_nothing_else(tmp_path: Path) -> None:
    left, other = SharedMemory(create=True, size=64), FrameSlot.create(64)
    left.close()
    leftovers.note(tmp_path, [left.name, "psm_of_nobody"])
    leftovers.remove(tmp_path)
    with pytest.raises(FileNotFoundError):
        SharedMemory(name=left.name)
    assert list(tmp_path.iterdir()) == []
    other.close()  # which would fail


@pytest.mark.parametrize("text", ["", "{", "7", '[7, null, "a/b/c", "\\u0000"]', '{"a": 1}'])
def test_a_note_that_is_garbage_stops_no_service(tmp_path: Path, text: str) -> None:
    (tmp_path / "shared-memory.json").write_text(text)
    leftovers.remove(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_nothing_was_left(tmp_path: Path) -> None:
    leftovers.remove(tmp_path)
    leftovers.note(tmp_path, ["psm_x"])
    leftovers.forget(tmp_path)
    leftovers.forget(tmp_path)
    assert list(tmp_path.iterdir()) == []
