"""Pictures into video files: a recording that stays playable whatever happens, and a writer of whole files."""

from __future__ import annotations

import errno
import itertools
import logging
import math
import os
import time
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any

import av
import av.video.reformatter
import numpy as np

from streamv2v_obs.errors import ConfigError, SinkEnded, SinkLost
from streamv2v_obs.frames import Pixels
from streamv2v_obs.publish.fragments import FragmentFile
from streamv2v_obs.settings import PublishSettings
from streamv2v_obs.shape import fit_to

log = logging.getLogger(__name__)

_FULL = (errno.ENOSPC, errno.EFBIG, getattr(errno, "EDQUOT", errno.ENOSPC))
_FILLED_S = 2.0
_FRAGMENTED = {"movflags": "frag_keyframe+empty_moov+default_base_moof"}
_WRITTEN_AS = {".mp4": "mp4", ".m4v": "mp4", ".mov": "mov"}


class RecordingSink:
    """Records in real time into a fragmented mp4; raises SinkLost where it cannot be created.

    A path that exists is never written to: ``show.mp4`` becomes ``show-2.mp4``, ``show-3.mp4`` and so on. The first
    picture sets the size (cut to even), later ones are letterboxed into it. Pictures come at a constant rate: one that
    came late is filled up with repeats of the one before, up to two seconds; a longer break is one long picture.
    About a second is lost when the process is killed, nothing else.
    """

    def __init__(self, settings: PublishSettings, clock: Callable[[], float] = time.monotonic) -> None:
        if settings.recording.path is None:
            raise ConfigError("publish.recording.path is not set; allowed: a path such as show.mp4")
        self._fps = Fraction(settings.fps).limit_denominator(1001)
        self._bitrate = settings.recording.bitrate_kbps * 1000
        self._clock = clock
        self._file = _create_beside(settings.recording.path.expanduser())
        self._container: Any = None
        self._stream: Any = None
        self._began_at = 0.0
        self._last: tuple[int, Pixels] | None = None
        self.detail = str(self._file.path)

    def send(self, pixels: Pixels) -> None:
        """Record ``pixels``, uint8 [H, W, 3] RGB, as what is seen now. Raises SinkEnded when the disk is full."""
        now = self._clock()
        if self._last is None:
            self._begin(pixels, now)
        number = round((now - self._began_at) * float(self._fps))
        last, before = self._last or (-1, pixels)
        if number <= last:
            return
        picture = fit_to(pixels, self._stream.width, self._stream.height, "letterbox")
        try:
            if (number - last) <= _FILLED_S * self._fps:
                for missed in range(last + 1, number):
                    self._put(before, missed)
            self._put(picture, number)
        except OSError as error:
            self._abandon()
            raise _ended(error, self.detail) from error
        self._last = (number, picture)

    def close(self) -> None:
        """Finish the file; one without a single picture is removed."""
        if self._container is not None:
            try:
                for packet in self._stream.encode(None):
                    self._container.mux(packet)
                self._container.close()
            except OSError as error:
                log.warning("%s", _ended(error, self.detail))
            self._container = None
        self._file.close()

    def _begin(self, pixels: Pixels, now: float) -> None:
        height, width, _ = pixels.shape
        self._container = av.open(self._file, "w", format="mp4", options=_FRAGMENTED)
        options = {"preset": "veryfast", "rc-lookahead": "10"}
        self._stream = _add_video(self._container, width // 2 * 2, height // 2 * 2, self._fps, options)
        self._stream.bit_rate = self._bitrate
        # A fragment ends with its group of pictures: one a second, and none waits for a later one.
        self._stream.codec_context.gop_size = math.ceil(self._fps)
        self._stream.codec_context.max_b_frames = 0
        self._began_at = now

    def _put(self, pixels: Pixels, number: int) -> None:
        _encode(self._container, self._stream, pixels, number)

    def _abandon(self) -> None:
        """Let go of the encoder without another byte reaching the file, which ends with its last whole fragment."""
        self._file.stop()
        self._container.close()
        self._container = None


class VideoWriter:
    """Writes one finite video: picture ``n`` is shown at exactly ``n / fps`` seconds.

    The file grows under ``NAME.part`` and gets its name when it is whole, replacing one that was there; left by an
    error, nothing remains. The same pictures give the same bytes. Use it as a context.
    """

    def __init__(self, path: Path, width: int, height: int, fps: Fraction) -> None:
        """``width`` and ``height`` are even. Raises ConfigError for a kind of file that cannot be written."""
        written_as = _WRITTEN_AS.get(path.suffix.lower())
        if written_as is None:
            raise ConfigError(f"{path}: cannot write {path.suffix or 'no suffix'}; allowed: {', '.join(_WRITTEN_AS)}")
        if width % 2 or height % 2:
            raise ConfigError(f"{path}: cannot write {width}x{height}; allowed: even widths and heights")
        self._path = path
        self._part = path.with_name(path.name + ".part")
        self._number = 0
        try:
            # The library opens it with the first packet only, and that may be minutes of work from now.
            self._part.write_bytes(b"")
            self._container = av.open(
                str(self._part), "w", format=written_as, options={"movflags": "faststart", "fflags": "bitexact"}
            )
        except OSError as error:
            raise SinkLost(f"{path} cannot be created: {error.strerror or error}") from error
        # Without its macroblock tree, in which x264 reads memory that nobody has written: the same pictures gave other
        # bytes whenever something else lay there.
        options = {"preset": "medium", "crf": "17", "x264-params": "mbtree=0"}
        self._stream = _add_video(self._container, width, height, fps, options)
        # By default there are as many as the machine has cores, and the bytes depend on it.
        self._stream.codec_context.thread_count = 4

    def write(self, pixels: Pixels) -> None:
        """Append uint8 [height, width, 3] RGB. Raises SinkLost."""
        try:
            _encode(self._container, self._stream, pixels, self._number)
        except OSError as error:
            raise _ended(error, str(self._path)) from error
        self._number += 1

    def finish(self) -> None:
        """Make the file whole and give it its name. Raises SinkLost."""
        try:
            for packet in self._stream.encode(None):
                self._container.mux(packet)
            self._container.close()
            self._part.replace(self._path)
        except OSError as error:
            self.abandon()
            raise _ended(error, str(self._path)) from error
        except BaseException:  # Ctrl-C while the encoder gives its last pictures
            self.abandon()
            raise

    def abandon(self) -> None:
        """Leave no trace."""
        try:
            self._container.close()
        except OSError as error:
            log.debug("%s", error)  # it is thrown away in any case
        self._part.unlink(missing_ok=True)

    def __enter__(self) -> VideoWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if kind is None and self._number:
            self.finish()
        else:
            self.abandon()


def _add_video(container: Any, width: int, height: int, fps: Fraction, options: dict[str, str]) -> Any:
    if "libx264" in av.codecs_available:
        stream = container.add_stream("libx264", rate=fps, options=options)
    else:
        log.warning("this PyAV has no H.264 encoder; MPEG-4 part 2 is written, which browsers do not play")
        stream = container.add_stream("mpeg4", rate=fps, options={"q:v": "2"})
    stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
    context = stream.codec_context
    context.time_base = 1 / fps
    # BT.709, limited range, and saying so: players guess by the picture's size where a file says nothing.
    context.colorspace = context.color_primaries = context.color_trc = 1
    context.color_range = 1
    return stream


def _encode(container: Any, stream: Any, pixels: Pixels, number: int) -> None:
    if pixels.shape != (stream.height, stream.width, 3):
        raise ValueError(f"a picture of {pixels.shape} in a video of {stream.width}x{stream.height}")
    rgb = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")
    colourspace = av.video.reformatter.Colorspace.ITU709
    frame = rgb.reformat(format="yuv420p", dst_colorspace=colourspace)
    frame.pts = number
    frame.time_base = stream.codec_context.time_base
    for packet in stream.encode(frame):
        container.mux(packet)


def _create_beside(path: Path) -> FragmentFile:
    """A file of that name, or with the first free number behind it; never one that was there."""
    for number in itertools.count(1):
        candidate = path if number == 1 else path.with_stem(f"{path.stem}-{number}")
        try:
            created = FragmentFile(candidate)
        except FileExistsError:
            continue
        except OSError as error:
            raise SinkLost(f"the recording {candidate} cannot be created: {os.strerror(error.errno or 0)}") from error
        if number > 1:
            log.info("%s exists, so %s is recorded", path, candidate.name)
        return created
    raise AssertionError("count() never ends")


def _ended(error: OSError, path: str) -> SinkEnded:
    if error.errno in _FULL:
        return SinkEnded(f"the disk is full: {path} ends here; make room, then start the recording anew")
    return SinkEnded(f"{path} cannot be written any more: {error.strerror or error}")
