"""Video files: every picture once, at its time, upright, with its colours, or one clear line why not."""

from __future__ import annotations

import struct
import time
from collections.abc import Iterable
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import pytest

from streamv2v_obs.capture.pattern import draw_pattern, read_counter
from streamv2v_obs.capture.video import VideoSource
from streamv2v_obs.errors import EndOfSource, SourceLost, SourceStalled
from streamv2v_obs.frames import Frame, Pixels
from streamv2v_obs.settings import VideoCapture


def write(
    path: Path,
    pictures: Iterable[Pixels],
    *,
    rate: Fraction = Fraction(30),
    times_s: Iterable[float] | None = None,
    turned: int = 0,
    pixel_aspect: Fraction | None = None,
    bt709: bool = False,
    codec: str = "libx264",
) -> Path:
    stamps = None if times_s is None else iter(times_s)
    with av.open(str(path), "w") as container:
        stream = None
        for n, pixels in enumerate(pictures):
            if stream is None:
                stream = container.add_stream(codec, rate=rate)
                stream.height, stream.width = pixels.shape[:2]
                stream.pix_fmt = "yuv420p"
                if codec == "libx264":
                    stream.options = {"preset": "ultrafast", "crf": "10"}
                if turned:
                    stream.set_display_rotation(turned)
                if pixel_aspect is not None:
                    stream.codec_context.sample_aspect_ratio = pixel_aspect
                if bt709:
                    stream.codec_context.colorspace = 1
                if stamps is not None:
                    stream.codec_context.time_base = Fraction(1, 1000)
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")
            frame = frame.reformat(format="yuv420p", dst_colorspace="ITU709" if bt709 else "ITU601")
            if bt709:
                frame.colorspace = 1
            if stamps is None:
                frame.pts, frame.time_base = n, 1 / rate
            else:
                frame.pts, frame.time_base = round(next(stamps) * 1000), Fraction(1, 1000)
            for packet in stream.encode(frame):
                container.mux(packet)
        assert stream is not None
        for packet in stream.encode():
            container.mux(packet)
    return path


def clip(path: Path, count: int, size: tuple[int, int] = (320, 240), rate: Fraction = Fraction(30)) -> Path:
    return write(path, (draw_pattern(n, *size) for n in range(count)), rate=rate)


def opened(path: Path, *, fps: float = 240, loop: bool = False, realtime: bool = False) -> VideoSource:
    return VideoSource(VideoCapture(kind="video", path=path, fps=fps, loop=loop, realtime=realtime))


def rest(source: VideoSource) -> list[Frame]:
    frames = []
    try:
        while True:
            frames.append(source.read())
    except EndOfSource:
        return frames
    finally:
        source.close()


def counters(frames: Iterable[Frame]) -> list[int | None]:
    return [read_counter(frame.pixels) for frame in frames]


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "avi"])
def test_every_picture_comes_once_and_in_order(tmp_path: Path, suffix: str) -> None:
    source = opened(clip(tmp_path / f"a.{suffix}", 40, rate=Fraction(30000, 1001)))
    assert (source.width, source.height) == (320, 240)
    assert source.fps == pytest.approx(Fraction(30000, 1001), rel=1e-3)
    assert isinstance(source.fps, Fraction)
    assert source.frames in (40, None)
    assert source.detail.startswith(f"video a.{suffix} 320x240 at 29.97")
    frames = rest(source)
    assert counters(frames) == list(range(40))
    assert [frame.index for frame in frames] == list(range(40))
    assert frames[0].pixels.flags.c_contiguous
    assert frames[0].pixels.dtype == np.uint8


def test_the_end_says_so_again_and_again(tmp_path: Path) -> None:
    source = opened(clip(tmp_path / "a.mp4", 2))
    source.read()
    source.read()
    for _ in range(2):
        with pytest.raises(EndOfSource, match=r"a\.mp4 is over after 2 pictures"):
            source.read()
    source.close()


