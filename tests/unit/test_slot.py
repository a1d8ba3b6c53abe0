"""The slot between two real processes: newest wins, nothing torn, nothing left over."""

from __future__ import annotations

import subprocess
import sys
import textwrap
import time
from multiprocessing.shared_memory import SharedMemory
from pathlib import Path

import numpy as np
import pytest

from streamv2v_obs.engine.slot import _BEGUN, _DONE, FrameSlot
from streamv2v_obs.frames import Frame, Tag

PIXELS = 512 * 512 * 3


def frame(value: int, *, index: int = 0, tag: Tag = Tag.TRANSLATED, side: int = 16) -> Frame:
    return Frame(np.full((side, side, 3), value, np.uint8), 12.5 + index, index, tag)


# One whole frame is one value and the tag follows from it: a mixture of any two frames in a row shows. The pictures
# are made beforehand, so that the writer is the faster of the two: it only copies, and the reader compares as well.
WRITER = """
import sys, time
import numpy as np
from streamv2v_obs.engine.slot import FrameSlot
from streamv2v_obs.frames import Frame, Tag

def write(name, capacity, size, first=0, last=None):
    slot = FrameSlot.attach(name, capacity)
    pictures = [np.full(size, value, np.uint8) for value in range(7)]
    n = first
    while last is None or n < last:
        value = n % 7
        tag = Tag.BYPASS if value % 2 else Tag.TRANSLATED
        slot.put(Frame(pictures[value], float(n), n, tag))
        n += 1
    slot.close()
"""


@pytest.fixture
def writer(tmp_path: Path) -> Path:
    """A module ``writer`` in its own folder, which a spawned process can import."""
    (tmp_path / "writer.py").write_text(WRITER)
    return tmp_path


