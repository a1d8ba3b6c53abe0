"""The link to OBS: where it is, what leads, what is written back."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, SecretStr, model_validator

from streamv2v_obs.settings.looks import Rule, SceneRule
from streamv2v_obs.settings.section import Number, Secret, Section, Text, Whole


class AudioSync(Section):
    """A sound that is held back as long as the picture takes."""

    input: Text = Field(description="its name in OBS, a microphone say")
    extra_ms: Annotated[Whole, Field(ge=-950, le=5000)] = Field(
        0, description="added to what is measured, for the way from the camera into OBS"
    )


class ViewerSettings(Section):
    """Prompts that viewers may ask for, through a custom event of a chat bot or the text source."""

    length: Whole = Field(120, ge=1, le=1000, description="characters of a prompt, at most")
    blocked: tuple[Text, ...] = Field(
        (), description="no prompt may hold these, whatever their case, accents, gaps and digits for letters"
    )
    cooldown_s: Annotated[Number, Field(ge=0, le=3600)] = Field(
        15, description="from one prompt to the next, and from one wish of a viewer to his next"
    )
    queue: Whole = Field(10, ge=1, le=100, description="prompts that may wait")
    revert_s: Annotated[Number, Field(ge=1, le=86_400)] | None = Field(
        60, description="then the prompt before comes back; null: never"
    )
    approve: bool = Field(True, description="the streamer approves each one, in the panel or by POST /v1/viewers")
    text: bool = Field(False, description="what the text source prompt_text says comes from viewers, too")


class ObsSettings(Section):
    """The link to OBS."""

    enabled: bool = False
    required: bool = Field(False, description="end with exit code 6 when OBS cannot be reached at start")
    host: str = "127.0.0.1"
    port: Annotated[Whole, Field(ge=1, le=65535)] = 4455
    password: Secret = SecretStr("")
    timeout_s: Annotated[Number, Field(ge=0.5, le=60)] = 3
    rules: tuple[SceneRule, ...] = ()
    default: Rule | None = Field(None, description="the rule of all scenes without one")
    prompt_text: Text | None = Field(None, description="a text source in OBS; what it says is the prompt")
    custom_events: bool = Field(True, description='other clients of OBS may steer by {"streamv2v": {..}}')
    viewers: ViewerSettings | None = Field(None, description="prompts of viewers; none: they may not ask")
    bypass_by_event: bool = Field(False, description="they may switch bypass on, too; off they always may")
    preset_items: bool = Field(False, description="an item named like a preset, switched on in the program scene")
    preset_filters: bool = Field(False, description="a filter named like a preset, switched on")
    status_text: Text | None = Field(None, description="a text source in OBS that is to show the status")
    audio_sync: AudioSync | None = Field(None, description="hold a sound back by the age of the picture shown")
    stop_with_obs: bool = Field(False, description="end the service when OBS is closed")

    @model_validator(mode="after")
    def _words_go_one_way(self) -> ObsSettings:
        if self.prompt_text is not None and self.prompt_text == self.status_text:
            raise ValueError(
                f"prompt_text and status_text are both {self.prompt_text!r}: the status would be the prompt; "
                "allowed: two text sources"
            )
        if self.viewers is not None and self.viewers.text and self.prompt_text is None:
            raise ValueError("viewers.text is true, so prompt_text has to name the text source")
        return self

    @property
    def all_rules(self) -> tuple[SceneRule, ...]:
        """The rules, the default one as the last: a glob that fits every scene."""
        if self.default is None:
            return self.rules
        return (*self.rules, SceneRule(scene="*", **self.default.model_dump(exclude_unset=True)))
