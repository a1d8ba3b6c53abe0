"""The translator: a captured picture in, the picture that its prompt makes of it out."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal, Protocol

import numpy as np
import torch
from diffusers import UNet2DConditionModel
from torch import Tensor

from streamv2v_obs.errors import ConfigError, ModelLoadError, OutOfDeviceMemory
from streamv2v_obs.frames import Frame, Pixels, Tag
from streamv2v_obs.settings import TranslatorSettings
from streamv2v_obs.translator.backend import (
    LEAST_AGREEMENT_DB,
    Backend,
    Graphs,
    make_graphs,
    psnr,
    trial_pictures,
    wants_openvino,
)
from streamv2v_obs.translator.easing import PromptEncoder, PromptInForce, Ramp
from streamv2v_obs.translator.latent import BankSnapshot, LatentTranslator
from streamv2v_obs.translator.lcm import PredictionType
from streamv2v_obs.translator.openvino_graph import note_agreement, noted_agreement
from streamv2v_obs.translator.pixels import Autoencoder
from streamv2v_obs.translator.row_threads import RowThreads
from streamv2v_obs.translator.rungs import choose_row_threads, choose_rungs
from streamv2v_obs.translator.schedules import ScheduleTrial
from streamv2v_obs.translator.static_frame import StaticFrame
from streamv2v_obs.translator.stream_batch import Departed, Origin

__all__ = ["BankSnapshot", "TranslationModel", "Translator"]

log = logging.getLogger(__name__)


class PixelCoder(Protocol):
    """uint8 [H, W, 3] RGB <-> scaled latents [1, C, H/factor, W/factor] on the model's device."""

    latent_channels: int
    factor: int

    def encode(self, pixels: Pixels) -> Tensor: ...
    def decode(self, latents: Tensor) -> Pixels: ...


class TranslationModel(Protocol):
    """What a translator needs of ``loading.Model``."""

    @property
    def name(self) -> str: ...
    @property
    def backend(self) -> Literal["auto", "torch", "openvino"]: ...
    @property
    def style(self) -> str | None: ...
    @property
    def unet(self) -> UNet2DConditionModel: ...
    @property
    def autoencoder(self) -> Autoencoder: ...
    @property
    def text(self) -> PromptEncoder: ...
    @property
    def acp(self) -> Tensor: ...
    @property
    def prediction_type(self) -> PredictionType: ...
    @property
    def width(self) -> int: ...
    @property
    def height(self) -> int: ...
    @property
    def device(self) -> torch.device: ...
    @property
    def dtype(self) -> torch.dtype: ...
    @property
    def weights_version(self) -> int: ...


