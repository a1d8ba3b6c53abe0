"""Which scene is on air, whatever order OBS tells things in, and what its rule wants done."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Sequence

from streamv2v_obs.commands import Bypass, Change, Prepare
from streamv2v_obs.obs.client import Requests
from streamv2v_obs.obs.events import (
    CollectionChanged,
    CollectionChanging,
    Event,
    ProgramSceneChanged,
    ProgramSceneSeen,
    TransitionStarted,
)
from streamv2v_obs.obs.policy import Slate, State, decide
from streamv2v_obs.settings import SceneRule

log = logging.getLogger(__name__)

HEARTBEAT_S = 2.0
"""How often OBS is asked for its program scene, to notice that it is gone or that an event was lost."""
ASK_AGAIN_S = 0.05
"""For this long OBS may name the old scene at the start of a transition, or the preview when studio mode ends."""
COLLECTION_S = 30.0
"""Longest silence that a change of the scene collection is allowed."""


class SceneFollower:
    """Feeds the policy, and asks OBS where its events leave a doubt. For one thread."""

    def __init__(self, rules: Sequence[SceneRule], do: Callable[[Change | Prepare | Bypass | Slate], None]) -> None:
        self._rules = rules
        self._do = do
        self._early = any(rule.when == "start" for rule in rules)
        self.state = State()
        self.ask_at = math.inf
        """When to call ``ask``."""

    def follow(self, event: Event, requests: Requests) -> None:
        """Take ``event`` for what it is worth."""
        match event:
            case ProgramSceneChanged() if self.state.changing_collection:
                pass  # no requests now; CollectionChanged asks
            case ProgramSceneChanged(scene) if self.state.in_transition:
                # Fast switching leaves a trail of scenes that are over already. Only what is still so counts; what
                # came instead has an event of its own under way.
                if requests.program_scene() == scene:
                    self.take(event)
            case ProgramSceneChanged():
                # No transition led there. Leaving studio mode is told so: the scene of the preview first, which
                # even requests see for a moment, then the one that is on air. The truth is what is so a little later.
                self._ask_soon()
            case TransitionStarted():
                self.take(event)
                if self._early and not self.state.changing_collection:
                    before = self.state.scene
                    if self.ask(requests) == before:
                        self._ask_soon()
            case CollectionChanging():
                self.take(event)
                self.ask_at = time.monotonic() + COLLECTION_S
            case CollectionChanged():
                self.take(event)
                self.ask(requests)
            case _:
                self.take(event)

    def ask(self, requests: Requests) -> str:
        """Ask which scene is on air, and take the answer as an event."""
        scene, uuid = requests.program()
        self.ask_at = time.monotonic() + HEARTBEAT_S
        self.take(ProgramSceneSeen(scene, uuid))
        return scene

    def _ask_soon(self) -> None:
        self.ask_at = min(self.ask_at, time.monotonic() + ASK_AGAIN_S)

    def take(self, event: Event) -> None:
        """Do what the policy says to ``event``."""
        before = self.state.scene
        self.state, commands = decide(self._rules, self.state, event)
        for command in commands:
            self._do(command)
        if self.state.scene != before:
            rule = self.state.rule
            log.info("OBS: scene %r, %s", self.state.scene, f"rule {rule.scene!r}" if rule else "no rule")
