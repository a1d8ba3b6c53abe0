"""What is on the air, as a table of small histories, and its promises over random ones."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamv2v_obs.frames import Frame, Tag
from streamv2v_obs.publish.on_air import OnAir, State, decide

PIXELS = np.zeros((2, 2, 3), np.uint8)
HOLD_S = 3.0
INTERVAL_S = 1 / 30


def frame(tag: Tag, index: int = 0) -> Frame:
    return Frame(PIXELS, 0.0, index, tag)


@dataclass(frozen=True)
class Tick:
    """At ``at``: what arrives (t: translated, b: bypass, i: input, -: nothing), and the locks as they stand."""

    at: float
    arrives: str = "-"
    bypass: bool = False
    panic: bool = False


def play(*ticks: Tick) -> list[OnAir]:
    tags = {"t": Tag.TRANSLATED, "b": Tag.BYPASS, "i": Tag.INPUT}
    now, states = OnAir(), []
    for index, tick in enumerate(ticks):
        newest = frame(tags[tick.arrives], index) if tick.arrives in tags else None
        now = decide(
            now,
            newest,
            tick.at,
            bypass=tick.bypass,
            panic=tick.panic,
            hold_s=HOLD_S,
            interval_s=INTERVAL_S,
        )
        states.append(now)
    return states


T = Tick
TABLE: dict[str, tuple[list[Tick], State, int | None]] = {
    "starts with the slate": ([T(0)], "SLATE", None),
    "a translated frame is shown": ([T(0, "t")], "TRANSLATED", 0),
    "the newest is shown": ([T(0, "t"), T(0.1, "t")], "TRANSLATED", 1),
    "a repeat is no hold": ([T(0, "t"), T(0.49)], "TRANSLATED", 0),
    "nothing fresh: hold": ([T(0, "t"), T(0.51)], "HOLD", 0),
    "hold ends in the slate": ([T(0, "t"), T(3.01)], "SLATE", None),
    "hold lasts hold_s": ([T(0, "t"), T(2.93)], "HOLD", 0),
    "and two intervals less": ([T(0, "t"), T(2.94)], "SLATE", None),
    "back from hold": ([T(0, "t"), T(1), T(1.1, "t")], "TRANSLATED", 2),
    "back from the slate": ([T(0, "t"), T(9), T(9.1, "t")], "TRANSLATED", 2),
    "a slow translator is not held": ([T(0, "t"), T(0.8, "t"), T(3.1)], "TRANSLATED", 1),
    "but for three spacings only": ([T(0, "t"), T(0.8, "t"), T(3.3)], "HOLD", 1),
    "spacing never stretches past hold_s": ([T(0, "t"), T(2.9, "t"), T(5.91)], "SLATE", None),
    "a break is no spacing": ([T(0, "t"), T(60, "t"), T(60.6)], "HOLD", 1),
    "input is never shown": ([T(0, "i")], "SLATE", None),
    "input is not shown with the lock on": ([T(0, "i", bypass=True)], "SLATE", None),
    "input does not end the hold": ([T(0, "t"), T(1, "i", bypass=True)], "HOLD", 0),
    "bypass without the lock is refused": ([T(0, "b")], "SLATE", None),
    "a refused frame does not refresh": ([T(0, "t"), T(1, "b")], "HOLD", 0),
    "refused for long: slate": ([T(0, "t"), T(1, "b"), T(3.1, "b")], "SLATE", None),
    "bypass with the lock": ([T(0, "b", bypass=True)], "BYPASS", 0),
    "translated until the first bypass": ([T(0, "t"), T(0.1, "t", bypass=True)], "TRANSLATED", 1),
    "then bypass": ([T(0, "t", bypass=True), T(0.1, "b", bypass=True)], "BYPASS", 1),
    "raw is held while the lock is on": ([T(0, "b", bypass=True), T(1, bypass=True)], "HOLD", 0),
    "raw is slated in the end": ([T(0, "b", bypass=True), T(3.1, bypass=True)], "SLATE", None),
    "lock off: raw is gone at once": ([T(0, "b", bypass=True), T(0.03)], "SLATE", None),
    "lock off: the last translated one": ([T(0, "t"), T(0.1, "b", bypass=True), T(0.2)], "TRANSLATED", 0),
    "lock off: it is held": ([T(0, "t"), T(0.1, "b", bypass=True), T(1)], "HOLD", 0),
    "lock off: too old to hold": ([T(0, "t"), T(2.9, "b", bypass=True), T(3.1)], "SLATE", None),
    "lock off in the tick of a raw frame": ([T(0, "b", bypass=True), T(0.1, "b")], "SLATE", None),
    "lock on again brings nothing back": (
        [T(0, "b", bypass=True), T(0.03), T(0.06, bypass=True)],
        "SLATE",
        None,
    ),
    "lock on, engine translates on": ([T(0, "b", bypass=True), T(0.1, "t", bypass=True)], "TRANSLATED", 1),
    "panic is a slate": ([T(0, "t", panic=True)], "SLATE", None),
    "panic over bypass": ([T(0, "b", bypass=True, panic=True)], "SLATE", None),
    "panic is latched": ([T(0, "t"), T(0.03, "t", panic=True), T(0.06, "t", panic=True)], "SLATE", None),
    "after panic nothing of before": ([T(0, "t"), T(0.03, panic=True), T(0.06)], "SLATE", None),
    "after panic nothing of meanwhile": ([T(0, "t", panic=True), T(0.06)], "SLATE", None),
    "after panic the next frame": ([T(0, "t"), T(0.03, panic=True), T(0.06, "t")], "TRANSLATED", 2),
}


@pytest.mark.parametrize("name", TABLE)
def test_table(name: str) -> None:
    ticks, state, shown = TABLE[name]
    last = play(*ticks)[-1]
    assert last.state == state
    assert (last.shown.index if last.shown else None) == shown


def test_refused_frames_are_counted() -> None:
    assert play(T(0, "b"), T(0.1, "i"), T(0.2, "t"), T(0.3, "b", bypass=True))[-1].refused == 2


def test_a_ten_frames_a_second_translator_stays_translated_between_its_frames() -> None:
    ticks = [T(n / 30, "t" if n % 3 == 0 else "-") for n in range(90)]
    assert {state.state for state in play(*ticks)} == {"TRANSLATED"}


ticks = st.lists(
    st.tuples(st.floats(0, 4), st.sampled_from("ttbbi-"), st.booleans(), st.booleans()), min_size=1, max_size=60
)


@given(ticks)
def test_promises_over_any_history(steps: list[tuple[float, str, bool, bool]]) -> None:
    now = 0.0
    history = []
    for gap_s, arrives, bypass, panic in steps:
        now += gap_s
        history.append(T(now, arrives, bypass, panic))
    panicked_at = -1
    for index, (tick, on_air) in enumerate(zip(history, play(*history), strict=True)):
        shown = on_air.shown
        assert (shown is None) == (on_air.state == "SLATE")
        if tick.panic:
            panicked_at = index
            assert shown is None
        if shown is None:
            continue
        assert shown.tag is not Tag.INPUT
        assert shown.index > panicked_at, "nothing from before or during a panic comes back"
        assert tick.at - history[shown.index].at <= HOLD_S
        if shown.tag is Tag.BYPASS:
            # The lock has been on without a break since that very frame came.
            assert all(t.bypass for t in history[shown.index : index + 1])
        if on_air.state == "BYPASS":
            assert shown.tag is Tag.BYPASS
        if on_air.state == "TRANSLATED":
            assert shown.tag is Tag.TRANSLATED
