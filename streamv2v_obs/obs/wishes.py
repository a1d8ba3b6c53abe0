"""What people ask for from inside OBS beside its scenes: custom events, and names of presets that are switched on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Protocol, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from streamv2v_obs.commands import Bypass, Change, Prepare
from streamv2v_obs.errors import ConfigError, named
from streamv2v_obs.obs.policy import Slate
from streamv2v_obs.presets import Presets
from streamv2v_obs.settings import BankPolicy, BlendTime, Settings
from streamv2v_obs.stats import ServiceStatus

KEY = "streamv2v"
"""Custom events that hold this key are for us; ours hold ANSWER_KEY instead, so that no echo is an order."""
ANSWER_KEY = "streamv2v_refused"


class Steered(Protocol):
    """What is steered: the service. Every method returns at once and may be called from any thread."""

    @property
    def presets(self) -> Presets: ...
    def status(self) -> ServiceStatus: ...
    def apply(self, change: Change) -> None: ...
    def set_bypass(self, on: bool) -> None: ...
    def set_panic(self, on: bool) -> None: ...
    def set_slate(self, on: bool) -> None: ...
    def prepare(self, prompt: str) -> None: ...
    def viewer_asks(self, text: str, name: str) -> None: ...  # raises ConfigError
    def stop(self) -> None: ...


@dataclass(frozen=True)
class Panic:
    """The slate at once, until released."""

    on: bool


@dataclass(frozen=True)
class PresetCall:
    """A name, a number from 1, ``next`` or ``previous``."""

    which: str | int


@dataclass(frozen=True)
class ViewerAsks:
    """A prompt that is not the streamer's own."""

    text: str
    name: str


Wish: TypeAlias = Change | Bypass | Panic | PresetCall | ViewerAsks


class _Viewer(BaseModel):
    """A viewer's prompt, and who he is to the chat."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    prompt: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=1000)]
    name: Annotated[str, Field(max_length=200)] = ""


class _Asked(BaseModel):
    """What a custom event may hold under KEY; other keys and guessed types are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    prompt: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=1000)] | None = None
    strength: Annotated[float, Field(gt=0, le=1)] | None = None
    seed: Annotated[int, Field(ge=0, lt=2**63)] | None = None
    style: Annotated[str, Field(max_length=200)] | None = None
    preset: Annotated[str, Field(max_length=100)] | int | None = None
    bank: BankPolicy | None = None
    blend_s: BlendTime | None = None
    bypass: bool | None = None
    panic: bool | None = None
    viewer: _Viewer | None = None


def wishes_of(
    data: Mapping[str, Any],
    settings: Settings,
    presets: Presets,
    scene: str | None,
    stored_scenes: Callable[[], tuple[str, ...]],
) -> tuple[Wish, ...]:
    """What the custom event ``data`` asks for, in the order in which it has to be done; () if it is not for us.

    ``scene`` is the one on air, whose bank is restored if one is. Raises ConfigError with one clear line for what is
    wrong, and then nothing of the event is to be done.
    """
    if KEY not in data or ANSWER_KEY in data:
        return ()
    asked = _read(data[KEY])
    if asked.viewer is not None:
        # Beside nothing else: a chat bot that hands on what viewers write must not hand on orders as well.
        if others := asked.model_dump(exclude={"viewer"}, exclude_none=True):
            raise ConfigError(f"viewer: stands alone, not with {', '.join(others)}")
        return (ViewerAsks(asked.viewer.prompt, asked.viewer.name),)
    changed = asked.model_dump(include={"prompt", "strength", "seed", "style", "bank", "blend_s"}, exclude_none=True)
    if asked.preset is not None and changed:
        raise ConfigError(f"preset: goes with bypass and panic only, not with {', '.join(changed)}")
    if asked.bypass and not settings.obs.bypass_by_event:
        raise ConfigError("bypass = true: shows the raw picture, which obs.bypass_by_event: true has to allow first")
    try:
        settings.check_look(asked.strength, asked.style)
    except ValueError as error:
        raise ConfigError(str(error)) from None
    if asked.bank == "restore" and scene not in stored_scenes():
        known = ", ".join(stored_scenes()) or "none"
        raise ConfigError(f"bank = 'restore': no bank is stored for scene {scene!r}; stored: {known}")
    wishes: list[Wish] = []
    # What hides pictures comes first, what shows them last.
    if asked.panic:
        wishes.append(Panic(True))
    if asked.bypass is False:
        wishes.append(Bypass(False))
    if asked.preset is not None:
        if asked.preset not in ("next", "previous") or not presets.all:
            presets.called(asked.preset)  # raises if there is no such one
        wishes.append(PresetCall(asked.preset))
    if changed:
        wishes.append(Change(**changed, bank_of=scene if asked.bank == "restore" else None))
    if asked.bypass:
        wishes.append(Bypass(True))
    if asked.panic is False:
        wishes.append(Panic(False))
    return tuple(wishes)


def _read(data: object) -> _Asked:
    allowed = f"allowed: {', '.join(_Asked.model_fields)}"
    try:
        asked = _Asked.model_validate(data)
    except ValidationError as error:
        detail = error.errors(include_url=False)[0]
        key = named(str(detail["loc"][0])) if detail["loc"] else ""
        if not key:
            raise ConfigError(f"{KEY} is no object; {allowed}") from None
        if detail["type"] == "extra_forbidden":
            raise ConfigError(f"unknown key {key}; {allowed}") from None
        raise ConfigError(f"{key} = {repr(detail['input'])[:100]}: {detail['msg']}") from None
    if asked == _Asked():
        raise ConfigError(f"{KEY} asks for nothing; {allowed}")
    return asked


def do(wish: Wish | Prepare | Slate, steered: Steered) -> None:
    """Have it done."""
    match wish:
        case Prepare(prompt):
            steered.prepare(prompt)
        case Slate(on):
            steered.set_slate(on)
        case Change():
            steered.apply(wish)
        case Bypass(on):
            steered.set_bypass(on)
        case Panic(on):
            steered.set_panic(on)
        case ViewerAsks(text, name):
            steered.viewer_asks(text, name)
        case PresetCall(which):
            steered.apply(steered.presets.called(which))
