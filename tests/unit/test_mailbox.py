"""One slot, newest wins, the loss is counted; and the lossless way beside it."""

from __future__ import annotations

import threading

from streamv2v_obs.mailbox import Mailbox
from streamv2v_obs.stats import Meter


def test_the_newest_wins_and_the_loss_is_counted() -> None:
    box: Mailbox[int] = Mailbox()
    for item in range(5):
        box.put(item)
    assert box.take() == 4
    assert box.overwritten == 4
    assert box.take(timeout_s=0.01) is None


def test_close_wakes_who_waits() -> None:
    box: Mailbox[int] = Mailbox()
    answers: list[int | None] = []
    thread = threading.Thread(target=lambda: answers.append(box.take()))
    thread.start()
    box.close()
    thread.join(5)
    assert answers == [None]


def test_put_when_free_loses_nothing() -> None:
    box: Mailbox[int] = Mailbox()
    taken: list[int] = []

    def consume() -> None:
        while len(taken) < 100:
            item = box.take(1)
            if item is not None:
                taken.append(item)

    thread = threading.Thread(target=consume)
    thread.start()
    for item in range(100):
        assert box.put_when_free(item, 5)
    thread.join(10)
    assert taken == list(range(100))
    assert box.overwritten == 0
    box.put(1)
    assert not box.put_when_free(2, 0.01)


def test_a_meter_measures_its_window_only() -> None:
    now = [0.0]
    meter = Meter(window_s=5, clock=lambda: now[0])
    for tick in range(100):
        now[0] = tick / 10
        meter.add(tick)
    assert meter.total == 100
    assert abs(meter.rate() - 10) < 0.3
    assert meter.percentile(0) >= 48
    assert meter.percentile(0.5) in (73, 74)
    assert meter.percentile(1) == 99
    now[0] = 1000
    assert meter.rate() == 0
    assert meter.percentile(0.5) != meter.percentile(0.5), "nan without values"
