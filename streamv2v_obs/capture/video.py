"""A video file as a source, at its own pace or as fast as it is read."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import av
import numpy as np

from streamv2v_obs.errors import EndOfSource, SourceLost, SourceStalled
from streamv2v_obs.frames import Frame, Pixels
from streamv2v_obs.settings import VideoCapture

log = logging.getLogger(__name__)

LATEST_S = 1.0
"""Behind by more than this, the film goes on from where it is instead of catching up."""
PATIENCE_S = 1.0
"""The longest wait in ``read`` for a picture that is not due yet."""
_MOST_PIXEL_ASPECT = 16
_TOLERANCE_S = 0.002  # files keep their timestamps in whole milliseconds


@dataclass(frozen=True)
class _Picture:
    raw: Any
    """An av.VideoFrame, still in the codec's own colours: a picture that is skipped is never converted."""
    time_s: float
    """Since the beginning of the first pass, loops counted on."""


class VideoSource:
    """Decodes a file with PyAV, turned as its metadata says and with square pixels.

    With ``realtime`` each picture comes when its timestamp is due; one that is overdue when the next is due too is
    skipped, as are pictures beyond ``fps`` a second. Without, every picture comes as soon as it is asked for.
    Raises SourceLost naming the file: at once where it is missing, no video or damaged from the start.
    """

    _container: Any = None

    def __init__(
        self,
        settings: VideoCapture,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._settings = settings
        self._clock = clock
        self._sleep = sleep
        self._path = settings.path.expanduser()
        self._index = 0
        self._offset_s = 0.0  # what earlier passes lasted
        self._started_at: float | None = None  # when time_s == 0 is, or would have been, due
        self._not_before_s = 0.0  # the cap of settings.fps, in the film's own time
        self._position_s = 0.0
        self._pending: _Picture | None = None
        self._open()
        try:
            stream = self._container.streams.video[0]
            self._fps = Fraction(stream.average_rate or stream.guessed_rate or 25)
            self._frames = int(stream.frames) or None
            self._pixel_aspect = self._believable(Fraction(stream.sample_aspect_ratio or 1))
            self._pending = self._decode()
            if self._pending is None:
                raise SourceLost(f"{self._path} has no picture that can be decoded")
            with self._named("decoding"):
                first: tuple[int, ...] = self._to_rgb(self._pending.raw).shape
            self._height, self._width = first[0], first[1]
        except BaseException:
            self.close()
            raise

    @property
    def detail(self) -> str:
        """What is captured, in a few words for ``status``."""
        return f"video {self._path.name} {self._width}x{self._height} at {float(self._fps):.4g} fps"

    @property
    def width(self) -> int:
        """Of the pictures as they are given, turned and with square pixels."""
        return self._width

    @property
    def height(self) -> int:
        """As ``width``."""
        return self._height

    @property
    def fps(self) -> Fraction:
        """Pictures a second of the film, on average."""
        return self._fps

    @property
    def frames(self) -> int | None:
        """How many pictures one pass has, if the file says so; good enough for a progress bar."""
        return self._frames

    @property
    def position_s(self) -> float:
        """Where in the film the last picture stood; goes on growing over loops."""
        return self._position_s

    def read(self) -> Frame:
        """The next picture, or the newest that is due. Raises EndOfSource after the last one without ``loop``."""
        picture = self._take_due() if self._settings.realtime else self._take()
        self._position_s = picture.time_s
        with self._named("decoding"):
            pixels = self._to_rgb(picture.raw)
        frame = Frame(pixels, self._clock(), self._index)
        self._index += 1
        return frame

    def close(self) -> None:
        """Close the file."""
        if self._container is not None:
            # The generator holds the last packet, that the stream, and that the decoder with its threads.
            self._decoded.close()
            self._pending = None
            self._container.close()
            self._container = None

    def _take(self) -> _Picture:
        picture, self._pending = self._peek(), None
        if picture is None:
            raise EndOfSource(f"{self._path} is over after {self._index} pictures")
        return picture

    def _take_due(self) -> _Picture:
        """The picture that is due; waits for it, passes over those that are overdue or beyond settings.fps."""
        while True:
            picture = self._take()
            now = self._clock()
            if self._started_at is None:
                self._started_at = now - picture.time_s
            late_s = now - (self._started_at + picture.time_s)
            if late_s > LATEST_S:
                self._started_at += late_s
                late_s = 0.0
            if picture.time_s < self._not_before_s - _TOLERANCE_S:
                continue
            if late_s < 0:
                self._wait_for(picture, -late_s)
            elif self._is_due(self._peek()):
                continue
            interval_s = 1 / self._settings.fps
            self._not_before_s = max(self._not_before_s, picture.time_s - interval_s) + interval_s
            return picture

    def _wait_for(self, picture: _Picture, wait_s: float) -> None:
        self._sleep(min(wait_s, PATIENCE_S))
        if wait_s > PATIENCE_S:
            self._pending = picture
            raise SourceStalled(f"the next picture of {self._path} is due in {wait_s - PATIENCE_S:.1f} s")

    def _is_due(self, picture: _Picture | None) -> bool:
        return picture is not None and (self._started_at or 0.0) + picture.time_s <= self._clock()

    def _peek(self) -> _Picture | None:
        if self._pending is None:
            self._pending = self._following()
        return self._pending

    def _following(self) -> _Picture | None:
        """The next picture, if need be from the beginning of the next pass; None at the end."""
        picture = self._decode()
        if picture is None and self._settings.loop:
            # Opened anew rather than wound back: not every format can be, and a new decoder has nothing left over.
            self.close()
            self._offset_s = self._ends_s
            self._open()
            picture = self._decode()
            if picture is None:
                raise SourceLost(f"{self._path} has no picture any more that can be decoded")
        return picture

    def _open(self) -> None:
        try:
            self._container = av.open(str(self._path))
        except (av.FFmpegError, OSError, ValueError) as error:
            hint = "; it is no video, or is cut off" if isinstance(error, av.error.InvalidDataError) else ""
            raise SourceLost(f"cannot open the video {self._path}: {_reason(error)}{hint}") from error
        self._decoded = self._pictures()
        if not self._container.streams.video:
            self.close()
            raise SourceLost(f"{self._path} has no video in it")
        self._container.streams.video[0].thread_type = "AUTO"
        self._origin_s: float | None = None
        self._ends_s = self._offset_s

    def _decode(self) -> _Picture | None:
        raw = next(self._decoded, None)
        if raw is None:
            return None
        frame_s = float(1 / self._fps)
        # Streams without timestamps exist (raw H.264); their pictures follow each other at the average rate.
        stamp_s = float(raw.time) if raw.pts is not None else None
        if self._origin_s is None:
            self._origin_s = stamp_s or 0.0
        time_s = self._ends_s if stamp_s is None else self._offset_s + stamp_s - self._origin_s
        self._ends_s = max(self._ends_s, time_s + frame_s)
        return _Picture(raw, time_s)

    def _pictures(self) -> Generator[Any, None, None]:
        """Every picture of one pass; a packet that cannot be decoded is skipped, as players do."""
        damaged = 0
        with self._named("reading"):
            for packet in self._container.demux(video=0):
                try:
                    yield from packet.decode()
                except av.error.InvalidDataError:
                    damaged += 1
                    if damaged == 1:
                        log.warning("%s is damaged at %s s; such places are skipped", self._path, _where(packet))

    def _believable(self, pixel_aspect: Fraction) -> Fraction:
        """A damaged file's pixels may be so narrow that nothing is left of a picture, or so wide that no memory is."""
        if 1 / _MOST_PIXEL_ASPECT <= pixel_aspect <= _MOST_PIXEL_ASPECT:
            return pixel_aspect
        log.warning("%s says that its pixels are %.4g times as wide as high: ignored", self._path, float(pixel_aspect))
        return Fraction(1)

    def _to_rgb(self, raw: Any) -> Pixels:
        """uint8 [H, W, 3] RGB by the picture's own colour matrix, upright, with square pixels."""
        width = raw.width if self._pixel_aspect == 1 else round(raw.width * self._pixel_aspect / 2) * 2
        pixels: Pixels = raw.to_ndarray(format="rgb24", width=width)
        turns = round(raw.rotation / 90) % 4
        return np.ascontiguousarray(np.rot90(pixels, turns)) if turns else pixels

    @contextmanager
    def _named(self, doing: str) -> Iterator[None]:
        try:
            yield
        except (av.FFmpegError, OSError, ValueError) as error:
            raise SourceLost(f"{doing} the video {self._path} failed: {_reason(error)}") from error


def _reason(error: BaseException) -> str:
    return str(getattr(error, "strerror", None) or error).splitlines()[0]


def _where(packet: Any) -> str:
    return "?" if packet.pts is None else f"{float(packet.pts * packet.time_base):.2f}"
