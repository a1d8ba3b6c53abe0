"""What the tests with real tensors share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Tiny tensors gain nothing from more, and the other tests' processes want the cores."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def models_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where presets are looked for, in place of the user's own folder."""
    folder = tmp_path / "models"
    folder.mkdir()
    monkeypatch.setenv("STREAMV2V_MODELS", str(folder))
    return folder
