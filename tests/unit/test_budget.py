"""What the engine leaves to others: pauses by share and by rate, still pictures passed over for a while."""

from __future__ import annotations

import numpy as np
import pytest

from streamv2v_obs.engine.budget import Budget
from streamv2v_obs.settings import BudgetSettings, Settings


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_nothing_is_held_back_by_default() -> None:
    budget = Budget(BudgetSettings())
    still = np.zeros((64, 64, 3), np.uint8)
    assert all(budget.wants(still, 2) for _ in range(20))
    assert budget.pause_s(0.03) == 0
    assert budget.skipped == 0


def test_a_share_and_a_rate_are_pauses_after_a_picture() -> None:
    half = Budget(BudgetSettings(gpu_share=0.5))
    assert half.pause_s(0.02) == pytest.approx(0.02)
    assert half.pause_s(5.0) == 1.0  # commands are applied between two pictures
    capped = Budget(BudgetSettings(fps=10))
    assert capped.pause_s(0.03) == pytest.approx(0.07)
    assert capped.pause_s(0.3) == 0
    assert Budget(BudgetSettings(fps=10, gpu_share=0.1)).pause_s(0.05) == pytest.approx(0.45)


def test_still_pictures_are_passed_over_but_not_for_ever() -> None:
    clock = Clock()
    budget = Budget(BudgetSettings(still_s=1.0), clock)
    generator = np.random.default_rng(0)
    scene = generator.integers(30, 220, (128, 128, 3), dtype=np.uint8)
    wanted = []
    for number in range(60):
        clock.now = number / 30
        noise = generator.integers(-1, 2, scene.shape)
        wanted.append(budget.wants((scene.astype(int) + noise).astype(np.uint8), 2))
    # The first one, two more for the frames in flight, and one a second.
    assert [number for number, want in enumerate(wanted) if want] == [0, 1, 2, 32]
    assert budget.skipped == 56
    clock.now += 1 / 30
    moved = scene.copy()
    moved[96:112, 96:112] = 255  # a sixty-fourth of the picture
    assert budget.wants(moved, 2)
    budget.forget()
    assert budget.wants(moved, 2)


def test_what_creeps_is_seen_at_last() -> None:
    budget = Budget(BudgetSettings(still_s=10.0), Clock())
    level = [budget.wants(np.full((64, 64, 3), n // 4, np.uint8), 1) for n in range(64)]
    assert sum(level[8:]) >= 5


def test_a_picture_must_not_be_held_longer_than_the_slate_waits() -> None:
    with pytest.raises(ValueError, match=r"translator\.budget\.still_s = 2.* allowed: less than publish\.hold_s = 1"):
        Settings.model_validate({"translator": {"budget": {"still_s": 2}}, "publish": {"hold_s": 1}})