def test_a_loop_begins_again_and_time_goes_on(tmp_path: Path) -> None:
    source = opened(clip(tmp_path / "a.mp4", 5), loop=True)
    frames, positions = [], []
    for _ in range(17):
        frames.append(source.read())
        positions.append(source.position_s)
    source.close()
    assert counters(frames) == [n % 5 for n in range(17)]
    assert [frame.index for frame in frames] == list(range(17))
    assert positions == pytest.approx([n / 30 for n in range(17)], abs=2e-3)


def test_realtime_keeps_the_timestamps_of_a_film_with_varying_pace(tmp_path: Path) -> None:
    times = [0.0, 0.05, 0.10, 0.30, 0.32, 0.50]
    path = write(tmp_path / "a.mkv", (draw_pattern(n, 128, 96) for n in range(6)), times_s=times)
    source = opened(path, realtime=True)
    frames = rest(source)
    seen = dict(zip(counters(frames), (frame.captured_at - frames[0].captured_at for frame in frames), strict=True))
    assert seen[0] == 0
    for number, at in seen.items():
        assert number is not None
        # Never early; late only as far as a busy machine is.
        assert times[number] - 0.005 <= at <= times[number] + 0.5


class _Time:
    def __init__(self) -> None:
        self.now = 500.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, for_s: float) -> None:
        self.now += for_s


def timed(path: Path, *, fps: float = 240, loop: bool = False) -> tuple[VideoSource, _Time]:
    """A realtime source whose clock moves only when the source or the test moves it."""
    time = _Time()
    return VideoSource(VideoCapture(kind="video", path=path, fps=fps, loop=loop), time, time.sleep), time


def test_a_late_reader_gets_the_newest_picture_that_is_due(tmp_path: Path) -> None:
    source, time = timed(clip(tmp_path / "a.mp4", 60))
    assert counters([source.read()]) == [0]
    time.now += 0.51
    assert counters([source.read()]) == [15]
    assert counters([source.read()]) == [16]
    assert time.now == pytest.approx(500 + 16 / 30, abs=1e-3)
    source.close()


def test_far_behind_the_film_goes_on_from_where_it_is(tmp_path: Path) -> None:
    source, time = timed(clip(tmp_path / "a.mp4", 60))
    source.read()
    time.now += 3600
    assert counters([source.read(), source.read()]) == [1, 2]
    assert time.now == pytest.approx(4100 + 1 / 30, abs=1e-3)
    source.close()


def test_realtime_loops_without_a_hitch(tmp_path: Path) -> None:
    source, time = timed(clip(tmp_path / "a.mp4", 6), loop=True)
    began = time.now
    frames = [source.read() for _ in range(20)]
    source.close()
    assert counters(frames) == [n % 6 for n in range(20)]
    assert [frame.captured_at - began for frame in frames] == pytest.approx([n / 30 for n in range(20)], abs=3e-3)


@pytest.mark.parametrize(("film", "asked", "step"), [(60, 30, 2), (30, 30, 1), (30, 10, 3), (24, 30, 1)])
def test_fps_is_the_most_that_comes(tmp_path: Path, film: int, asked: int, step: int) -> None:
    source, _ = timed(clip(tmp_path / "a.mp4", 60, rate=Fraction(film)), fps=asked)
    frames = rest(source)
    assert counters(frames) == list(range(0, 60, step))


def test_a_picture_that_is_due_much_later_is_a_stall_not_a_hang(tmp_path: Path) -> None:
    path = write(tmp_path / "a.mkv", (draw_pattern(n, 128, 96) for n in range(2)), times_s=[0, 3.5])
    source, time = timed(path)
    source.read()
    for _ in range(3):
        with pytest.raises(SourceStalled, match=r"a\.mkv is due in"):
            source.read()
    assert counters([source.read()]) == [1]
    assert time.now == pytest.approx(503.5, abs=2e-3)
    source.close()


