"""All sections, and what one asks of another."""

from __future__ import annotations

from collections.abc import Iterator

from pydantic import model_validator

from streamv2v_obs.settings.capture import AutoCapture, CaptureSettings
from streamv2v_obs.settings.control import ControlSettings, LogSettings
from streamv2v_obs.settings.looks import Preset, Rule
from streamv2v_obs.settings.model import ModelSettings
from streamv2v_obs.settings.obs import ObsSettings
from streamv2v_obs.settings.publish import PublishSettings
from streamv2v_obs.settings.section import Section
from streamv2v_obs.settings.translator import TranslatorSettings, check_steps


class Settings(Section):
    """All sections."""

    capture: CaptureSettings = AutoCapture()
    model: ModelSettings = ModelSettings()
    translator: TranslatorSettings = TranslatorSettings()
    publish: PublishSettings = PublishSettings()
    presets: tuple[Preset, ...] = ()
    obs: ObsSettings = ObsSettings()
    control: ControlSettings = ControlSettings()
    log: LogSettings = LogSettings()

    @model_validator(mode="after")
    def _parts_fit(self) -> Settings:
        if self.obs.required and not self.obs.enabled:
            raise ValueError("obs.required is true, so obs.enabled has to be true as well")
        still_s, hold_s = self.translator.budget.still_s, self.publish.hold_s
        if still_s >= hold_s:
            raise ValueError(
                f"translator.budget.still_s = {still_s:g}: a still picture would become the slate; allowed: less than "
                f"publish.hold_s = {hold_s:g}"
            )
        names = [preset.name for preset in self.presets]
        for number, preset in enumerate(self.presets):
            if preset.name in names[:number]:
                raise ValueError(f"presets.{number}.name {preset.name!r} is given twice")
        for where, look in self._looks():
            if isinstance(look, Rule) and look.preset is not None and look.preset not in names:
                known = ", ".join(names) or "none"
                raise ValueError(f"{where}.preset {look.preset!r} is not among presets: {known}")
            try:
                self._check_look(look)
            except ValueError as error:
                raise ValueError(f"{where}: {error}") from None
        return self

    def check_look(self, strength: float | None, style: str | None) -> None:
        """Raise ValueError for a strength or a style that cannot be had with these settings."""
        self._check_look(Rule.model_construct(strength=strength, style=style))

    def _looks(self) -> Iterator[tuple[str, Preset | Rule]]:
        yield from ((f"presets.{number}", preset) for number, preset in enumerate(self.presets))
        yield from ((f"obs.rules.{number}", rule) for number, rule in enumerate(self.obs.rules))
        if self.obs.default is not None:
            yield "obs.default", self.obs.default

    def _check_look(self, look: Preset | Rule) -> None:
        if look.style and look.style not in self.model.styles:
            allowed = ", ".join([*self.model.styles, "'' for none"])
            raise ValueError(f"style = {look.style!r}: not among model.styles; allowed: {allowed}")
        # What a rule does not set stays as another one set it, so each must go with all.
        looks = [look for _, look in self._looks()]
        steps = getattr(look, "steps", None)
        all_steps = {self.translator.steps, *(n for look in looks if (n := getattr(look, "steps", None)))}
        strengths = {self.translator.strength, *(look.strength for look in looks if look.strength)}
        if look.strength is not None or steps is not None:
            for one_strength in [look.strength] if look.strength is not None else sorted(strengths):
                for one_steps in [steps] if steps is not None else sorted(all_steps):
                    check_steps(one_strength, one_steps)
