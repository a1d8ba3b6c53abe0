"""What it takes to go from one set of settings to another while everything runs: a table, and a pure function."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from streamv2v_obs.commands import Change
from streamv2v_obs.settings import ObsCapture, Settings

Where: TypeAlias = Literal["live", "engine", "service"]

# key -> who has to be started anew; the longest key that fits decides.
_TABLE: Mapping[str, Where] = {
    "capture": "live",
    "model": "engine",
    "model.style": "live",
    "translator": "engine",
    "translator.prompt": "live",
    "translator.strength": "live",
    "translator.steps": "live",
    "translator.seed": "live",
    "publish": "service",
    "publish.hold_s": "live",
    "publish.slate": "live",
    "presets": "live",
    "obs": "live",
    "control": "service",
    "log": "live",
}


@dataclass(frozen=True)
class Plan:
    """What differs, key by key: ``live`` is applied at once, for ``engine`` the engine is started anew; for
    ``service`` the user has to start the service anew, and until then these keys stay as they are.
    """

    live: tuple[str, ...] = ()
    engine: tuple[str, ...] = ()
    service: tuple[str, ...] = ()
    change: Change | None = None
    """What the running engine is told; it outlives a new engine, too."""

    def differs(self, *sections: str) -> bool:
        """Whether anything in one of these is to be done while running."""
        return any(key.partition(".")[0] in sections for key in (*self.live, *self.engine))


def plan(old: Settings, new: Settings) -> Plan:
    """How to get from ``old``, which is in force, to ``new``."""
    differing = list(_differing(old.model_dump(), new.model_dump()))
    found: dict[Where, list[str]] = {"live": [], "engine": [], "service": []}
    for key in differing:
        # The engine captures OBS through a connection of its own.
        link = key.startswith(("obs.host", "obs.port", "obs.password", "obs.timeout_s"))
        found["engine" if link and _captures_obs(new) else where(key)].append(key)
    translator = new.translator
    told = Change(
        prompt=translator.prompt if "translator.prompt" in differing else None,
        strength=translator.strength if "translator.strength" in differing else None,
        steps=translator.steps if "translator.steps" in differing else None,
        seed=translator.seed if "translator.seed" in differing else None,
        style=(new.model.style or "") if "model.style" in differing else None,
        source=new.capture if any(key.startswith("capture") for key in differing) else None,
    )
    change = None if told == Change() else told
    return Plan(tuple(found["live"]), tuple(found["engine"]), tuple(found["service"]), change)


def in_force(old: Settings, new: Settings) -> Settings:
    """``new`` but for what only a new service takes up."""
    publish = old.publish.model_copy(update={"hold_s": new.publish.hold_s, "slate": new.publish.slate})
    return new.model_copy(update={"publish": publish, "control": old.control})


def where(key: str) -> Where:
    """Who has to be started anew for another value of ``key``, such as ``publish.hold_s``."""
    while key not in _TABLE:
        key = key.rpartition(".")[0]
    return _TABLE[key]


def _captures_obs(settings: Settings) -> bool:
    sources = [settings.capture, *(rule.source for rule in settings.obs.all_rules)]
    return any(isinstance(source, ObsCapture) for source in sources)


def _differing(old: Mapping[str, Any], new: Mapping[str, Any], above: str = "") -> Iterator[str]:
    for key in dict.fromkeys([*old, *new]):
        before, after = old.get(key), new.get(key)
        if isinstance(before, Mapping) and isinstance(after, Mapping):
            yield from _differing(before, after, f"{above}{key}.")
        elif before != after or (key in old) != (key in new):
            yield f"{above}{key}"
