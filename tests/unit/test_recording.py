"""Video files: exact, never overwritten, playable after kill -9 and on a full disk (both for real)."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import av.video.reformatter
import numpy as np
import pytest

from streamv2v_obs.errors import ConfigError, SinkEnded, SinkLost
from streamv2v_obs.frames import Pixels
from streamv2v_obs.publish.fragments import FragmentFile
from streamv2v_obs.publish.recording import RecordingSink, VideoWriter
from streamv2v_obs.settings import PublishSettings


def settings(path: Path, **values: Any) -> PublishSettings:
    return PublishSettings.model_validate({"fps": 20, "recording": {"path": path}, **values})


def grey(value: int, width: int = 64, height: int = 64) -> Pixels:
    return np.full((height, width, 3), value, np.uint8)


def noise(seed: int, width: int = 320, height: int = 240) -> Pixels:
    return np.random.default_rng(seed).integers(0, 255, (height, width, 3), np.uint8)


def frames_of(path: Path) -> list[tuple[float, Pixels]]:
    """When each picture is shown, and the picture; fails on a file that does not play to its very end."""
    bt709 = av.video.reformatter.Colorspace.ITU709
    with av.open(str(path)) as container:
        shown = [
            (float(f.time or 0), f.to_ndarray(format="rgb24", src_colorspace=bt709)) for f in container.decode(video=0)
        ]
    return [(at, np.asarray(pixels, np.uint8)) for at, pixels in shown]


class Clock:
    """Fake: stands still until it is set."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


# --- the recording ------------------------------------------------------------------------------------------


def test_pictures_keep_their_time_and_gaps_are_filled_with_repeats(tmp_path: Path) -> None:
    clock = Clock()
    sink = RecordingSink(settings(tmp_path / "show.mp4"), clock)
    for at, value in ((0, 20), (0.05, 60), (0.101, 100), (0.25, 140), (0.26, 250), (0.3, 180)):
        clock.now = 100 + at
        sink.send(grey(value))
    sink.close()
    shown = frames_of(tmp_path / "show.mp4")
    assert [at for at, _ in shown] == pytest.approx([0, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3])
    # 250 came in the same twentieth of a second as 140 and has no place of its own.
    assert [round(float(p.mean())) for _, p in shown] == pytest.approx([20, 60, 100, 100, 100, 140, 180], abs=3)


def test_a_long_break_is_one_long_picture(tmp_path: Path) -> None:
    clock = Clock()
    sink = RecordingSink(settings(tmp_path / "show.mp4"), clock)
    sink.send(grey(20))
    clock.now += 60
    sink.send(grey(60))
    sink.close()
    assert [at for at, _ in frames_of(tmp_path / "show.mp4")] == pytest.approx([0, 60])


def test_the_first_picture_sets_the_size(tmp_path: Path) -> None:
    clock = Clock()
    sink = RecordingSink(settings(tmp_path / "show.mp4"), clock)
    for picture in (grey(200, 96, 65), grey(200, 64, 64), grey(200, 400, 100)):
        sink.send(picture)
        clock.now += 0.05
    sink.close()
    shown = [p for _, p in frames_of(tmp_path / "show.mp4")]
    assert {p.shape for p in shown} == {(64, 96, 3)}
    assert shown[1][32, 2].max() < 20, "bars at the sides"
    assert shown[2][2, 48].max() < 20, "bars above"
    assert shown[2][32, 48].min() > 180


def test_colours_are_kept_and_named(tmp_path: Path) -> None:
    picture = grey(0)
    picture[:, :32] = (200, 40, 40)
    picture[:, 32:] = (40, 60, 200)
    sink = RecordingSink(settings(tmp_path / "show.mp4"), Clock())
    sink.send(picture)
    sink.close()
    ((_, shown),) = frames_of(tmp_path / "show.mp4")
    assert np.abs(shown[32, 16].astype(int) - (200, 40, 40)).max() < 8
    assert np.abs(shown[32, 48].astype(int) - (40, 60, 200)).max() < 8
    with av.open(str(tmp_path / "show.mp4")) as container:
        context = container.streams.video[0].codec_context
        assert (context.colorspace, context.color_primaries, context.color_trc, context.color_range) == (1, 1, 1, 1)


