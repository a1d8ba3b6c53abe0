"""The pacer on a clock that only the test moves."""

from __future__ import annotations

import random
import time
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamv2v_obs.publish.pacer import Pacer


class Clock:
    """Fake: time passes only by sleeping on it or by ``pass_by``."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.oversleep_s = 0.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, duration_s: float) -> None:
        assert duration_s > 0
        self.now += duration_s + self.oversleep_s

    def pass_by(self, duration_s: float) -> None:
        self.now += duration_s


def wait(pacer: Pacer) -> None:
    while not pacer.due(0.05):
        pass


def test_ticks_come_at_absolute_deadlines_whatever_each_one_costs() -> None:
    clock = Clock()
    clock.oversleep_s = 0.001
    pacer = Pacer(1 / 30, clock, clock.sleep)
    at = []
    for n in range(300):
        wait(pacer)
        at.append(clock.now - 1000)
        clock.pass_by(0.02 if n % 3 else 0.004)
    assert pacer.late == 0
    # Every tick is late by the oversleep alone; nothing adds up.
    assert all(0 <= t - n / 30 < 0.0011 for n, t in enumerate(at))


def test_a_late_tick_skips_whole_intervals_and_counts_them() -> None:
    clock = Clock()
    pacer = Pacer(0.1, clock, clock.sleep)
    wait(pacer)
    clock.pass_by(0.35)  # 0.1 and 0.2 have gone by; 0.3 is due, 0.05 late
    wait(pacer)
    assert clock.now == pytest.approx(1000.35)
    assert pacer.late == 2
    assert pacer.deviation_s == pytest.approx(0.05)
    wait(pacer)
    assert clock.now == pytest.approx(1000.4)
    assert pacer.late == 2


def test_a_tick_that_is_a_little_late_runs_at_once_and_skips_none() -> None:
    clock = Clock()
    pacer = Pacer(0.1, clock, clock.sleep)
    wait(pacer)
    clock.pass_by(0.19)
    assert pacer.due(0.05)
    assert clock.now == pytest.approx(1000.19)
    assert pacer.late == 0


def test_long_intervals_are_slept_in_pieces() -> None:
    clock = Clock()
    pacer = Pacer(1.0, clock, clock.sleep)
    assert pacer.due(0.05)
    pieces = 0
    while not pacer.due(0.05):
        pieces += 1
    assert pieces in (19, 20)
    assert clock.now == pytest.approx(1001)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=50), st.floats(1 / 240, 1))
def test_no_interval_is_lost_between_ticks_and_lates(costs: list[float], interval_s: float) -> None:
    clock = Clock()
    pacer = Pacer(interval_s, clock, clock.sleep)
    wait(pacer)
    for cost in costs:
        clock.pass_by(cost)
        wait(pacer)
    assert (clock.now - 1000) / interval_s == pytest.approx(
        len(costs) + pacer.late + pacer.deviation_s / interval_s, abs=1e-3
    )
    assert 0 <= pacer.deviation_s <= interval_s * 1.001


def test_on_the_real_clock_it_keeps_the_rate() -> None:
    pacer = Pacer(0.01)
    began_at = time.perf_counter()
    for _ in range(51):
        wait(pacer)
    ticks = 50 + pacer.late
    assert time.perf_counter() - began_at == pytest.approx(ticks * 0.01, abs=0.25)


def waits(pacer: Pacer, clock: Clock, arrivals: list[float]) -> list[float | None]:
    """Let the pacer tick until all of ``arrivals`` have come; how long each tick's new picture waited, or None."""
    found: list[float | None] = []
    taken = 0
    while taken < len(arrivals):
        wait(pacer)
        here = sum(at <= clock.now for at in arrivals[taken : taken + 4])
        taken += here
        waited = clock.now - arrivals[taken - 1] if here else None
        if waited is not None:
            pacer.met(waited)
        found.append(waited)
    return found


@given(st.floats(0, 1), st.floats(0, 0.002), st.sampled_from([30.0, 29.97, 30.05, 15.0]), st.integers(0, 99))
def test_it_ticks_shortly_after_pictures_that_come_at_its_own_pace(
    phase: float, jitter_s: float, fps: float, seed: int
) -> None:
    clock = Clock()
    pacer = Pacer(1 / 30, clock, clock.sleep)
    chance = random.Random(seed)  # noqa: S311
    arrivals = [1000 + (n + phase) / fps + chance.uniform(-jitter_s, jitter_s) for n in range(600)]
    settled = waits(pacer, clock, arrivals)[-300:]
    new = [waited for waited in settled if waited is not None]
    assert len(new) == pytest.approx(300 * fps / 30, abs=2), "no picture is passed over, none comes late"
    assert max(new) < 0.005 + 8 * jitter_s, "a clock that runs a little otherwise is followed, a little behind"
    assert pacer.late == 0


@given(st.floats(0, 1), st.integers(0, 99))
def test_no_viewer_sees_it_move(phase: float, seed: int) -> None:
    clock = Clock()
    pacer = Pacer(1 / 30, clock, clock.sleep)
    chance = random.Random(seed)  # noqa: S311
    ticks = []
    for _ in range(300):
        wait(pacer)
        ticks.append(clock.now)
        pacer.met(phase / 30 + chance.uniform(0, 0.004))
    assert all(abs(after - before - 1 / 30) < 0.0002 for before, after in pairwise(ticks))


@pytest.mark.parametrize("fps", [19.0, 23.0, 41.0])
def test_pictures_that_come_at_another_pace_do_not_move_it(fps: float) -> None:
    clock = Clock()
    pacer = Pacer(1 / 30, clock, clock.sleep)
    waits(pacer, clock, [1000 + n / fps for n in range(600)])
    ticks = pacer._ticks
    wait(pacer)
    assert clock.now - 1000 == pytest.approx((ticks + 1) / 30, abs=1e-6)
