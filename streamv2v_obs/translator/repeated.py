"""Work on a device that is recorded once and then repeated: CUDA graphs, captured by hand."""

from __future__ import annotations

import logging
from collections.abc import Callable, Hashable
from typing import Any, Protocol

import torch

log = logging.getLogger(__name__)

Work = Callable[[], None]


class Recorder(Protocol):
    """Turns work over memory that stays into something that repeats it without Python."""

    def record(self, work: Work) -> Work: ...


class CudaRecorder:
    """``torch.cuda.CUDAGraph``; all graphs of one recorder share a pool, since no two of them ever run at once."""

    def __init__(self) -> None:
        self._pool: Any = torch.cuda.graph_pool_handle()

    def record(self, work: Work) -> Work:
        """Capture ``work``, which does not run now. Raises RuntimeError for what cannot be captured."""
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self._pool):
            work()
        return graph.replay


class Repeated:
    """Runs each piece of work as it is the first time, which chooses kernels and compiles; then by its recording.

    What cannot be recorded is said once, and from then on all work runs as it is.
    """

    def __init__(self, recorder: Recorder | None) -> None:
        self._recorder = recorder
        self._seen: set[Hashable] = set()
        self._recorded: dict[Hashable, Work] = {}

    @property
    def recording(self) -> bool:
        """Whether work is being repeated by recordings."""
        return self._recorder is not None

    @property
    def recordings(self) -> int:
        """How many there are."""
        return len(self._recorded)

    def run(self, key: Hashable, work: Work) -> None:
        """Do ``work``; the same ``key`` stands for the same operations on the same memory."""
        again = self._recorded.get(key)
        if again is None and key in self._seen and self._recorder is not None:
            try:
                again = self._recorded[key] = self._recorder.record(work)
            except RuntimeError as error:
                said = " ".join(str(error).split())[:200]
                log.warning("A SLOWER PATH IS TAKEN: a frame cannot be captured in a graph (%s)", said)
                self._recorder = None
                self._recorded.clear()
        self._seen.add(key)
        (again or work)()