def test_an_existing_file_is_never_touched(tmp_path: Path) -> None:
    (tmp_path / "show.mp4").write_bytes(b"precious")
    (tmp_path / "show-2.mp4").write_bytes(b"too")
    sink = RecordingSink(settings(tmp_path / "show.mp4"), Clock())
    assert sink.detail == str(tmp_path / "show-3.mp4")
    sink.send(grey(50))
    sink.close()
    assert (tmp_path / "show.mp4").read_bytes() == b"precious"
    assert (tmp_path / "show-2.mp4").read_bytes() == b"too"
    assert len(frames_of(tmp_path / "show-3.mp4")) == 1


def test_a_recording_without_pictures_leaves_no_file(tmp_path: Path) -> None:
    RecordingSink(settings(tmp_path / "show.mp4")).close()
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(SinkLost, match=r"nowhere.show\.mp4 cannot be created: No such file"):
        RecordingSink(settings(tmp_path / "nowhere" / "show.mp4"))


# Noise costs many bytes, so that fragments are large and the disk is soon full.
ENDLESS = """
import sys, time
from pathlib import Path
import numpy as np
from streamv2v_obs.errors import SinkEnded
from streamv2v_obs.publish.recording import RecordingSink
from streamv2v_obs.settings import PublishSettings

now = 0.0
settings = PublishSettings.model_validate(
    {"fps": 20, "recording": {"path": Path(sys.argv[1]), "bitrate_kbps": 3000}})
sink = RecordingSink(settings, lambda: now)
rng = np.random.default_rng(0)
try:
    while True:
        sink.send(rng.integers(0, 255, (240, 320, 3), np.uint8))
        now += 0.05
except SinkEnded as error:
    print(error)
    sink.close()
"""


def test_after_kill_9_everything_but_the_last_moment_plays(tmp_path: Path) -> None:
    path = tmp_path / "show.mp4"
    process = subprocess.Popen([sys.executable, "-c", ENDLESS, str(path)])
    try:
        ends_at = time.monotonic() + 60
        while not (path.exists() and path.stat().st_size > 1_200_000):
            assert time.monotonic() < ends_at
            assert process.poll() is None
            time.sleep(0.01)
    finally:
        process.kill()
        process.wait()
    shown = frames_of(path)
    assert len(shown) >= 20
    assert [at for at, _ in shown] == pytest.approx([n / 20 for n in range(len(shown))])


def check_full(path: Path, said: str) -> None:
    assert said.startswith(f"the disk is full: {path} ends here")
    assert len(frames_of(path)) >= 20


