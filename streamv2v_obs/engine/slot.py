"""A picture slot in shared memory between two processes: the newest wins, nobody waits, no lock can be orphaned.

Layout: a head of 64 bytes, then ``BUFFERS`` buffers, each a head of 64 bytes and ``capacity`` bytes of pixels.
The writer fills the buffers in turn and then names the newest in the head. A buffer's head carries the number of
its picture twice, written before and after the pixels: a reader that finds them unequal, or changed while it was
copying, has been overtaken and takes the newer picture instead. A writer killed half-way leaves a buffer whose
numbers differ, which is never shown. The tag lies between the two numbers, so it always belongs to the pixels.
"""

from __future__ import annotations

import multiprocessing
import sys
import threading
import time
from multiprocessing.shared_memory import SharedMemory

import numpy as np
import numpy.typing as npt

from streamv2v_obs.frames import Frame, Pixels, Tag

BUFFERS = 3
_HEAD = 64
_BEGUN, _TAG, _HEIGHT, _WIDTH, _INDEX, _CAPTURED_NS, _DONE, _LAID_NS = range(8)
_TAGS = frozenset(int(tag) for tag in Tag)

_created: set[str] = set()
"""Names of the slots that this process owns, guarded by the interpreter (single operations only)."""

_barrier = threading.Lock()


def _fence() -> None:
    """Keep the processor from moving memory accesses across this line.

    x86 keeps stores in order by itself; Apple's and other ARM processors do not, and Python has no fence of its own.
    Taking and giving back a lock orders what lies before the release and after the next acquisition.
    """
    for _ in range(2):
        with _barrier:
            pass


def _attached(name: str) -> SharedMemory:
    """Another process's memory, without making this process's exit the end of it.

    Before Python 3.13 attaching enters the memory into this process's resource tracker, which removes it, with a
    warning, when this process ends. A child of multiprocessing shares its parent's tracker: the entry there is the
    owner's own and must stay.
    """
    if sys.version_info >= (3, 13):
        return SharedMemory(name=name, track=False)
    memory = SharedMemory(name=name)
    if sys.platform != "win32" and multiprocessing.parent_process() is None and memory.name not in _created:
        from multiprocessing import resource_tracker

        # The tracker knows the name with the slash that the system wants in front of it.
        resource_tracker.unregister(f"/{memory.name.lstrip('/')}", "shared_memory")
    return memory


class FrameSlot:
    """One writer, one reader, each in its own process; ``create`` owns the memory, ``attach`` borrows it."""

    def __init__(self, memory: SharedMemory, capacity: int, *, owner: bool) -> None:
        self._memory = memory
        self.capacity = capacity
        self._owner = owner
        self._newest: npt.NDArray[np.int64] = np.ndarray((2,), np.int64, memory.buf)
        stride = _HEAD + capacity
        offsets = [_HEAD + n * stride for n in range(BUFFERS)]
        self._heads = [np.ndarray((8,), np.int64, memory.buf, at) for at in offsets]
        self._pixels = [np.ndarray((capacity,), np.uint8, memory.buf, at + _HEAD) for at in offsets]
        self._taken = int(self._newest[0])
        self._closed = False
        self.unseen = 0
        """Pictures that were replaced before this reader took them."""
        self.waited_s = 0.0
        """How long the picture that was taken last had lain here."""

    @classmethod
    def create(cls, capacity: int) -> FrameSlot:
        """A new slot for pictures of at most ``capacity`` bytes (height x width x 3)."""
        capacity = -(-capacity // 64) * 64
        memory = SharedMemory(create=True, size=_HEAD + BUFFERS * (_HEAD + capacity))
        _created.add(memory.name)
        return cls(memory, capacity, owner=True)

    @classmethod
    def attach(cls, name: str, capacity: int) -> FrameSlot:
        """The slot that another process created; ``name`` and ``capacity`` are that one's."""
        return cls(_attached(name), capacity, owner=False)

    @property
    def name(self) -> str:
        """By which another process attaches."""
        return self._memory.name

    def put(self, frame: Frame) -> None:
        """Make ``frame`` the newest picture. Raises ValueError if it is larger than the slot."""
        height, width, _ = frame.pixels.shape
        if frame.pixels.nbytes > self.capacity:
            raise ValueError(f"a picture of {width}x{height} does not fit a slot of {self.capacity} bytes")
        number = int(self._newest[0]) + 1
        head = self._heads[number % BUFFERS]
        head[_BEGUN] = number
        _fence()
        head[_TAG : _CAPTURED_NS + 1] = (frame.tag, height, width, frame.index, int(frame.captured_at * 1e9))
        # Not monotonic(): on Windows that one moves in steps of 15.6 ms before Python 3.13. Both are the system's.
        head[_LAID_NS] = time.perf_counter_ns()
        target: Pixels = self._pixels[number % BUFFERS][: frame.pixels.nbytes].reshape(height, width, 3)
        np.copyto(target, frame.pixels)
        _fence()
        head[_DONE] = number
        _fence()
        self._newest[0] = number

    def take(self) -> Frame | None:
        """A copy of the newest picture; None if there is none that this reader has not had."""
        # Overtaken three times in a row means a writer far faster than any camera: better none than a wait.
        for _ in range(3):
            number = int(self._newest[0])
            if number == self._taken:
                return None
            _fence()
            head = self._heads[number % BUFFERS]
            done = int(head[_DONE])
            _fence()
            fields = head.copy()
            tag, height, width = int(fields[_TAG]), int(fields[_HEIGHT]), int(fields[_WIDTH])
            if done != number or tag not in _TAGS or height <= 0 or width <= 0 or height * width * 3 > self.capacity:
                continue
            pixels: Pixels = self._pixels[number % BUFFERS][: height * width * 3].reshape(height, width, 3).copy()
            _fence()
            if int(head[_BEGUN]) != number:
                continue
            self.unseen += max(0, number - self._taken - 1)
            self._taken = number
            self.waited_s = (time.perf_counter_ns() - int(fields[_LAID_NS])) / 1e9
            captured_at = int(fields[_CAPTURED_NS]) / 1e9
            return Frame(pixels, captured_at, int(fields[_INDEX]), Tag(tag))
        return None

    def forget(self) -> None:
        """Regard everything that was put so far as taken."""
        self._taken = int(self._newest[0])

    def close(self) -> None:
        """Let go of the memory; the owner also removes it. Nothing after it but ``close`` again."""
        if self._closed:
            return
        self._closed = True
        self._heads.clear()
        self._pixels.clear()
        del self._newest
        self._memory.close()
        if self._owner:
            self._memory.unlink()
            _created.discard(self._memory.name)

    def __del__(self) -> None:
        # Not a substitute for close(): the views must go before the memory does, or the interpreter complains of
        # exported pointers when a process ends without order. An owner's memory is then removed by the tracker.
        if not getattr(self, "_closed", True):
            self._heads.clear()
            self._pixels.clear()
            del self._newest
            self._memory.close()
