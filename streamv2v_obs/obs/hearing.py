"""What each event of OBS leads to: its scenes by their rules, custom events, and presets switched on by their name."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable, Mapping
from typing import Any

from streamv2v_obs.errors import ConfigError
from streamv2v_obs.obs.client import ObsVersion, Requests, no_is_an_answer
from streamv2v_obs.obs.events import CustomEvent, Event, FilterSwitched, ItemSwitched
from streamv2v_obs.obs.policy import carried_over
from streamv2v_obs.obs.scenes import SceneFollower
from streamv2v_obs.obs.wishes import ANSWER_KEY, KEY, PresetCall, Steered, ViewerAsks, do, wishes_of
from streamv2v_obs.presets import fill_in
from streamv2v_obs.settings import Settings

log = logging.getLogger(__name__)

_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_ECHO_LIMIT = 1000
"""Characters of a refused custom event that are sent back with the refusal."""


class Hearing:
    """Hears events and has ``steered`` do what they ask for. For one thread.

    ``complain(matter, line)`` is told what cannot be done, and with an empty line that it can.
    """

    def __init__(self, settings: Settings, steered: Steered, complain: Callable[[str, str], None]) -> None:
        self._settings = settings
        self._steered = steered
        self._complain = complain
        self._presets = {preset.name for preset in settings.presets}
        self._items_of: str | None = None  # the scene whose items were looked at last
        rules = fill_in(settings.obs.all_rules, settings.presets)
        self.scenes = SceneFollower(rules, lambda command: do(command, steered))

    def take_over(self, before: Hearing) -> None:
        """Go on from what ``before`` has heard, with other rules."""
        rules = fill_in(self._settings.obs.all_rules, self._settings.presets)
        self.scenes.state = carried_over(before.scenes.state, rules)
        # A scene that is entered anew is looked at anew: its rule is applied, which an item's preset comes after.
        if self.scenes.state.scene is not None and before._settings.obs.preset_items:
            self._items_of = before._items_of

    def begin(self, version: ObsVersion) -> None:
        """At each new connection."""
        by_uuid = [rule.scene for rule in self._settings.obs.rules if _UUID.fullmatch(rule.scene)]
        lost = by_uuid and not version.at_least(5, 4)
        self._complain("obs.rules", f"{by_uuid[0]} stands for no scene: OBS {version} tells no UUIDs" if lost else "")

    def hear(self, event: Event, requests: Requests) -> None:
        """Do what ``event`` asks for."""
        obs, scene = self._settings.obs, self.scenes.state.scene
        match event:
            case CustomEvent(data) if obs.custom_events:
                self._grant(data, requests)
            case ItemSwitched(of, item, True) if obs.preset_items and of == scene:
                with no_is_an_answer():  # item and scene may be gone by now
                    self._call_preset(requests.shown_items(of).get(item, ""))
            case FilterSwitched(_, name, True) if obs.preset_filters:
                self._call_preset(name)
            case _:
                self.scenes.follow(event, requests)

    def look(self, requests: Requests) -> None:
        """Where a scene was entered: its topmost shown item named like a preset counts as switched on."""
        scene = self.scenes.state.scene
        unseen = scene is not None and scene != self._items_of
        if not self._settings.obs.preset_items or not unseen or self.scenes.state.changing_collection:
            return
        self._items_of = scene
        with no_is_an_answer():
            shown = (name for name in requests.shown_items(str(scene)).values() if name in self._presets)
            self._call_preset(next(shown, ""))

    def _call_preset(self, name: str) -> None:
        if name in self._presets:
            log.info("OBS: preset %r was switched on", name)
            do(PresetCall(name), self._steered)

    def _grant(self, data: Mapping[str, Any], requests: Requests) -> None:
        """Do what a custom event asks for, or tell everybody why not."""
        try:
            scene = self.scenes.state.scene
            wishes = wishes_of(data, self._settings, self._steered.presets, scene, self._stored_scenes)
            for wish in wishes:
                if not isinstance(wish, ViewerAsks):  # those say themselves what they took in
                    log.info("OBS: custom event: %s", wish)
                do(wish, self._steered)
        except ConfigError as error:
            self._complain("custom event", str(error))
            asked = json.dumps(data[KEY])
            # What a viewer wrote is not sent on to anybody: what is wrong with it may be that it is read.
            of_viewer = isinstance(data[KEY], Mapping) and "viewer" in data[KEY]
            echo = {"asked": data[KEY]} if len(asked) <= _ECHO_LIMIT and not of_viewer else {}
            requests.broadcast({ANSWER_KEY: {"error": str(error), **echo}})
            return
        if wishes:
            self._complain("custom event", "")

    def _stored_scenes(self) -> tuple[str, ...]:
        engine = self._steered.status().engine
        return engine.scenes_stored if engine else ()
