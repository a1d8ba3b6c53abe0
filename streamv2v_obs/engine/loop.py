"""The engine's loop: take the newest picture, translate it, hand it on; commands are applied between two frames."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from streamv2v_obs.commands import Bypass, Change, Command, CommandBox, LogLevel, Prepare, Stop, WatchInput
from streamv2v_obs.engine.budget import Budget
from streamv2v_obs.engine.capturing import Capturing
from streamv2v_obs.engine.slot import FrameSlot
from streamv2v_obs.engine.working_size import working_size
from streamv2v_obs.errors import StreamV2VError
from streamv2v_obs.frames import Frame, Tag
from streamv2v_obs.settings import Settings
from streamv2v_obs.shape import cut_bars, fit_to
from streamv2v_obs.stats import EngineStatus, Meter, ScheduleChoice
from streamv2v_obs.translator.origins import check_name
from streamv2v_obs.translator.schedules import ScheduleTrials

if TYPE_CHECKING:
    from streamv2v_obs.engine.looks import Looks
    from streamv2v_obs.translator.loading import Model
    from streamv2v_obs.translator.translator import Translator

log = logging.getLogger(__name__)

REPORT_S = 0.5
_STALLED_S = 1.0
_OPENING_S = 15.0


class EngineLoop:
    """Runs in the engine's main thread, the only one that touches the GPU.

    ``output`` receives TRANSLATED pictures, and BYPASS ones only after a Bypass command; ``view`` receives the
    input only after a WatchInput command. ``report`` is called twice a second, between frames: its silence is
    how the service notices an inference that never returns. ``patient``: a source that cannot be opened is waited
    for, as one that is lost later. ``schedules``: what an engine before this one chose.
    """

    def __init__(
        self,
        settings: Settings,
        output: FrameSlot,
        view: FrameSlot,
        commands: CommandBox,
        stop: threading.Event,
        report: Callable[[EngineStatus], None],
        *,
        patient: bool = False,
        schedules: tuple[ScheduleChoice, ...] = (),
    ) -> None:
        self._settings = settings
        self._output = output
        self._view = view
        self._commands = commands
        self._stop = stop
        self._report = report
        self._patient = patient
        self._schedules = schedules
        self._status = EngineStatus(scene=None, style=settings.model.style)
        self._early: Change | None = None
        self._watch_input = False
        self._translated = Meter()
        self._budget = Budget(settings.translator.budget)
        self._reported_at = 0.0
        self._capturing = Capturing(settings.capture, settings.obs)
        self._captured_before = self._dropped_before = 0  # of sources before this one

    def run(self) -> None:
        """Open the source, load the model, translate until told to stop. Raises what ends the engine."""
        self._report(self._status)
        check_name(self._settings.model.name)
        self._capturing.start()
        try:
            self._wait_opened()
            self._tell(state="loading", source=self._capturing.detail)
            # Not before: torch takes seconds to import, and a wrong source or model is said at once.
            from streamv2v_obs.engine.looks import Looks
            from streamv2v_obs.translator.loading import load_model

            model = load_model(self._settings.model)
            first = self._first_frame()
            if first is None:
                return
            # It was "stalled" while it waited, and making the translator may take as long as loading does.
            self._tell(state="loading", source=self._capturing.detail)
            height, width, _ = first.pixels.shape
            width, height = working_size(model, self._settings.model, width, height)
            trials = ScheduleTrials(width, height, self._settings.capture.fps, self._schedules)
            looks = Looks(model, self._settings.translator, width, height, trials=trials)
            try:
                self._translate(model, looks, trials, first)
            finally:
                looks.close()
        finally:
            self._capturing.stop()
            self._capturing.join(2.0)

    def _wait_opened(self) -> None:
        try:
            self._capturing.wait_opened(_OPENING_S)
        except StreamV2VError as error:
            if not self._patient:
                raise
            log.debug("%s", error)  # the capture thread has said it, and goes on trying

    def _first_frame(self) -> Frame | None:
        """Wait for it; of what is posted meanwhile, only another source or the end cannot wait."""
        while not self._stop.is_set():
            for command in self._commands.drain():
                if isinstance(command, Change):
                    self._switch_source(command)
                    self._early = command if self._early is None else command.over(self._early)
                else:
                    self._apply_switch(command)
            frame = self._capturing.mailbox.take(0.2)
            if frame is not None:
                return frame
            self._tell(state="stalled", source=self._capturing.detail)
        return None

    def _translate(self, model: Model, looks: Looks, trials: ScheduleTrials, first: Frame) -> None:
        translator = looks.translator
        settings = self._settings.translator
        self._status = replace(
            self._status,
            model=model.name,
            device=str(model.device),
            dtype=str(model.dtype).removeprefix("torch."),
            backend=translator.backend,
            attention=translator.attention,
            schedule=translator.schedule,
            path=translator.path,
            width=translator.width,
            height=translator.height,
            prompt=settings.prompt,
            strength=settings.strength,
            steps=settings.steps,
            seed=settings.seed,
            bank=settings.bank.kind,
        )
        log.info(
            "translating with %s on %s (%s, %s, %s, %s) at %dx%d",
            *(model.name, model.device, translator.backend, self._status.dtype),
            *(translator.attention, translator.schedule),
            *(translator.width, translator.height),
        )
        frame: Frame | None = first
        seen_at, stalled = time.monotonic(), False
        while not self._stop.is_set():
            capturing = self._capturing
            if self._early is not None:
                self._change(self._early, looks)
                self._early = None
            for command in self._commands.drain():
                if isinstance(command, Change):
                    self._change(command, looks)
                elif isinstance(command, Prepare):
                    looks.translator.prepare(command.prompt)
                else:
                    self._apply_switch(command, looks.translator)
            translator = looks.translator
            if self._capturing is not capturing:
                frame = None  # it shows the old source, which the new scene may not be allowed to show
                translator.forget_in_flight()  # as they do
            if frame is not None:
                if stalled:
                    translator.forget_in_flight()  # they show what was before, and would be shown as what is now
                self._one(frame, translator)
                seen_at = time.monotonic()  # not before: a slow translator is not a source that has stalled
            stalled = time.monotonic() - seen_at > max(_STALLED_S, 2 / self._settings.capture.fps)
            self._tell(
                state="stalled" if stalled else "running",
                source=self._capturing.detail,
                capture_fps=self._capturing.read.rate(),
                captured=self._captured_before + self._capturing.read.total,
                dropped=self._dropped_before + self._capturing.mailbox.overwritten,
                skipped_still=self._budget.skipped,
                translated=self._translated.total,
                translate_fps=self._translated.rate(),
                translate_ms_p50=_or_none(self._translated.percentile(0.5)),
                translate_ms_p95=_or_none(self._translated.percentile(0.95)),
                backend=translator.backend,
                path=translator.path,
                schedule=translator.schedule,
                schedule_reason=translator.schedule_reason,
                schedules=trials.chosen,
                bank_filled=translator.bank_filled,
                bank_updates=translator.bank_updates,
                bank_bytes=translator.bank_bytes,
                scenes_stored=looks.scenes_stored,
            )
            frame = self._capturing.mailbox.take(0.1)

    def _one(self, frame: Frame, translator: Translator) -> None:
        fit = self._settings.capture.fit
        height, width, _ = frame.pixels.shape
        shaped = replace(frame, pixels=fit_to(frame.pixels, translator.width, translator.height, fit))
        if self._watch_input:
            self._view.put(shaped)
        if self._status.bypass:
            self._output.put(replace(shaped, pixels=cut_bars(shaped.pixels, width, height, fit), tag=Tag.BYPASS))
            return
        if not self._budget.wants(shaped.pixels, self._status.steps):
            return
        began_at = time.perf_counter()
        answer = translator.step(shaped)
        self._translated.add((time.perf_counter() - began_at) * 1000)
        if answer is not None:
            self._output.put(replace(answer, pixels=cut_bars(answer.pixels, width, height, fit)))
        translator.settle()  # only now: merging the bank delays no picture
        pause_s = self._budget.pause_s(time.perf_counter() - began_at)
        if pause_s > 0:
            self._stop.wait(pause_s)

    def _apply_switch(self, command: Command, translator: Translator | None = None) -> None:
        if isinstance(command, Bypass):
            if command.on and not self._status.bypass:
                log.warning("BYPASS on: the captured picture itself is sent")
            elif self._status.bypass and not command.on:
                log.warning("BYPASS off")
                if translator is not None:
                    translator.reset_bank()  # the stream batch holds rows of a moment long gone
            self._status = replace(self._status, bypass=command.on)
        elif isinstance(command, WatchInput):
            self._watch_input = command.on
        elif isinstance(command, LogLevel):
            logging.getLogger().setLevel(command.level.upper())
        elif isinstance(command, Stop):
            self._stop.set()

    def _change(self, change: Change, looks: Looks) -> None:
        """Apply everything that one event changes, together."""
        if change.steps not in (None, self._status.steps):
            # It may take as long as loading does, and what is silent meanwhile would be taken for hanging.
            self._tell(state="loading")
        self._budget.forget()
        applied = looks.apply(change)
        change = applied.change
        if change.source is not None:
            self._switch_source(change)
        was = self._status
        self._status = replace(
            was,
            prompt=was.prompt if change.prompt is None else change.prompt,
            strength=was.strength if change.strength is None else change.strength,
            steps=was.steps if change.steps is None else change.steps,
            schedule=looks.translator.schedule,
            seed=was.seed if change.seed is None else change.seed,
            style=was.style if change.style is None else change.style or None,
            scene=was.scene if change.scene is None else change.scene,
            bank_restores=was.bank_restores + applied.restored,
            bank_resets=was.bank_resets + applied.emptied,
            changes=was.changes + 1,
            note=applied.note,
        )
        log.info("change %d applied: prompt %r, bank %s", self._status.changes, self._status.prompt, change.bank)
        self._reported_at = 0.0

    def _switch_source(self, change: Change) -> None:
        if change.source is None or change.source == self._settings.capture:
            return
        self._capturing.stop()
        self._capturing.join(2.0)
        self._captured_before += self._capturing.read.total
        self._dropped_before += self._capturing.mailbox.overwritten
        self._settings = self._settings.model_copy(update={"capture": change.source})
        self._capturing = Capturing(change.source, self._settings.obs)
        self._capturing.start()

    def _tell(self, **news: object) -> None:
        """Report, at most every ``REPORT_S`` unless the state changed."""
        now = time.monotonic()
        changed = news.get("state") != self._status.state
        if changed or now - self._reported_at >= REPORT_S:
            self._status = replace(self._status, **news)  # type: ignore[arg-type]
            self._report(self._status)
            self._reported_at = now


def _or_none(value: float) -> float | None:
    return None if value != value else round(value, 2)
