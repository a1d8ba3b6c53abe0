"""Work shared out to processes, which end with the one that shares it out."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from multiprocessing import get_context, parent_process
from typing import Any


@contextmanager
def in_processes(
    work: Callable[..., None],
    tasks: Sequence[tuple[Any, ...]],
    processes: int,
    start: Callable[..., None] | None = None,
    given: tuple[Any, ...] = (),
) -> Iterator[Iterator[None]]:
    """Do ``work(*task)`` for each task, ``processes`` at a time; what it gives yields whenever one is done.

    ``start(*given)`` runs first in each process. What a task raises is raised where it is waited for. However the
    block is left, no further task is begun, and those that run are waited for.
    """
    # Not forked: torch's threads do not survive it.
    pool = ProcessPoolExecutor(processes, mp_context=get_context("spawn"), initializer=_begin, initargs=(start, given))
    try:
        futures = [pool.submit(work, *task) for task in tasks]
        yield (future.result() for future in as_completed(futures))
    finally:
        pool.shutdown(cancel_futures=True)


def _begin(start: Callable[..., None] | None, given: tuple[Any, ...]) -> None:
    # Each process holds the others' ends of the pool's pipes, so that none sees them close when the parent is killed.
    threading.Thread(target=_end_with_parent, daemon=True).start()
    if start is not None:
        start(*given)


def _end_with_parent() -> None:
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
