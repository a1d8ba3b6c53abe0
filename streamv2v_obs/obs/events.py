"""What OBS can tell us, as types; JSON becomes one of them here and nowhere else."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

log = logging.getLogger(__name__)


# --- told by OBS --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ProgramSceneChanged:
    """This scene is on air; comes at the end of a transition, and for other scenes when studio mode is left."""

    scene: str
    uuid: str = ""
    """From websocket 5.4 on; so in all events that have one."""


@dataclass(frozen=True)
class TransitionStarted:
    """The way to another scene begins; OBS does not say to which."""

    transition: str


@dataclass(frozen=True)
class TransitionEnded:
    """It is over; does not come for one that was interrupted by the next."""

    transition: str


@dataclass(frozen=True)
class PreviewSceneChanged:
    """Studio mode: this scene was selected, and is not on air."""

    scene: str
    uuid: str = ""


@dataclass(frozen=True)
class StudioModeChanged:
    """Studio mode was entered or left."""

    on: bool


@dataclass(frozen=True)
class SceneRenamed:
    """The same scene under another name."""

    old: str
    new: str
    uuid: str = ""


@dataclass(frozen=True)
class SceneListChanged:
    """Scenes came, went or moved."""

    scenes: tuple[str, ...]


@dataclass(frozen=True)
class CollectionChanging:
    """All scenes are about to go; no requests until CollectionChanged."""

    collection: str


@dataclass(frozen=True)
class CollectionChanged:
    """Another set of scenes is there."""

    collection: str


@dataclass(frozen=True)
class InputCreated:
    """A source came."""

    name: str


@dataclass(frozen=True)
class InputRemoved:
    """A source went."""

    name: str


@dataclass(frozen=True)
class InputRenamed:
    """The same source under another name."""

    old: str
    new: str


@dataclass(frozen=True)
class InputSettingsChanged:
    """The settings of a source are these now; from websocket 5.4 on, and with every letter that is typed."""

    name: str
    settings: Mapping[str, Any]


@dataclass(frozen=True)
class ItemSwitched:
    """An item of a scene was shown or hidden; OBS does not say which source it is."""

    scene: str
    item: int
    on: bool


@dataclass(frozen=True)
class FilterSwitched:
    """A filter was switched on or off."""

    source: str
    filter: str
    on: bool


@dataclass(frozen=True)
class VirtualCameraSwitched:
    """OBS's own virtual camera was started or stopped."""

    on: bool


@dataclass(frozen=True)
class ExitStarted:
    """OBS is closing."""


@dataclass(frozen=True)
class CustomEvent:
    """What a client of OBS sent to all (BroadcastCustomEvent), ourselves included; see ``wishes``."""

    data: Mapping[str, Any]


# --- our own ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Connected:
    """The link stands, and this scene is on air."""

    scene: str
    version: str
    uuid: str = ""


@dataclass(frozen=True)
class Disconnected:
    """The link is gone."""


@dataclass(frozen=True)
class ProgramSceneSeen:
    """OBS answered that this is the program scene; while a transition runs, the one that it leads to."""

    scene: str
    uuid: str = ""


Event: TypeAlias = (
    ProgramSceneChanged
    | TransitionStarted
    | TransitionEnded
    | PreviewSceneChanged
    | StudioModeChanged
    | SceneRenamed
    | SceneListChanged
    | CollectionChanging
    | CollectionChanged
    | InputCreated
    | InputRemoved
    | InputRenamed
    | InputSettingsChanged
    | ItemSwitched
    | FilterSwitched
    | VirtualCameraSwitched
    | ExitStarted
    | CustomEvent
    | Connected
    | Disconnected
    | ProgramSceneSeen
)


def _text(data: Mapping[str, Any], key: str) -> str:
    value = data[key]
    if not isinstance(value, str):
        raise TypeError(f"{key} is not a text")
    return value


def _uuid(data: Mapping[str, Any]) -> str:
    return _text(data, "sceneUuid") if "sceneUuid" in data else ""


def _number(data: Mapping[str, Any], key: str) -> int:
    value = data[key]
    if not isinstance(value, int):
        raise TypeError(f"{key} is not a number")
    return value


def _flag(data: Mapping[str, Any], key: str) -> bool:
    value = data[key]
    if not isinstance(value, bool):
        raise TypeError(f"{key} is not true or false")
    return value


_READ: dict[str, Callable[[Mapping[str, Any]], Event]] = {
    "CurrentProgramSceneChanged": lambda d: ProgramSceneChanged(_text(d, "sceneName"), _uuid(d)),
    "SceneTransitionStarted": lambda d: TransitionStarted(_text(d, "transitionName")),
    "SceneTransitionEnded": lambda d: TransitionEnded(_text(d, "transitionName")),
    "CurrentPreviewSceneChanged": lambda d: PreviewSceneChanged(_text(d, "sceneName"), _uuid(d)),
    "StudioModeStateChanged": lambda d: StudioModeChanged(_flag(d, "studioModeEnabled")),
    "SceneNameChanged": lambda d: SceneRenamed(_text(d, "oldSceneName"), _text(d, "sceneName"), _uuid(d)),
    "SceneListChanged": lambda d: SceneListChanged(tuple(_text(scene, "sceneName") for scene in d["scenes"])),
    "CurrentSceneCollectionChanging": lambda d: CollectionChanging(_text(d, "sceneCollectionName")),
    "CurrentSceneCollectionChanged": lambda d: CollectionChanged(_text(d, "sceneCollectionName")),
    "InputCreated": lambda d: InputCreated(_text(d, "inputName")),
    "InputRemoved": lambda d: InputRemoved(_text(d, "inputName")),
    "InputNameChanged": lambda d: InputRenamed(_text(d, "oldInputName"), _text(d, "inputName")),
    "InputSettingsChanged": lambda d: InputSettingsChanged(_text(d, "inputName"), dict(d["inputSettings"])),
    "SceneItemEnableStateChanged": lambda d: ItemSwitched(
        _text(d, "sceneName"), _number(d, "sceneItemId"), _flag(d, "sceneItemEnabled")
    ),
    "SourceFilterEnableStateChanged": lambda d: FilterSwitched(
        _text(d, "sourceName"), _text(d, "filterName"), _flag(d, "filterEnabled")
    ),
    "VirtualcamStateChanged": lambda d: VirtualCameraSwitched(_flag(d, "outputActive")),
    "ExitStarted": lambda d: ExitStarted(),
    "CustomEvent": lambda d: CustomEvent(dict(d)),
}


def parse(message: Mapping[str, Any]) -> Event | None:
    """The event in ``{"eventType": .., "eventData": {..}}``; None if it is of no interest, or malformed (logged)."""
    try:
        name = _text(message, "eventType")
        read = _READ.get(name)
        return read(message.get("eventData") or {}) if read else None
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        log.warning("OBS sent a malformed event, ignored: %s (%r)", message.get("eventType"), error)
        return None
