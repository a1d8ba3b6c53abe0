"""What computes a translator's frames: a faster path where it paints what the plain one paints, and says which."""

from __future__ import annotations

import logging
from collections.abc import Callable

import torch
from torch import Tensor

from streamv2v_obs.errors import ConfigError, ModelLoadError
from streamv2v_obs.frames import Pixels
from streamv2v_obs.translator.backend import (
    LEAST_AGREEMENT_DB,
    Backend,
    Graphs,
    make_graphs,
    psnr,
    trial_pictures,
)
from streamv2v_obs.translator.latent import LatentTranslator
from streamv2v_obs.translator.model import TranslationModel
from streamv2v_obs.translator.motion import Motion
from streamv2v_obs.translator.openvino_graph import note_agreement, noted_agreement
from streamv2v_obs.translator.pixels import PixelCoder
from streamv2v_obs.translator.row_threads import RowThreads
from streamv2v_obs.translator.rungs import choose_rungs
from streamv2v_obs.translator.static_frame import StaticFrame
from streamv2v_obs.translator.stream_batch import Origin

log = logging.getLogger(__name__)


class Paths:
    """Drives a ``LatentTranslator`` and an autoencoder by OpenVINO's graphs, by a static frame, by threads or plainly.

    ``size`` is (width, height); ``prompt`` gives the embedding (1, L, D) that trials are painted by. Raises
    ConfigError where OpenVINO is insisted on and cannot be had.
    """

    def __init__(
        self,
        model: TranslationModel,
        latents: LatentTranslator,
        size: tuple[int, int],
        prompt: Callable[[], Tensor],
        *,
        openvino: bool,
        row_threads: int,
    ) -> None:
        self._model = model
        self._latents = latents
        self._size = size
        self._prompt = prompt
        self._weights = model.weights_version
        self.coder: PixelCoder = model.autoencoder
        self.agreement_db: float | None = None
        """How like the plain path's the pictures of another path are, where another one is in force."""
        self.graphs: Graphs | None = None
        self._static: StaticFrame | None = None
        self._threads: RowThreads | None = None
        if openvino:
            self._prepare_openvino(row_threads)
        self._rungs = choose_rungs(latents.settings.speed, model.device)
        if self._rungs.static and self.graphs is None:
            self._prepare_static()
        if row_threads and self._static is None:
            self._threads = RowThreads(latents, model.dtype, row_threads)

    # --- frames ----------------------------------------------------------------------------------------------

    def step(
        self,
        pixels: Pixels,
        prompt: Tensor,
        origin: Origin,
        motion: Motion | None,
        wanted: Callable[[Origin | None], bool],
    ) -> tuple[Pixels | None, Origin | None]:
        """Take a picture uint8 [H, W, 3], and the motion that led to it; give the one that leaves, and whose it is.

        Where it costs less, one that is not ``wanted`` is None.
        """
        self._follow_style()
        if self._static is not None:
            return self._static.step(pixels, prompt, origin, motion)
        made: Pixels | None
        if self._threads is not None and self._latents.schedule == "stream":
            made, leaving = self._threads.step(self.coder, pixels, prompt, origin, motion)
        else:
            departed = self._latents.step(self.coder.encode(pixels), prompt, origin, motion)
            made, leaving = self.decode(departed.latent) if wanted(departed.origin) else None, departed.origin
        if not self._rungs.late_update:
            self._latents.settle()
        return made, leaving

    def decode(self, latent: Tensor) -> Pixels:
        """A clean latent (1, C, h, w) as a picture uint8 [H, W, 3]."""
        return self.coder.decode(latent.to(self._model.dtype))

    def close(self) -> None:
        """End threads and let the device's recordings go."""
        self._static = None
        if self._threads is not None:
            self._threads.close()
        self._latents.run_update = lambda update: update()

    # --- status ----------------------------------------------------------------------------------------------

    @property
    def backend(self) -> Backend:
        """What computes now."""
        return "torch" if self._latents.graph is None else "openvino"

    def __str__(self) -> str:
        """How torch computes, in a few words: which rungs of ``translator.speed`` are in force."""
        if self.backend == "openvino":
            return ""
        speed, static = self._latents.settings.speed, self._static
        there = {
            "graphs": static is not None and static.repeated.recording,
            "compiled": static is not None and static.compiled,
            "fused activations": static is not None and static.compiled and self._rungs.fused_activations,
            "fused norms": static is not None and static.compiled and self._rungs.fused_norms,
            "pinned": static is not None and self._rungs.pinned,
            "row threads": self._threads is not None and self._latents.schedule == "stream",
            "joined qkv": bool(speed.joined_qkv),
            "cached prompt": bool(speed.cached_prompt),
            "cached time": bool(speed.cached_time),
            "folded output": self._latents.folds_output,
            "direct keys": self._latents.direct_keys,
            "late update": self._rungs.late_update,
            "channels_last": bool(speed.channels_last),
        }
        return ", ".join(name for name, on in there.items() if on) or "plain"

    # --- what computes ---------------------------------------------------------------------------------------

    def _prepare_openvino(self, row_threads: int) -> None:
        """Make the graphs, and use them if they agree with torch, or if they are insisted on."""
        bank = self._latents.settings.bank
        if bank.kind != "off" and not bank.attend:
            if self._model.backend == "openvino":
                raise ConfigError(
                    "translator.bank.attend = false: OpenVINO's graphs attend to the bank; allowed: true, or "
                    "model.backend = torch"
                )
            log.warning("TORCH COMPUTES, which is slower: translator.bank.attend is false")
            return
        model, (_, length, width) = self._model, self._prompt().shape
        log.info("preparing OpenVINO for %dx%d; the first time this takes some seconds", *self._size)
        try:
            graphs = make_graphs(model, self._latents, (length, width), self._size, row_threads)
        except ModelLoadError as error:
            if model.backend == "openvino":
                raise
            log.warning("TORCH COMPUTES, which is slower: %s", error)
            return
        agreement = noted_agreement(graphs.key)
        if agreement is None:
            agreement = psnr(self._try(graphs), self._try(None))
            note_agreement(graphs.key, agreement)
        self.agreement_db = agreement
        log.info("OpenVINO's pictures are %.1f dB from torch's", agreement)
        if agreement < LEAST_AGREEMENT_DB:
            said = f"OpenVINO's pictures are only {agreement:.1f} dB from torch's, {LEAST_AGREEMENT_DB:g} are wanted"
            if model.backend == "auto":
                log.warning("TORCH COMPUTES, which is slower: %s", said)
                return
            log.warning("OPENVINO COMPUTES SOMETHING ELSE: %s; it is used because model.backend says so", said)
        self.graphs = graphs
        self._use(graphs)

    def _prepare_static(self) -> None:
        """Warm up, capture, and use it if it paints what the plain path paints."""
        rungs, (width, height) = self._rungs, self._size
        log.info("preparing the fast path%s", ", which compiles for some minutes" if rungs.compile else "")
        if self._model.device.type == "cuda":
            torch.backends.cudnn.benchmark = True  # sizes never change
        plain = self._try(None)
        static = StaticFrame(self._latents, self._model.autoencoder, (height, width), rungs)
        prompt = self._prompt()
        pictures: list[Pixels] = []
        for _ in range(3):  # once as it is, once to be captured, once to be looked at
            pictures = [static.step(pixels, prompt, Origin(0.0, 0))[0] for pixels in trial_pictures(*self._size)]
            self._latents.reset_bank()
        self.agreement_db = agreement = psnr(pictures, plain)
        log.info("the fast path's pictures are %.1f dB from the plain path's", agreement)
        if agreement < LEAST_AGREEMENT_DB:
            said = f"its pictures are only {agreement:.1f} dB from the plain path's, {LEAST_AGREEMENT_DB:g} are wanted"
            log.warning("A SLOWER PATH IS TAKEN, not the fast one: %s", said)
            self._latents.run_update = lambda update: update()
            return
        self._static = static

    def _use(self, graphs: Graphs | None) -> None:
        self.coder = self._model.autoencoder if graphs is None else graphs.coder
        self._latents.graph = None if graphs is None else graphs.unet

    def _try(self, graphs: Graphs | None) -> list[Pixels]:
        """What comes of the trial pictures; afterwards all is as before the first frame."""
        self._use(graphs)
        pictures = []
        for pixels in trial_pictures(*self._size):
            departed = self._latents.step(self.coder.encode(pixels), self._prompt())
            pictures.append(self.decode(departed.latent))
        self._latents.reset_bank()
        self._use(None)
        return pictures

    def _follow_style(self) -> None:
        """Copies of weights follow them; OpenVINO's graphs hold those of one style, and torch computes every other."""
        if self._weights != self._model.weights_version:
            self._weights = self._model.weights_version
            self._latents.refresh()
        if self.graphs is None:
            return
        fits = self._model.style == self.graphs.style
        if fits != (self.backend == "openvino"):
            self._use(self.graphs if fits else None)
            if fits:
                log.info("OpenVINO computes again")
            else:
                log.warning(
                    "TORCH COMPUTES, which is slower: OpenVINO's graphs hold the weights of style %s",
                    self.graphs.style or "none",
                )


def lay_out(model: TranslationModel, *, channels_last: bool) -> None:
    """Give the convolutions' weights this layout. In place: all translators over one model share it."""
    wanted = torch.channels_last if channels_last else torch.contiguous_format
    for module in (model.unet, model.autoencoder.module):
        first = next((p for p in module.parameters() if p.dim() == 4 and 1 not in p.shape), None)
        if first is not None and not first.is_contiguous(memory_format=wanted):
            module.to(memory_format=wanted)
