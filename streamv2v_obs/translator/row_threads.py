"""A frame by one thread for each row of the stream batch: the quicker way on a CPU.

An operation of a small network is too short to be shared among threads: they wait for each other more than they work.
The rows of a call know nothing of one another, and the bank is each row's own; so one thread encodes and takes row 0,
another takes the last row and decodes it, and nobody waits before the end.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any, TypeVar

import torch
from torch import Tensor

from streamv2v_obs.frames import Pixels
from streamv2v_obs.translator.latent import LatentTranslator
from streamv2v_obs.translator.motion import Motion
from streamv2v_obs.translator.pixels import PixelCoder
from streamv2v_obs.translator.stream_batch import Origin

T = TypeVar("T")


class RowThreads:
    """Drives a ``LatentTranslator`` that was made ``row_by_row``, with the schedule ``stream``."""

    def __init__(self, latents: LatentTranslator, dtype: torch.dtype, threads: int) -> None:
        """``threads``: how many rows at once; the machine's are shared out among them. ``dtype``: the decoder's."""
        self._latents = latents
        self._dtype = dtype
        together = torch.get_num_threads()
        each = max(1, together // threads)
        all_there = threading.Barrier(threads + 1)

        def begin() -> None:
            torch.set_num_threads(each)
            all_there.wait()

        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="row", initializer=begin)
        for _ in range(threads):
            self._pool.submit(int)
        all_there.wait()
        # That number is each thread's own, but torch gives the last one that was set to threads yet to come.
        torch.set_num_threads(together)

    def step(
        self, coder: PixelCoder, pixels: Pixels, prompt: Tensor, origin: Origin, motion: Motion | None = None
    ) -> tuple[Pixels, Origin | None]:
        """Take a picture uint8 [H, W, 3], and the motion that led to it; give the one that leaves, and whose it is.

        The bank's update is left due.
        """
        latents = self._latents
        warm_up = latents.calls_to_warm_up
        if warm_up:
            latent = self._do(lambda: coder.encode(pixels)).result()
            with torch.inference_mode():
                latents.rows.fill(latent)
        latents.admit(prompt, origin, motion)
        for _ in range(warm_up):
            self._advance(lambda: coder.encode(pixels), lambda _: None)
        made = self._advance(lambda: coder.encode(pixels), lambda x0: coder.decode(x0.to(self._dtype)))
        return made, latents.depart()

    def _advance(self, encode: Callable[[], Tensor], decode: Callable[[Tensor], T]) -> T:
        latents, last = self._latents, self._latents.steps - 1

        def ends() -> tuple[Tensor, T]:
            x0 = latents.compute_row(last, None)
            return x0, decode(x0)

        # The last row first: a picture waits for it.
        leaving = self._do(ends)
        others = [self._do(lambda: latents.compute_row(0, encode()))]
        others += [self._do(lambda row=row: latents.compute_row(row, None)) for row in range(1, last)]  # type: ignore[misc]
        # All have to have ended before anything is raised: nobody may write into the rows any more.
        everything: list[Future[Any]] = [leaving, *others]
        wait(everything)
        x0, made = leaving.result()
        latents.hand_down(torch.cat([*(one.result() for one in others), x0]))
        return made

    def _do(self, work: Callable[[], T]) -> Future[T]:
        return self._pool.submit(torch.inference_mode()(work))

    def close(self) -> None:
        """End the threads."""
        self._pool.shutdown()