def run(folder: Path, code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    script = folder / "script.py"
    script.write_text(textwrap.dedent(code))
    command = [sys.executable, "-W", "error", str(script), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


def exists(name: str) -> bool:
    """Whether memory of that name is still there, asked in a process of its own: asking must not keep it."""
    code = f"from streamv2v_obs.engine.slot import FrameSlot; FrameSlot.attach({name!r}, 64).close()"
    return subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=60).returncode == 0


def test_the_newest_wins_and_the_loss_is_counted() -> None:
    slot = FrameSlot.create(PIXELS)
    far = FrameSlot.attach(slot.name, slot.capacity)
    try:
        assert slot.take() is None
        for n in range(5):
            far.put(frame(n, index=n))
        got = slot.take()
        assert got is not None
        assert (got.index, got.captured_at, got.tag) == (4, 16.5, Tag.TRANSLATED)
        assert (got.pixels == 4).all()
        assert slot.unseen == 4
        assert slot.take() is None
        far.put(frame(7, index=7, tag=Tag.BYPASS, side=32))
        got = slot.take()
        assert got is not None
        assert got.pixels.shape == (32, 32, 3)
        assert got.tag is Tag.BYPASS
        assert slot.unseen == 4
    finally:
        far.close()
        slot.close()


def test_what_was_forgotten_is_not_given() -> None:
    slot = FrameSlot.create(PIXELS)
    try:
        slot.put(frame(1))
        slot.forget()
        assert slot.take() is None
    finally:
        slot.close()


def test_a_picture_that_does_not_fit_is_refused_whole() -> None:
    slot = FrameSlot.create(16 * 16 * 3)
    try:
        slot.put(frame(1))
        with pytest.raises(ValueError, match="64x64 does not fit a slot of 768 bytes"):
            slot.put(frame(2, side=64))
        got = slot.take()
        assert got is not None
        assert (got.pixels == 1).all()
    finally:
        slot.close()


@pytest.mark.parametrize(("field", "value"), [(1, 99), (2, 0), (2, -4), (2, 10**6), (6, 5)])
def test_a_damaged_head_is_no_picture(field: int, value: int) -> None:
    slot = FrameSlot.create(PIXELS)
    try:
        slot.put(frame(1))
        slot._heads[1][field] = value
        assert slot.take() is None
    finally:
        slot.close()


def test_two_processes_at_full_speed_never_show_a_mixture(writer: Path) -> None:
    slot = FrameSlot.create(PIXELS)
    command = f"from writer import write; write({slot.name!r}, {slot.capacity}, (512, 512, 3))"
    process = subprocess.Popen([sys.executable, "-c", command], cwd=writer)
    try:
        seen = 0
        ends_at = time.monotonic() + 60
        while (seen < 300 or not slot.unseen) and time.monotonic() < ends_at:
            got = slot.take()
            if got is None:
                continue
            seen += 1
            check(got)
        assert seen >= 300, f"{seen} pictures within a minute; the writer's exit code is {process.poll()}"
        assert slot.unseen > 0, "never overtaken within a minute: this test has tested nothing"
    finally:
        process.kill()
        process.wait()
        slot.close()


def check(got: Frame) -> None:
    value = got.index % 7
    assert (got.pixels == value).all(), "pixels of two frames in one"
    assert got.tag is (Tag.BYPASS if value % 2 else Tag.TRANSLATED), "another frame's tag"
    assert got.captured_at == float(got.index)


def test_a_writer_killed_in_the_middle_leaves_nothing_torn_to_show(writer: Path) -> None:
    size = (1536, 1536, 3)
    slot = FrameSlot.create(1536 * 1536 * 3)
    chance = np.random.default_rng(7)
    torn = 0
    try:
        for attempt in range(10):
            first = attempt * 1_000_000
            command = f"from writer import write; write({slot.name!r}, {slot.capacity}, {size}, {first})"
            process = subprocess.Popen([sys.executable, "-c", command], cwd=writer)
            try:
                before = int(slot._newest[0])
                ends_at = time.monotonic() + 30
                while int(slot._newest[0]) < before + 3:
                    assert time.monotonic() < ends_at, "the writer never began"
                    time.sleep(0.002)
                time.sleep(chance.random() * 0.03)
            finally:
                process.kill()
                process.wait()
            torn += any(head[_BEGUN] != head[_DONE] for head in slot._heads)
            got = slot.take()
            assert got is not None, "the last whole picture is still there"
            check(got)
        assert torn, "no kill fell into a write: this test has tested nothing"
    finally:
        slot.close()


def test_after_close_nothing_remains() -> None:
    slot = FrameSlot.create(PIXELS)
    name = slot.name
    assert exists(name)
    slot.close()
    slot.close()
    assert not exists(name)


def test_a_spawned_child_that_attaches_and_ends_takes_nothing_with_it(writer: Path) -> None:
    code = """
    import multiprocessing
    from streamv2v_obs.engine.slot import FrameSlot
    from writer import write

    if __name__ == "__main__":
        slot = FrameSlot.create(64 * 64 * 3)
        context = multiprocessing.get_context("spawn")
        for round in range(2):
            child = context.Process(target=write, args=(slot.name, slot.capacity, (64, 64, 3), 0, 5))
            child.start()
            child.join()
            assert child.exitcode == 0
            assert slot.take().index == 4
        killed = context.Process(target=write, args=(slot.name, slot.capacity, (64, 64, 3), 0))
        killed.start()
        while slot.take() is None:
            pass
        killed.kill()
        killed.join()
        again = FrameSlot.attach(slot.name, slot.capacity)
        again.close()
        name = slot.name
        slot.close()
        try:
            FrameSlot.attach(name, slot.capacity)
        except FileNotFoundError:
            print("gone")
    """
    done = run(writer, code)
    assert (done.returncode, done.stdout, done.stderr) == (0, "gone\n", "")


def test_a_stranger_that_attaches_and_ends_takes_nothing_with_it(writer: Path) -> None:
    slot = FrameSlot.create(64 * 64 * 3)
    try:
        done = run(writer, f"from writer import write; write({slot.name!r}, {slot.capacity}, (64, 64, 3), 0, 5)")
        assert (done.returncode, done.stderr) == (0, "")
        # An exit without close() is the same to the memory.
        done = run(
            writer,
            f"""
            from streamv2v_obs.engine.slot import FrameSlot
            slot = FrameSlot.attach({slot.name!r}, {slot.capacity})
            """,
        )
        assert (done.returncode, done.stderr) == (0, "")
        time.sleep(0.2)  # a resource tracker outlives its process by a moment
        assert exists(slot.name)
        got = slot.take()
        assert got is not None
        assert got.index == 4
    finally:
        slot.close()


@pytest.mark.skipif(sys.platform == "win32", reason="there the system frees it with its last user")
def test_memory_of_an_owner_that_was_killed_is_freed_too(writer: Path) -> None:
    code = """
    import os, signal
    from streamv2v_obs.engine.slot import FrameSlot
    slot = FrameSlot.create(64 * 64 * 3)
    print(slot.name, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
    """
    done = run(writer, code)
    name = done.stdout.strip()
    assert name
    ends_at = time.monotonic() + 10
    while exists(name) and time.monotonic() < ends_at:
        time.sleep(0.1)
    with pytest.raises(FileNotFoundError):
        SharedMemory(name=name)
