"""Somebody who watches a service while it is being broken: every picture is searched, every state is timed."""

from __future__ import annotations

import threading
import time
from bisect import bisect_left, bisect_right
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import av
import cv2
import httpx
import numpy as np

from streamv2v_obs.bench.live import whole_picture
from streamv2v_obs.capture.watermark import RAW, score

_LOOK_S = 0.1
_END_S = 10.0

Status = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Seen:
    """A picture as a viewer of the stream got it."""

    at: float
    score: float
    """How much of the input's mark is in it."""

    @property
    def raw(self) -> bool:
        """Whether it is the input itself."""
        return self.score > RAW


class Told(NamedTuple):
    """What the service said of its beat at one moment; the whole status, kept for hours, would fill the memory."""

    at: float
    published: int
    stops: int
    gap_ms: float


@dataclass(frozen=True)
class Entered:
    """The outputs went over to a state at this instant."""

    at: float
    state: str


@dataclass(frozen=True)
class Window:
    """What was seen from one instant to another."""

    states: list[Entered]
    """The first is the state at the beginning."""
    ended_at: float
    gap_ms: float
    stops: int
    searched: int
    raw: int
    score_max: float
    published: int

    def entered_at(self, state: str, after: float) -> float | None:
        """When the outputs first went over to ``state``."""
        return next((entered.at for entered in self.states if entered.state == state and entered.at >= after), None)

    @property
    def story(self) -> str:
        """The states in order, each with how long it lasted."""
        ends = [entered.at for entered in self.states[1:]] + [self.ended_at]
        parts = [f"{entered.state} {end - entered.at:.1f} s" for entered, end in zip(self.states, ends, strict=True)]
        return ", ".join(parts)


class Watch:
    """Two threads: one reads the stream as a browser does, the other asks for the status; in a ``with`` block.

    The service tells how long its state has lasted, so an instant is known better than the pace of asking.
    """

    def __init__(self, address: str, token: str) -> None:
        self._address, self._head = address, {"authorization": f"Bearer {token}"}
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=self._view, name="viewer", daemon=True),
            threading.Thread(target=self._ask, name="status", daemon=True),
        ]
        self._lock = threading.Lock()
        self._seen: list[Seen] = []  # guarded by _lock, as all that follows
        self._states: list[Entered] = []
        self._told: list[Told] = []
        self._broken = ""

    def __enter__(self) -> Watch:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(_END_S)

    @property
    def broken(self) -> str:
        """What ended the stream for a viewer while it was watched; empty if nothing did."""
        with self._lock:
            return self._broken

    @property
    def newest(self) -> Seen | None:
        """The last picture that came."""
        with self._lock:
            return self._seen[-1] if self._seen else None

    @property
    def told(self) -> list[Told]:
        """What it said of its beat so far."""
        with self._lock:
            return list(self._told)

    def window(self, began_at: float, ended_at: float) -> Window:
        """Everything between two instants, the second of them past."""
        with self._lock:
            before = [entered for entered in self._states if entered.at < began_at][-1:]
            states = [Entered(began_at, entered.state) for entered in before]
            states += [entered for entered in self._states if began_at <= entered.at <= ended_at]
            seen = _between(self._seen, began_at, ended_at)
            told = _between(self._told, began_at, ended_at)
        if not told:
            raise RuntimeError("the service was not asked once in this time")
        return Window(
            states,
            ended_at,
            max(one.gap_ms for one in told),
            told[-1].stops - told[0].stops,
            len(seen),
            sum(one.raw for one in seen),
            max((one.score for one in seen), default=0.0),
            told[-1].published - told[0].published,
        )

    def _ask(self) -> None:
        with httpx.Client(base_url=self._address, headers=self._head, trust_env=False, timeout=_END_S) as client:
            while not self._stop.wait(_LOOK_S):
                try:
                    status = dict(client.get("/v1/status").raise_for_status().json())
                except httpx.HTTPError:  # it has ended, or is about to
                    continue
                now = time.monotonic()
                publish = status["publish"]
                with self._lock:
                    gap_ms = publish["gap_ms_max"] or 0.0
                    self._told.append(Told(now, publish["published"], publish["stops"], gap_ms))
                    if not self._states or self._states[-1].state != publish["state"]:
                        self._states.append(Entered(now - publish["state_s"], publish["state"]))

    def _view(self) -> None:
        try:
            self._read()
        except Exception as error:
            if not self._stop.is_set():
                with self._lock:
                    self._broken = f"{type(error).__name__}: {error}"

    def _read(self) -> None:
        buffer = b""
        with (
            httpx.Client(base_url=self._address, headers=self._head, trust_env=False, timeout=60) as client,
            client.stream("GET", "/v1/stream") as response,
        ):
            response.raise_for_status()
            for chunk in response.iter_raw():
                buffer += chunk
                while (jpeg := whole_picture(buffer)) is not None:
                    buffer = buffer[jpeg.stop :]
                    found = _searched(jpeg.data, time.monotonic())
                    with self._lock:
                        self._seen.append(found)
                if self._stop.is_set():
                    return


_Moment = TypeVar("_Moment", Seen, Told)


def _between(moments: list[_Moment], began_at: float, ended_at: float) -> list[_Moment]:
    """Those of a list in order of time that lie in it."""
    first = bisect_left(moments, began_at, key=lambda one: one.at)
    return moments[first : bisect_right(moments, ended_at, key=lambda one: one.at)]


def _searched(jpeg: bytes, at: float) -> Seen:
    picture = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)
    if picture is None:
        raise ValueError("a broken JPEG in the stream")
    return Seen(at, score(np.asarray(picture, np.uint8)))


def search_recording(path: Path) -> list[Seen]:
    """Every picture of a recording; ``at`` is in seconds from its beginning."""
    with av.open(str(path)) as container:
        return [
            Seen(float(frame.time or 0.0), score(np.asarray(frame.to_ndarray(format="rgb24"), np.uint8)))
            for frame in container.decode(video=0)
        ]
