"""The view of the input, in a service whose engine is not started: it is on only while somebody looks."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from streamv2v_obs import input_view as module
from streamv2v_obs.service import Service
from streamv2v_obs.settings import Settings


@pytest.fixture
def service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Service]:
    monkeypatch.setenv("STREAMV2V_RUNTIME_DIR", str(tmp_path / "run"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setattr(module, "_UNSEEN_S", 1.0)
    found = Service(Settings.model_validate({"control": {"port": 0}, "publish": {"outputs": ["browser"]}}))
    found._input.start()
    try:
        yield found
    finally:
        found.stop()
        found.join()


def until(reached: Callable[[], bool]) -> None:
    by = time.monotonic() + 10
    while not reached():
        assert time.monotonic() < by
        time.sleep(0.02)


def test_it_ends_by_itself_once_nobody_looks(service: Service) -> None:
    assert service.input_view is not None
    assert not service.status().watches_input
    for _ in range(2):  # and begins again
        service.watch_input(True)
        assert service.status().watches_input
        for _ in range(10):
            service.input_view.wait_jpeg(0, 0.2)
            assert service.watches_input, "somebody looks"
        until(lambda: not service.watches_input)
        assert not service.status().watches_input
    assert not service._engine._watch_input, "the engine sends no raw picture any more"
