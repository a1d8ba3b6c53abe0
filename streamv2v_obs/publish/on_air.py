"""What is on the air: a pure function from frames, locks and time to TRANSLATED, HOLD, SLATE or BYPASS.

| panic | bypass lock | newest permitted picture                    | on air                                |
|-------|-------------|---------------------------------------------|---------------------------------------|
| on    | any         | any                                         | SLATE, and everything kept is dropped |
| off   | any         | translated, fresh                           | TRANSLATED                            |
| off   | on          | raw, fresh                                  | BYPASS                                |
| off   | any         | none fresh, the last one within ``hold_s``  | HOLD                                  |
| off   | any         | none within ``hold_s``, or none at all      | SLATE                                 |

``hold_s`` is kept as a viewer sees it: the slate comes two intervals early, since a picture may have waited for the
tick that found it, and what a tick shows stays until the next one.

Permitted are frames tagged TRANSLATED, and frames tagged BYPASS while the bypass lock is on. A raw picture is dropped
in the tick that finds the lock off, so that HOLD cannot show it: what is held then is the last translated one.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

from streamv2v_obs.frames import Frame, Tag

State: TypeAlias = Literal["TRANSLATED", "HOLD", "SLATE", "BYPASS"]

_FRESH_INTERVALS = 3
_FRESH_S = 0.5
_FRESH_SPACINGS = 3
_EARLY_INTERVALS = 2


@dataclass(frozen=True)
class Arrival:
    """A frame, and the instant at which the publisher got it."""

    frame: Frame
    arrived_at: float


@dataclass(frozen=True)
class OnAir:
    """The outputs' state after one tick, and all that the next one needs to know."""

    state: State = "SLATE"
    shown: Frame | None = None
    """What is shown; None is the slate."""
    translated: Arrival | None = None
    raw: Arrival | None = None
    """Only while the bypass lock is on."""
    spacing_s: float = 0.0
    """Between the last two permitted frames, smoothed: a slow translator is not a dead one."""
    refused: int = 0
    """Frames that might not be shown."""


def decide(
    before: OnAir,
    newest: Frame | None,
    now: float,
    *,
    bypass: bool,
    panic: bool,
    hold_s: float,
    interval_s: float,
) -> OnAir:
    """The state of the tick at ``now``, given what came since the last one (None: nothing).

    A frame counts as fresh for three publishing intervals, half a second or three times the recent spacing of frames,
    whichever is longest, but never longer than it may be held. Time is counted from a frame's arrival, not its
    capture: a picture that took the translator ten seconds is still the newest there is.
    """
    if panic:
        # What was shown before the panic must not come back when it ends.
        return OnAir(spacing_s=before.spacing_s, refused=before.refused)
    after = before if bypass else replace(before, raw=None)
    if newest is not None:
        after = _arrived(after, newest, now, bypass=bypass, hold_s=hold_s)
    candidates = [arrival for arrival in (after.translated, after.raw) if arrival is not None]
    last = max(candidates, key=lambda arrival: arrival.arrived_at, default=None)
    # With so short a hold nothing would be shown at all.
    held_s = min(hold_s, max(hold_s - _EARLY_INTERVALS * interval_s, interval_s))
    if last is None or now - last.arrived_at > held_s:
        return replace(after, state="SLATE", shown=None)
    fresh_s = min(held_s, max(_FRESH_INTERVALS * interval_s, _FRESH_S, _FRESH_SPACINGS * after.spacing_s))
    if now - last.arrived_at > fresh_s:
        return replace(after, state="HOLD", shown=last.frame)
    return replace(after, state="BYPASS" if last is after.raw else "TRANSLATED", shown=last.frame)


def _arrived(before: OnAir, frame: Frame, now: float, *, bypass: bool, hold_s: float) -> OnAir:
    if frame.tag is Tag.TRANSLATED:
        after = replace(before, translated=Arrival(frame, now))
    elif frame.tag is Tag.BYPASS and bypass:
        after = replace(before, raw=Arrival(frame, now))
    else:
        return replace(before, refused=before.refused + 1)
    latest = max((a.arrived_at for a in (before.translated, before.raw) if a is not None), default=None)
    if latest is None or now - latest > hold_s:  # a new beginning, not a slow frame
        return after
    gap_s = now - latest
    # Quick to believe in slowness, slow to forget it: one burst after a slow frame must not start a HOLD.
    return replace(after, spacing_s=max(gap_s, 0.8 * before.spacing_s + 0.2 * gap_s))