@pytest.mark.parametrize("turned", [90, -90, 180])
def test_a_film_of_a_turned_phone_stands_upright(tmp_path: Path, turned: int) -> None:
    upright = draw_pattern(5, 128, 320)
    # The file holds what the sensor saw; its matrix turns it counterclockwise by `turned`.
    path = write(tmp_path / "a.mp4", [np.rot90(upright, -turned // 90)] * 3, turned=turned)
    source = opened(path)
    assert (source.width, source.height) == (128, 320)
    frames = rest(source)
    assert counters(frames) == [5, 5, 5]
    assert float(np.abs(frames[0].pixels.astype(int) - upright).mean()) < 6


def test_pixels_become_square(tmp_path: Path) -> None:
    path = write(tmp_path / "a.mp4", [draw_pattern(9, 320, 240)] * 2, pixel_aspect=Fraction(4, 3))
    source = opened(path)
    assert (source.width, source.height) == (426, 240)
    assert counters(rest(source)) == [9, 9]


@pytest.mark.parametrize("bt709", [True, False])
def test_colours_follow_the_matrix_the_file_names(tmp_path: Path, bt709: bool) -> None:
    red = np.full((96, 128, 3), (200, 30, 60), np.uint8)
    frames = rest(opened(write(tmp_path / "a.mp4", [red] * 2, bt709=bt709)))
    assert np.abs(frames[0].pixels.astype(int) - red).max() <= 5


def test_files_that_are_no_videos_are_named(tmp_path: Path) -> None:
    text = tmp_path / "notes.mp4"
    text.write_bytes(b"no video at all " * 100)
    empty = tmp_path / "empty.mp4"
    empty.touch()
    for path, reason in (
        (text, "Invalid data"),
        (empty, "Invalid data"),
        (tmp_path / "absent.mp4", "No such file"),
        (tmp_path, "directory"),
    ):
        with pytest.raises(SourceLost, match=reason) as caught:
            opened(path)
        assert str(path) in str(caught.value)
        assert "\n" not in str(caught.value)


def test_a_sound_file_has_no_video(tmp_path: Path) -> None:
    path = tmp_path / "sound.wav"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=8000)
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), layout="mono")
        sound.rate = 8000
        for packet in (*stream.encode(sound), *stream.encode()):
            container.mux(packet)
    with pytest.raises(SourceLost, match=r"sound\.wav has no video in it"):
        opened(path)


def test_a_damaged_place_is_passed_over_with_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = clip(tmp_path / "a.mp4", 60)
    whole = bytearray(path.read_bytes())
    middle = len(whole) // 2
    whole[middle : middle + len(whole) // 8] = b"\xff" * (len(whole) // 8)
    path.write_bytes(whole)
    seen = counters(rest(opened(path)))
    assert seen[:10] == list(range(10))
    assert "a.mp4 is damaged at" in caplog.text
    assert len(caplog.records) == 1


@pytest.mark.parametrize(("width", "height"), [(1, 161), (5000, 1)])
def test_pixels_of_an_absurd_shape_are_taken_for_squares(
    width: int, height: int, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Found by the fuzzer: a picture no pixel wide."""
    path = write(tmp_path / "a.mp4", [draw_pattern(n, 64, 64) for n in range(3)], pixel_aspect=Fraction(4, 3))
    before, box, after = path.read_bytes().partition(b"pasp")
    path.write_bytes(before + box + struct.pack(">II", width, height) + after[8:])
    source = opened(path)
    assert source.read().pixels.shape == (64, 64, 3)
    assert "a.mp4 says that its pixels are" in caplog.text
    source.close()


def test_a_file_that_vanishes_between_two_passes_is_lost(tmp_path: Path) -> None:
    path = clip(tmp_path / "a.mp4", 3)
    source = opened(path, loop=True)
    for _ in range(3):
        source.read()
    path.unlink()
    with pytest.raises(SourceLost, match=r"a\.mp4.*No such file"):
        source.read()
    source.close()


def test_reading_ahead_is_not_slower_than_the_film(tmp_path: Path) -> None:
    began = time.monotonic()
    frames = rest(opened(clip(tmp_path / "a.mp4", 90, rate=Fraction(10))))
    assert len(frames) == 90
    assert time.monotonic() - began < 8  # nine seconds of film
    assert all(b.captured_at >= a.captured_at for a, b in pairwise(frames))