class Translator:
    """StreamV2V over pictures. One thread, the one that made it, calls all of it, between two frames or for one.

    ``width`` and ``height`` are those of the pictures (none: the model's). With ``schedule: stream`` and S steps an
    answer is S - 1 frames late, and carries the index and capture time of the frame it really shows. The first S - 1
    answers show the first frame, since the rows were filled from it: a live run wants something to show at once;
    with ``live=False`` they are None, so that N frames in are N frames out after ``flush``.

    ``source_fps``: with ``schedule: auto`` both schedules are measured on the first pictures, and the one that suits
    this rate stays; without it, auto is stream.

    Raises ConfigError for settings that cannot be met, OutOfDeviceMemory where they need more than there is.
    """

    def __init__(
        self,
        model: TranslationModel,
        settings: TranslatorSettings,
        *,
        width: int | None = None,
        height: int | None = None,
        live: bool = True,
        source_fps: float | None = None,
    ) -> None:
        self.width = width or model.width
        self.height = height or model.height
        self._model = model
        self._live = live
        self._fade: Ramp | None = None
        self._fusion = settings.fusion.strength
        self._weights = model.weights_version
        coder = model.autoencoder
        if self.width % coder.factor or self.height % coder.factor:
            raise ConfigError(
                f"model.width, model.height = {self.width}x{self.height}: allowed are multiples of {coder.factor}"
            )
        _lay_out(model, channels_last=bool(settings.speed.channels_last))
        openvino = wants_openvino(model)
        if openvino and settings.speed.padded_heads is True:
            log.warning("translator.speed.padded_heads = true: not with OpenVINO, whose graphs know no padding")
            speed = settings.speed.model_copy(update={"padded_heads": False})
            settings = settings.model_copy(update={"speed": speed})
        row_threads = choose_row_threads(settings, model.device)
        with _memory_said_plainly(settings.steps):
            self._latents = LatentTranslator(
                model.unet,
                model.acp,
                model.prediction_type,
                settings,
                (coder.latent_channels, self.height // coder.factor, self.width // coder.factor),
                model.device,
                model.dtype,
                row_by_row=row_threads > 0,
            )
            self._prompt = PromptInForce(model.text, lambda: model.weights_version, settings.prompt)
        self._coder: PixelCoder = coder
        self._graphs: Graphs | None = None
        self.agreement_db: float | None = None
        """How like the plain path's the pictures of another path are, where another one is in force."""
        self._static: StaticFrame | None = None
        self._threads: RowThreads | None = None
        if openvino:
            self._prepare_openvino(row_threads)
        self._rungs = choose_rungs(settings.speed, model.device)
        if self._rungs.static and self._graphs is None:
            self._prepare_static()
        if row_threads and self._static is None:
            self._threads = RowThreads(self._latents, model.dtype, row_threads)
        # Graphs of OpenVINO are made for one schedule.
        measured = settings.schedule == "auto" and settings.steps > 1 and self._graphs is None
        self._trial = ScheduleTrial(source_fps) if measured and source_fps is not None else None
        self._settled_ms = 0.0

    # --- frames ----------------------------------------------------------------------------------------------

    def step(self, frame: Frame) -> Frame | None:
        """Take a picture, uint8 [height, width, 3] RGB; give the one that leaves, tagged TRANSLATED.

        The bank's update is left undone, so that it delays no picture: call ``settle`` when the answer was handed on.
        """
        expected = (self.height, self.width, 3)
        if frame.pixels.shape != expected or frame.pixels.dtype != np.uint8:
            raise ConfigError(
                f"a picture is {frame.pixels.dtype} {list(frame.pixels.shape)}; this translator takes uint8 "
                f"{list(expected)}: fit it to model.width and model.height first"
            )
        self._follow_style()
        began_at = time.perf_counter()
        answer = self._step(frame)
        if self._trial is not None and not self._trial.over:
            self._trial.note(1000 * (time.perf_counter() - began_at) + self._settled_ms)
            self._settled_ms = 0.0
            self._latents.set_schedule(self._trial.schedule)
            if self._trial.over:
                log.info("schedule auto: %s (%s)", self._trial.schedule, self._trial.reason)
        return answer

    def _step(self, frame: Frame) -> Frame | None:
        with _memory_said_plainly(self._latents.steps):
            prompt = self._prompt.at(frame.captured_at)
            self._fade_bank_at(frame.captured_at)
            origin = Origin(frame.captured_at, frame.index)
            if self._static is not None:
                return self._shown(*self._static.step(frame.pixels, prompt, origin))
            if self._threads is not None and self._latents.schedule == "stream":
                answer = self._shown(*self._threads.step(self._coder, frame.pixels, prompt, origin))
            else:
                answer = self._picture(self._latents.step(self._coder.encode(frame.pixels), prompt, origin))
            if not self._rungs.late_update:
                self._latents.settle()
            return answer

    def flush(self) -> list[Frame]:
        """The frames still in flight, at the end of a finite video; the next ``step`` starts warm."""
        with _memory_said_plainly(self._latents.steps):
            pictures = (self._picture(departed) for departed in self._latents.flush())
            return [picture for picture in pictures if picture is not None]

    def settle(self) -> None:
        """Update the bank now, if the last frame calls for it; ``step`` does it first where nobody did."""
        began_at = time.perf_counter()
        with _memory_said_plainly(self._latents.steps):
            self._latents.settle()
        self._settled_ms = 1000 * (time.perf_counter() - began_at)

    def _picture(self, departed: Departed) -> Frame | None:
        origin = departed.origin
        if origin is None or (origin.copy and not self._live):
            return None  # not worth decoding
        return self._shown(self._coder.decode(departed.latent.to(self._model.dtype)), origin)

    def _shown(self, pixels: Pixels, origin: Origin | None) -> Frame | None:
        if origin is None or (origin.copy and not self._live):
            return None
        return Frame(pixels, origin.captured_at, origin.index, Tag.TRANSLATED)

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
        model, (_, length, width) = self._model, self._prompt.encode(self.prompt).shape
        log.info("preparing OpenVINO for %dx%d; the first time this takes some seconds", self.width, self.height)
        try:
            graphs = make_graphs(model, self._latents, (length, width), (self.width, self.height), row_threads)
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
        self._graphs = graphs
        self._use(graphs)

    def _prepare_static(self) -> None:
        """Warm up, capture, and use it if it paints what the plain path paints."""
        rungs, size = self._rungs, (self.height, self.width)
        log.info("preparing the fast path%s", ", which compiles for some minutes" if rungs.compile else "")
        if self._model.device.type == "cuda":
            torch.backends.cudnn.benchmark = True  # sizes never change
        plain = self._try(None)
        static = StaticFrame(self._latents, self._model.autoencoder, size, rungs)
        prompt = self._prompt.encode(self.prompt)
        pictures: list[Pixels] = []
        for _ in range(3):  # once as it is, once to be captured, once to be looked at
            pictures = [
                static.step(pixels, prompt, Origin(0.0, 0))[0] for pixels in trial_pictures(self.width, self.height)
            ]
            self.reset_bank()
        self.agreement_db = agreement = psnr(pictures, plain)
        log.info("the fast path's pictures are %.1f dB from the plain path's", agreement)
        if agreement < LEAST_AGREEMENT_DB:
            said = f"its pictures are only {agreement:.1f} dB from the plain path's, {LEAST_AGREEMENT_DB:g} are wanted"
            log.warning("A SLOWER PATH IS TAKEN, not the fast one: %s", said)
            self._latents.run_update = lambda update: update()
            return
        self._static = static

    def _use(self, graphs: Graphs | None) -> None:
        self._coder = self._model.autoencoder if graphs is None else graphs.coder
        self._latents.graph = None if graphs is None else graphs.unet

    def _try(self, graphs: Graphs | None) -> list[Pixels]:
        """What comes of the trial pictures; afterwards all is as before the first frame."""
        self._use(graphs)
        pictures = []
        for pixels in trial_pictures(self.width, self.height):
            departed = self._latents.step(self._coder.encode(pixels), self._prompt.encode(self.prompt))
            pictures.append(self._coder.decode(departed.latent.to(self._model.dtype)))
        self.reset_bank()
        self._use(None)
        return pictures

    def _follow_style(self) -> None:
        """Copies of weights follow them; OpenVINO's graphs hold those of one style, and torch computes every other."""
        if self._weights != self._model.weights_version:
            self._weights = self._model.weights_version
            self._latents.refresh()
        if self._graphs is None:
            return
        fits = self._model.style == self._graphs.style
        if fits != (self.backend == "openvino"):
            self._use(self._graphs if fits else None)
            if fits:
                log.info("OpenVINO computes again")
            else:
                log.warning(
                    "TORCH COMPUTES, which is slower: OpenVINO's graphs hold the weights of style %s",
                    self._graphs.style or "none",
                )

    # --- what a live user changes ----------------------------------------------------------------------------

    @property
    def prompt(self) -> str:
        """The one in force."""
        return self._prompt.prompt

    def set_prompt(self, prompt: str, blend_s: float = 0.0) -> None:
        """From the next frame on; frames in flight keep theirs, so that no picture mixes two prompts.

        With ``blend_s`` the embedding goes from the last frame's to this prompt's over that time, frame by frame:
        the first one is still as before.
        """
        self._prompt.set(prompt, blend_s)

    def prepare(self, prompt: str) -> None:
        """Encode ``prompt`` now, so that ``set_prompt`` need not."""
        self._prompt.encode(prompt)

    def set_strength(self, strength: float) -> None:
        """Share of the noise schedule that is run; raises ConfigError where its timesteps are not distinct."""
        self._latents.set_strength(strength)

    def set_seed(self, seed: int) -> None:
        """Other noise and other partitions; the bank stays."""
        if not 0 <= seed < 2**63:
            raise ConfigError(f"translator.seed = {seed}: allowed is 0 .. 2^63 - 1")
        self._latents.set_seed(seed)

    # --- the bank --------------------------------------------------------------------------------------------

    def reset_bank(self) -> None:
        """Forget all past frames, those in flight included; the next one is as the first of a new translator."""
        self._end_fade()
        self._latents.reset_bank()

    def fade_bank(self, seconds: float) -> None:
        """Let the bank's hold on the picture (fusion) go down to nothing over ``seconds``; then empty the bank.

        Unlike ``reset_bank`` this leaves the frames in flight alone, and the picture does not jump.
        """
        self._fade = Ramp(seconds)

    def _fade_bank_at(self, captured_at: float) -> None:
        if self._fade is None:
            return
        share = self._fade.at(captured_at)
        self._latents.set_fusion(self._fusion * (1 - share))
        if share == 1:
            self._latents.forget_bank()
            self._end_fade()

    def _end_fade(self) -> None:
        if self._fade is not None:
            self._fade = None
            self._latents.set_fusion(self._fusion)

    def snapshot(self) -> BankSnapshot:
        """A copy of bank and frames in flight, on the model's device."""
        return self._latents.snapshot()

    def restore(self, snapshot: BankSnapshot, *, in_flight: bool = True) -> None:
        """Go on exactly as from ``snapshot``; ``in_flight=False`` brings back the bank alone and starts warm.

        The latter is for coming back to a scene: frames captured when it was left must not be shown now. Raises
        ConfigError for a snapshot of another shape.
        """
        self._latents.restore(snapshot, in_flight=in_flight)
        self._end_fade()

    def close(self) -> None:
        """Leave the UNet as it was, bit-identical; no step after it."""
        self._static = None  # and with it the device's recordings
        if self._threads is not None:
            self._threads.close()
        self._latents.run_update = lambda update: update()
        self._latents.close()

    # --- status ----------------------------------------------------------------------------------------------

    @property
    def backend(self) -> Backend:
        """What computes now."""
        return "torch" if self._latents.graph is None else "openvino"

    @property
    def attention(self) -> str:
        """The attention kernels in use, one for all levels or each level's own."""
        return self._latents.attention

    @property
    def path(self) -> str:
        """How torch computes, in a few words: which rungs of ``translator.speed`` are in force."""
        if self.backend == "openvino":
            return ""
        speed, static = self._latents.settings.speed, self._static
        there = {
            "graphs": static is not None and static.repeated.recording,
            "compiled": static is not None and static.compiled,
            "pinned": static is not None and self._rungs.pinned,
            "row threads": self._threads is not None and self._latents.schedule == "stream",
            "joined qkv": bool(speed.joined_qkv),
            "cached prompt": bool(speed.cached_prompt),
            "cached time": bool(speed.cached_time),
            "late update": self._rungs.late_update,
            "channels_last": bool(speed.channels_last),
        }
        return ", ".join(name for name, on in there.items() if on) or "plain"

    @property
    def schedule(self) -> Literal["stream", "sequential"]:
        """The schedule in use."""
        return self._latents.schedule

    @property
    def schedule_reason(self) -> str:
        """Why this schedule, where ``auto`` chose it by measurement; else nothing."""
        return "" if self._trial is None else self._trial.reason

    @property
    def bank_filled(self) -> bool:
        """Whether the bank holds anything (with a queue: anything, not yet everything)."""
        return self.bank_updates > 0

    @property
    def bank_updates(self) -> int:
        """Updates since the bank was empty, the first store included."""
        bank = self._latents.bank
        return 0 if bank is None else bank.updates

    @property
    def bank_bytes(self) -> int:
        """Device memory of the bank; constant."""
        bank = self._latents.bank
        return 0 if bank is None else bank.bytes


def _lay_out(model: TranslationModel, *, channels_last: bool) -> None:
    """Give the convolutions' weights this layout. In place: all translators over one model share it."""
    wanted = torch.channels_last if channels_last else torch.contiguous_format
    for module in (model.unet, model.autoencoder.module):
        first = next((p for p in module.parameters() if p.dim() == 4 and 1 not in p.shape), None)
        if first is not None and not first.is_contiguous(memory_format=wanted):
            module.to(memory_format=wanted)


@contextmanager
def _memory_said_plainly(steps: int) -> Iterator[None]:
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise OutOfDeviceMemory(
            "the device's memory is too small for this picture: lower model.width and model.height, "
            f"translator.steps (now {steps}), or set model.dtype to float16"
        ) from error
