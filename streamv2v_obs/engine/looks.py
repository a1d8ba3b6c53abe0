"""Changes as the translator meets them: what of one concerns the picture, applied together; and the scenes' banks."""

from __future__ import annotations

import logging
from collections import OrderedDict
from dataclasses import dataclass, replace

from streamv2v_obs.commands import Change
from streamv2v_obs.errors import ConfigError, OutOfDeviceMemory
from streamv2v_obs.settings import TranslatorSettings, check_steps
from streamv2v_obs.translator.loading import Model
from streamv2v_obs.translator.schedules import ScheduleTrials
from streamv2v_obs.translator.translator import BankSnapshot, Translator

log = logging.getLogger(__name__)

FADE_S = 1.0
"""How long a bank takes to fade where no time is given."""


@dataclass(frozen=True)
class Applied:
    """What became of a change: itself without the parts that could not be had, and why they could not."""

    change: Change
    restored: bool
    emptied: bool
    note: str


class Looks:
    """Owns the translator; a change of ``steps`` puts another one in its place. For the thread that owns the GPU."""

    def __init__(
        self,
        model: Model,
        settings: TranslatorSettings,
        width: int,
        height: int,
        *,
        trials: ScheduleTrials | None = None,
    ) -> None:
        self._model = model
        self._trials = trials
        self._settings = settings  # as they are in force
        self._banks: OrderedDict[str, BankSnapshot] = OrderedDict()
        self.translator = self._new_translator(settings, width, height)

    def close(self) -> None:
        """Leave the model as it was."""
        self.translator.close()

    @property
    def scenes_stored(self) -> tuple[str, ...]:
        """The scenes whose banks can be brought back, the newest last."""
        return tuple(self._banks)

    def apply(self, change: Change) -> Applied:
        """Apply everything of ``change`` but its source."""
        if change.save_as is not None and self.translator.bank_filled:
            self._save(change.save_as)
        note = ""
        before = self.translator
        try:
            self._apply_costly(change)
        except (ConfigError, OutOfDeviceMemory, ValueError) as error:
            # A strength that collapses, say: the old one stays, and status says why.
            log.error("not applied: %s", error)
            note = str(error)
            change = replace(change, style=None, strength=None, steps=None)
        translator = self.translator
        if change.seed is not None:
            translator.set_seed(change.seed)
        if change.prompt is not None:
            translator.set_prompt(change.prompt, change.blend_s)
        self._settings = self._settings.model_copy(
            update={
                name: value
                for name in ("prompt", "strength", "steps", "seed")
                if (value := getattr(change, name)) is not None
            }
        )
        saved = self._banks.get(change.bank_of or change.scene or "") if change.bank == "restore" else None
        restored = saved is not None and self._restore(saved)
        if change.bank == "fade" and translator is before:  # another one's bank is empty already
            translator.fade_bank(change.blend_s or FADE_S)
        elif change.bank in ("reset", "restore") and not restored:
            translator.reset_bank()
        emptied = not restored and (translator is not before or change.bank != "keep")
        return Applied(change, restored, emptied, note)

    def _new_translator(self, settings: TranslatorSettings, width: int, height: int) -> Translator:
        trial = None if self._trials is None else self._trials.of(settings.steps)
        return Translator(self._model, settings, width=width, height=height, trial=trial)

    def _apply_costly(self, change: Change) -> None:
        """Style, strength and steps; raises where one of them cannot be had, and then all are as they were."""
        steps, strength = change.steps or self._settings.steps, change.strength or self._settings.strength
        check_steps(strength, steps)
        made: Translator | None = None
        if steps != self._settings.steps:
            settings = self._settings.model_copy(update={"steps": steps, "strength": strength})
            # The new one first: if it does not fit into memory, the old one goes on.
            width, height = self.translator.width, self.translator.height
            made = self._new_translator(settings, width, height)
        try:
            if change.style is not None:
                self._model.set_style(change.style or None)
        except Exception:
            if made is not None:
                made.close()
            raise
        if made is not None:
            self.translator.close()
            self.translator = made
        elif change.strength is not None:
            self.translator.set_strength(change.strength)

    def _save(self, scene: str) -> None:
        """Keep the bank of ``scene``; where memory is short, in place of the oldest ones, or not at all."""
        self._banks.pop(scene, None)
        saved: BankSnapshot | None = None
        while saved is None:
            try:
                saved = self.translator.snapshot()
            except OutOfDeviceMemory:
                if not self._banks:
                    log.warning("the device's memory is too small to keep the bank of scene %s", scene)
                    return
                oldest, _ = self._banks.popitem(last=False)
                log.warning("the device's memory is too small for the banks of all scenes: %s's is let go of", oldest)
        self._banks[scene] = saved
        while len(self._banks) > self._settings.bank.scenes:
            self._banks.popitem(last=False)

    def _restore(self, saved: BankSnapshot) -> bool:
        try:
            self.translator.restore(saved, in_flight=False)
        except ConfigError as error:  # saved with another number of steps
            log.info("the scene begins with an empty bank: %s", error)
            return False
        return True
