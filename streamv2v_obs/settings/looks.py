"""Named set-ups of the prompt, and what a scene of OBS does to it."""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

from pydantic import AfterValidator, Field

from streamv2v_obs.settings.capture import CaptureSettings
from streamv2v_obs.settings.section import BankPolicy, BlendTime, Number, Section, Text, Whole


def _preset_name(name: str) -> str:
    if name != name.strip() or name.isdecimal() or name in ("next", "previous"):
        raise ValueError(f"{name!r} may not be a name, since presets are called by number, next and previous, too")
    return name


PresetName: TypeAlias = Annotated[str, Field(min_length=1, max_length=100), AfterValidator(_preset_name)]


class Preset(Section):
    """A named set-up of the prompt, applied at one stroke; what is not set stays as it is."""

    name: PresetName
    prompt: Text
    strength: Annotated[Number, Field(gt=0, le=1)] | None = None
    seed: Annotated[Whole, Field(ge=0, lt=2**63)] | None = None
    style: str | None = Field(None, description="a name among model.styles; '' for none")
    bank: Literal["keep", "reset", "fade"] = Field("keep", description="only scenes have banks to bring back")
    blend_s: BlendTime = Field(0, description="time from the prompt before to this one, and for a bank to fade")


class Rule(Section):
    """What happens when a scene of OBS goes on air; what is not set stays as it is."""

    preset: PresetName | None = Field(None, description="a name among presets; what is set here wins over it")
    prompt: Text | None = None
    strength: Annotated[Number, Field(gt=0, le=1)] | None = None
    steps: Annotated[Whole, Field(ge=1, le=8)] | None = Field(None, description="another number empties the bank")
    seed: Annotated[Whole, Field(ge=0, lt=2**63)] | None = None
    style: str | None = Field(None, description="a name among model.styles; '' for none")
    source: CaptureSettings | None = None
    bank: BankPolicy = "keep"
    blend_s: BlendTime = Field(0, description="time from the prompt before to this one, and for a bank to fade")
    when: Literal["start", "end"] = Field("end", description="of the transition")
    output: Literal["translated", "slate", "bypass"] | None = Field(
        None, description="slate and bypass last as long as the scene; translated ends a bypass by hand, too"
    )


class SceneRule(Rule):
    """The rule of one scene, or of those that a glob fits."""

    scene: Text = Field(description="its name in OBS, its UUID (websocket 5.4 on), or a glob such as 'Game *'")
