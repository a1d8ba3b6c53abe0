"""A whole frame, pixels to pixels, over memory that stays: what can be compiled, captured once, and repeated.

Three recordings: COLD (the bank is empty), WARM (it is full) and the UPDATE of a full one. A queue that is only
partly filled is computed as it is. Whatever a live user changes is written into the same memory, so that a change of
prompt, strength, seed, style, fusion or bank needs no other recording.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from streamv2v_obs.frames import Pixels
from streamv2v_obs.translator.fused_graph import rewrite
from streamv2v_obs.translator.host_link import HostLink, PinnedLink, PlainLink
from streamv2v_obs.translator.latent import LatentTranslator
from streamv2v_obs.translator.motion import Motion
from streamv2v_obs.translator.pixels import Autoencoder
from streamv2v_obs.translator.repeated import CudaRecorder, Recorder, Repeated
from streamv2v_obs.translator.rungs import Rungs
from streamv2v_obs.translator.stream_batch import Origin

log = logging.getLogger(__name__)

Compiler = Callable[[Callable[[], None]], Callable[[], None]]


def frame_compiler(rungs: Rungs) -> Compiler:
    """torch.compile, one graph or none: what would be cut in pieces is not worth its minutes.

    Without CUDA graphs of its own, which would copy what we keep in place.
    """

    def backend(graph: Any, inputs: Any) -> Any:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # over its own use of torch.jit
            from torch._inductor.compile_fx import compile_fx
        mode = "max-autotune-no-cudagraphs" if torch.cuda.is_available() else "default"
        rewrite(graph, rungs)
        return compile_fx(graph, inputs, config_patches=torch._inductor.list_mode_options(mode))

    def compiled(work: Callable[[], None]) -> Callable[[], None]:
        made: Any = torch.compile(work, backend=backend, fullgraph=True, dynamic=False)
        return made  # type: ignore[no-any-return]

    return compiled


class StaticFrame:
    """Drives a ``LatentTranslator`` and an autoencoder; the same answers as without it, within rounding."""

    def __init__(
        self,
        latents: LatentTranslator,
        coder: Autoencoder,
        size: tuple[int, int],
        rungs: Rungs,
        *,
        recorder: Recorder | None = None,
        compiler: Compiler | None = None,
    ) -> None:
        """``size`` is (height, width); ``recorder`` stands in for CUDA's, ``compiler`` for torch's."""
        device, shape = latents.rows.noise.device, (*size, 3)
        with torch.inference_mode():
            self.pixels_in = torch.zeros(shape, dtype=torch.uint8, device=device)
            self.pixels_out = torch.zeros(shape, dtype=torch.uint8, device=device)
        self._latents = latents
        self._coder = coder
        self._late_update = rungs.late_update
        self._link: HostLink = PinnedLink(shape, device) if rungs.pinned else PlainLink()
        self.repeated = Repeated(recorder or (CudaRecorder() if rungs.graphs else None))
        self._work = (compiler or frame_compiler(rungs))(self.frame) if rungs.compile else self.frame
        self.compiled = rungs.compile
        latents.run_update = self._run_update

    def frame(self) -> None:
        """``pixels_in`` to ``pixels_out``: work on the device alone."""
        clean = self._latents.compute(self._coder.encode(self.pixels_in))
        dtype = self._coder.module.dtype
        self.pixels_out.copy_(self._coder.decode_on_device(clean.to(dtype)))

    @torch.inference_mode()
    def step(
        self, pixels: Pixels, prompt: Tensor, origin: Origin, motion: Motion | None = None
    ) -> tuple[Pixels, Origin | None]:
        """Take a picture uint8 [H, W, 3], and the motion that led to it; give the one that leaves, and whose it is."""
        latents = self._latents
        self._link.send(pixels, self.pixels_in)
        warm_up = latents.calls_to_warm_up
        if warm_up:
            latents.rows.fill(self._coder.encode(self.pixels_in))
        latents.admit(prompt, origin, motion)
        for _ in range(1 + warm_up):
            self._compute()
        departed = latents.depart()
        if not self._late_update:
            latents.settle()
        self._link.begin(self.pixels_out)
        # While the device computes: partitions are drawn on the host, and take it milliseconds.
        latents.prepare_update()
        return self._link.finish(), departed

    def _compute(self) -> None:
        bank = self._latents.filled
        key = ("frame", self._latents.schedule, bank)
        try:
            if bank in (0.0, 1.0):
                self.repeated.run(key, self._work)
            else:
                self.frame()
        except Exception as error:
            if not self.compiled or not _of_the_compiler(error):
                raise
            said = " ".join(str(error).split())[:200]
            log.warning("A SLOWER PATH IS TAKEN: a frame cannot be compiled (%s)", said)
            self._work, self.compiled = self.frame, False
            self.repeated.run(key, self._work)

    def _run_update(self, update: Callable[[], None]) -> None:
        if self._latents.filled == 1:
            self.repeated.run("update", update)
        else:
            update()


def _of_the_compiler(error: Exception) -> bool:
    return type(error).__module__.startswith(("torch._dynamo", "torch._inductor", "triton"))
