"""The translator: a captured picture in, the picture that its prompt makes of it out."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import numpy as np
import torch

from streamv2v_obs.errors import ConfigError, OutOfDeviceMemory
from streamv2v_obs.frames import Frame, Pixels, Tag
from streamv2v_obs.settings import TranslatorSettings
from streamv2v_obs.translator.backend import Backend, wants_openvino
from streamv2v_obs.translator.easing import PromptInForce, Ramp
from streamv2v_obs.translator.latent import BankSnapshot, LatentTranslator
from streamv2v_obs.translator.model import TranslationModel
from streamv2v_obs.translator.motion import Motion, MotionEstimator, keep_to_one_thread
from streamv2v_obs.translator.paths import Paths, lay_out
from streamv2v_obs.translator.rungs import choose_row_threads
from streamv2v_obs.translator.schedules import ScheduleTrial
from streamv2v_obs.translator.stream_batch import Origin

__all__ = ["BankSnapshot", "TranslationModel", "Translator"]

log = logging.getLogger(__name__)


class Translator:
    """StreamV2V over pictures. One thread, the one that made it, calls all of it, between two frames or for one.

    ``width`` and ``height`` are those of the pictures (none: the model's). With ``schedule: stream`` and S steps an
    answer is S - 1 frames late, and carries the index and capture time of the frame it really shows. The first S - 1
    answers show the first frame, since the rows were filled from it: a live run wants something to show at once;
    with ``live=False`` they are None, so that N frames in are N frames out after ``flush``.

    ``trial``: with ``schedule: auto`` both schedules are measured on the first pictures, and the one that suits the
    source's rate stays; without a trial, auto is stream.

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
        trial: ScheduleTrial | None = None,
    ) -> None:
        self.width = width or model.width
        self.height = height or model.height
        self._model = model
        self._live = live
        self._fade: Ramp | None = None
        self._faded = 0.0
        self._fusion = settings.fusion.strength
        coder = model.autoencoder
        if self.width % coder.factor or self.height % coder.factor:
            raise ConfigError(
                f"model.width, model.height = {self.width}x{self.height}: allowed are multiples of {coder.factor}"
            )
        lay_out(model, channels_last=bool(settings.speed.channels_last))
        openvino = wants_openvino(model)
        if openvino and settings.speed.padded_heads is True:
            log.warning("translator.speed.padded_heads = true: not with OpenVINO, whose graphs know no padding")
            speed = settings.speed.model_copy(update={"padded_heads": False})
            settings = settings.model_copy(update={"speed": speed})
        shape = (coder.latent_channels, self.height // coder.factor, self.width // coder.factor)
        carries = settings.carry > 0 or settings.anchor > 0
        self._motion = MotionEstimator(shape[1], shape[2], anchors=settings.anchor > 0) if carries else None
        if carries:
            keep_to_one_thread()
        self._look: tuple[torch.Tensor, int] | None = None
        # OpenVINO shares out its work better by itself: 43 to 50 ms a frame of the demo model, 54 by rows.
        by_rows = not openvino or settings.speed.row_threads is True
        row_threads = choose_row_threads(settings, model.device) if by_rows else 0
        with _memory_said_plainly(settings.steps):
            self._latents = LatentTranslator(
                model.unet,
                model.acp,
                model.prediction_type,
                settings,
                shape,
                model.device,
                model.dtype,
                row_by_row=row_threads > 0,
                initial_noise=model.initial_noise,
            )
            try:
                self._prompt = PromptInForce(model.text, lambda: model.weights_version, settings.prompt)
                # Trials of a faster path are the first whole frames: there it shows whether they fit.
                self._paths = Paths(
                    model,
                    self._latents,
                    (self.width, self.height),
                    lambda: self._prompt.encode(self.prompt),
                    openvino=openvino,
                    row_threads=row_threads,
                )
            except BaseException:
                self._latents.close()
                raise
        # Graphs of OpenVINO are made for one schedule.
        measured = settings.schedule == "auto" and settings.steps > 1 and self._paths.graphs is None
        self._trial = trial if measured else None
        if self._trial is not None:
            self._latents.set_schedule(self._trial.schedule)
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
            motion = self._motion_to(frame.pixels, prompt)
            return self._shown(*self._paths.step(frame.pixels, prompt, origin, motion, self._wanted))

    def _motion_to(self, pixels: Pixels, prompt: torch.Tensor) -> Motion | None:
        """What pictures before are carried along by; those that another prompt made are forgotten: none mixes two."""
        if self._motion is None:
            return None
        if self._look is None or self._look[0] is not prompt or self._look[1] != self._latents.looks:
            self._motion.forget()
            self._look = prompt, self._latents.looks
        return self._motion.to(pixels)

    def flush(self) -> list[Frame]:
        """The frames still in flight, at the end of a finite video; the next ``step`` starts warm."""
        with _memory_said_plainly(self._latents.steps):
            pictures = (self._shown(self._paths.decode(one.latent), one.origin) for one in self._latents.flush())
            return [picture for picture in pictures if picture is not None]

    def settle(self) -> None:
        """Update the bank now, if the last frame calls for it; ``step`` does it first where nobody did."""
        began_at = time.perf_counter()
        with _memory_said_plainly(self._latents.steps):
            self._latents.settle()
        self._settled_ms = 1000 * (time.perf_counter() - began_at)

    def _wanted(self, origin: Origin | None) -> bool:
        return origin is not None and (self._live or not origin.copy)

    def _shown(self, pixels: Pixels | None, origin: Origin | None) -> Frame | None:
        if pixels is None or origin is None or not self._wanted(origin):
            return None
        return Frame(pixels, origin.captured_at, origin.index, Tag.TRANSLATED)

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

    def forget_in_flight(self) -> None:
        """Show none of the frames that are on their way; the bank stays."""
        self._latents.forget_in_flight()

    def fade_bank(self, seconds: float) -> None:
        """Let the bank's hold on the picture (fusion) go down to nothing over ``seconds``; then empty the bank.

        Unlike ``reset_bank`` this leaves the frames in flight alone. Attention to the bank stays whole until it is
        emptied. A second call while a fade runs goes on from where that one is.
        """
        self._fade = Ramp(seconds, self._faded)

    def _fade_bank_at(self, captured_at: float) -> None:
        if self._fade is None:
            return
        share = self._faded = self._fade.at(captured_at)
        self._latents.set_fusion(self._fusion * (1 - share))
        if share == 1:
            self._latents.forget_bank()
            self._latents.forget_motion()
            self._end_fade()

    def _end_fade(self) -> None:
        if self._fade is not None:
            self._fade, self._faded = None, 0.0
            self._latents.set_fusion(self._fusion)

    def snapshot(self) -> BankSnapshot:
        """A copy of bank and frames in flight, on the model's device. Raises OutOfDeviceMemory."""
        with _memory_said_plainly(self._latents.steps):
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
        self._paths.close()
        self._latents.close()

    # --- status ----------------------------------------------------------------------------------------------

    @property
    def backend(self) -> Backend:
        """What computes now."""
        return self._paths.backend

    @property
    def path(self) -> str:
        """How torch computes, in a few words: which rungs of ``translator.speed`` are in force."""
        return str(self._paths)

    @property
    def agreement_db(self) -> float | None:
        """How like the plain path's the pictures of another path are, where another one is in force."""
        return self._paths.agreement_db

    @property
    def attention(self) -> str:
        """The attention kernels in use, one for all levels or each level's own."""
        return self._latents.attention

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


@contextmanager
def _memory_said_plainly(steps: int) -> Iterator[None]:
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise OutOfDeviceMemory(
            "the device's memory is too small for this picture: lower model.width and model.height, "
            f"translator.steps (now {steps}), or set model.dtype to float16"
        ) from error
