"""``schedule: auto`` in a live run: both schedules are tried on the first pictures, and the better one stays."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, TypeAlias

from streamv2v_obs.stats import ScheduleChoice

Schedule: TypeAlias = Literal["stream", "sequential"]

PASSED_OVER, COUNTED = 8, 16
"""Pictures of each schedule: those that come first choose kernels and fill the bank."""
AS_FAST = 0.95


def better(stream_ms: float, sequential_ms: float, source_fps: float) -> tuple[Schedule, str]:
    """The schedule for a source of ``source_fps``, from what a picture takes under each; and why, in a few words.

    Sequential adds no frames of delay, so it is taken where it loses no pictures: where it keeps up with the source,
    or is as fast as the stream batch.
    """
    needed = min(source_fps, AS_FAST * 1000 / stream_ms)
    chosen: Schedule = "sequential" if 1000 / sequential_ms >= needed else "stream"
    said = f"stream {stream_ms:.0f} ms, sequential {sequential_ms:.0f} ms a picture, source {source_fps:g} fps"
    return chosen, said


class ScheduleTrial:
    """Is told what each picture took; says which schedule the next one is to be made by."""

    def __init__(self, source_fps: float) -> None:
        self.schedule: Schedule = "stream"
        self.reason = "being measured"
        self.over = False
        self._source_fps = source_fps
        self._taken: dict[Schedule, list[float]] = {"stream": [], "sequential": []}

    def note(self, taken_ms: float) -> None:
        """What a picture took under ``schedule``, the bank's update included."""
        taken = self._taken[self.schedule]
        taken.append(taken_ms)
        if self.over or len(taken) < PASSED_OVER + COUNTED:
            return
        if self.schedule == "stream":
            self.schedule = "sequential"
            return
        means = {name: sum(ms[PASSED_OVER:]) / COUNTED for name, ms in self._taken.items()}
        self.settle(*better(means["stream"], means["sequential"], self._source_fps))

    def settle(self, schedule: Schedule, reason: str) -> None:
        """It is over, and this was chosen."""
        self.schedule, self.reason, self.over = schedule, reason, True


class ScheduleTrials:
    """One trial for each number of steps, of pictures of one size and rate; ``chosen`` before, it is not held again.

    Two trials under different loads may choose differently, and the one schedule is frames behind the other: an engine
    in place of one that broke, or a number of steps that comes back, would make all pictures older or younger.
    """

    def __init__(self, width: int, height: int, source_fps: float, chosen: Iterable[ScheduleChoice] = ()) -> None:
        self._of = width, height, source_fps
        self._trials: dict[int, ScheduleTrial] = {}
        for one in chosen:
            if (one.width, one.height, one.source_fps) == self._of:
                self.of(one.steps).settle(one.schedule, one.reason)

    def of(self, steps: int) -> ScheduleTrial:
        """The trial of this number of steps, perhaps over already."""
        return self._trials.setdefault(steps, ScheduleTrial(self._of[2]))

    @property
    def chosen(self) -> tuple[ScheduleChoice, ...]:
        """Those that are over."""
        trials = self._trials.items()
        return tuple(ScheduleChoice(steps, *self._of, one.schedule, one.reason) for steps, one in trials if one.over)
