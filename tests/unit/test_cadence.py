"""Sources keep absolute deadlines: no drift, no spinning, whole beats lost after a delay."""

from __future__ import annotations

import pytest

from streamv2v_obs.capture.cadence import Cadence


class _Time:
    """A clock that moves when someone sleeps."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.slept: list[float] = []

    def __call__(self) -> float:
        return self.now

    def sleep(self, for_s: float) -> None:
        self.slept.append(for_s)
        self.now += for_s


def test_work_between_beats_does_not_add_up() -> None:
    time = _Time()
    cadence = Cadence(10, time, time.sleep)
    for beat in range(50):
        cadence.wait()
        assert time.now == pytest.approx(1000 + beat / 10)
        time.now += 0.07
    assert len(time.slept) == 49


def test_a_delay_loses_whole_beats_and_keeps_the_grid() -> None:
    time = _Time()
    cadence = Cadence(10, time, time.sleep)
    cadence.wait()
    time.now += 0.57
    cadence.wait()  # at once, for the beat at .5
    assert time.now == pytest.approx(1000.57)
    cadence.wait()
    assert time.now == pytest.approx(1000.6)
    cadence.wait()
    assert time.now == pytest.approx(1000.7)


@pytest.mark.parametrize(
    ("camera_fps", "asked_fps", "expected"), [(60, 30, 30), (30, 30, 30), (24, 30, 24), (100, 30, 30)]
)
def test_a_camera_is_thinned_to_what_is_asked(camera_fps: int, asked_fps: int, expected: int) -> None:
    time = _Time()
    cadence = Cadence(asked_fps, time, time.sleep)
    taken = 0
    for n in range(camera_fps * 10):
        # A camera's clock is never quite ours: two thousandths early and late in turn.
        time.now = 1000 + n / camera_fps + (0.002 if n % 2 else -0.002)
        taken += cadence.due()
    assert taken / 10 == pytest.approx(expected, rel=0.02)