@pytest.mark.skipif(sys.platform == "win32", reason="RLIMIT_FSIZE is POSIX")
def test_a_limit_of_the_systems_ends_the_recording_and_it_plays(tmp_path: Path) -> None:
    path = tmp_path / "show.mp4"
    limited = f"import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000))\n{ENDLESS}"
    done = subprocess.run([sys.executable, "-c", limited, str(path)], capture_output=True, text=True, timeout=60)
    assert done.stderr == ""
    assert path.stat().st_size <= 1_000_000
    check_full(path, done.stdout)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of one megabyte."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount, umount = shutil.which("mount"), shutil.which("umount")
    command = [str(mount), "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
    if mount is None or umount is None or subprocess.run(command, capture_output=True).returncode != 0:
        pytest.skip("mounting a small disk needs root; the same is tested by RLIMIT_FSIZE")
    yield folder
    subprocess.run([umount, str(folder)], check=True)


def test_a_full_disk_ends_the_recording_and_it_plays(small_disk: Path) -> None:
    path = small_disk / "show.mp4"
    done = subprocess.run([sys.executable, "-c", ENDLESS, str(path)], capture_output=True, text=True, timeout=60)
    assert done.stderr == ""
    check_full(path, done.stdout)


def test_a_disk_that_is_full_at_once_leaves_nothing(small_disk: Path) -> None:
    (small_disk / "filler").write_bytes(b"x" * (1 << 20))
    sink = RecordingSink(settings(small_disk / "show.mp4"), clock := Clock())

    def record() -> None:
        for n in range(100):
            clock.now += 0.05
            sink.send(noise(n))

    with pytest.raises(SinkEnded, match="the disk is full"):
        record()
    sink.close()
    assert [p.name for p in small_disk.iterdir()] == ["filler"]


def test_only_whole_fragments_reach_the_file(tmp_path: Path) -> None:
    path = tmp_path / "boxes"
    file = FragmentFile(path)

    def box(kind: bytes, size: int) -> bytes:
        return size.to_bytes(4, "big") + kind + bytes(size - 8)

    data = box(b"ftyp", 24) + box(b"moov", 100)
    large = (1).to_bytes(4, "big") + b"mdat" + (300).to_bytes(8, "big") + bytes(284)
    data += box(b"moof", 60) + box(b"mdat", 200) + box(b"moof", 60) + large + box(b"moof", 60)
    ends, seen = {0, 124, 384, 744}, set()
    for n in range(len(data)):
        file.write(data[n : n + 1])
        seen.add(path.stat().st_size)
    file.close()
    assert seen == ends
    assert path.read_bytes() == data[:744]


# --- whole files --------------------------------------------------------------------------------------------


def write(path: Path, count: int = 12, fps: Fraction = Fraction(30000, 1001)) -> None:
    with VideoWriter(path, 320, 240, fps) as writer:
        for n in range(count):
            writer.write(noise(n))


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".MP4"])
def test_every_picture_has_its_exact_time(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"out{suffix}"
    write(path, 12)
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        assert stream.average_rate == Fraction(30000, 1001)
        assert stream.frames == 12
        times = [f.pts * f.time_base for f in container.decode(stream) if f.pts is not None and f.time_base]
    assert times == [Fraction(n * 1001, 30000) for n in range(12)]
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_the_same_pictures_give_the_same_bytes(tmp_path: Path) -> None:
    write(tmp_path / "a.mp4")
    write(tmp_path / "b.mp4")
    assert (tmp_path / "a.mp4").read_bytes() == (tmp_path / "b.mp4").read_bytes()


def test_the_same_pictures_give_the_same_bytes_whatever_lay_in_memory(tmp_path: Path) -> None:
    code = "import sys, pathlib, tests.unit.test_recording as here; here.write(pathlib.Path(sys.argv[1]))"
    for junk in ("0", "1", "85"):  # glibc fills with it what it hands out; elsewhere it means nothing
        environment = os.environ | {"MALLOC_PERTURB_": junk}
        subprocess.run(
            [sys.executable, "-c", code, tmp_path / f"{junk}.mp4"],
            cwd=Path(__file__).parents[2],
            env=environment,
            check=True,
        )
    assert len({path.read_bytes() for path in tmp_path.glob("*.mp4")}) == 1


def test_an_error_half_way_leaves_nothing_and_the_old_file_alone(tmp_path: Path) -> None:
    path = tmp_path / "out.mp4"
    path.write_bytes(b"precious")

    def fail() -> None:
        with VideoWriter(path, 320, 240, Fraction(25)) as writer:
            writer.write(noise(0))
            assert path.read_bytes() == b"precious"
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert [p.name for p in tmp_path.iterdir()] == ["out.mp4"]
    assert path.read_bytes() == b"precious"
    write(path)
    assert len(frames_of(path)) == 12


def test_no_pictures_no_file(tmp_path: Path) -> None:
    with VideoWriter(tmp_path / "out.mp4", 64, 64, Fraction(25)):
        pass
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_written_is_said_before_anything_is(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"cannot write \.gif; allowed: \.mp4"):
        VideoWriter(tmp_path / "out.gif", 64, 64, Fraction(25))
    with pytest.raises(ConfigError, match="even"):
        VideoWriter(tmp_path / "out.mp4", 63, 64, Fraction(25))
    with pytest.raises(SinkLost, match="cannot be created: No such file"):
        VideoWriter(tmp_path / "nowhere" / "out.mp4", 64, 64, Fraction(25))


def test_a_full_disk_is_one_clear_error_and_leaves_nothing(small_disk: Path) -> None:
    with pytest.raises(SinkLost, match=r"the disk is full: .*out\.mp4"):
        write(small_disk / "out.mp4", 60)
    assert list(small_disk.iterdir()) == []
