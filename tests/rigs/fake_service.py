"""A fake of the service that remembers what it was told: the real one needs a model to show anything."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from typing import Any

from streamv2v_obs.commands import Change
from streamv2v_obs.control.setup_routes import Setup
from streamv2v_obs.obs.viewers import Viewers
from streamv2v_obs.presets import Presets
from streamv2v_obs.publish.browser import BrowserSink
from streamv2v_obs.reload import Plan
from streamv2v_obs.settings import ModelSettings, Preset, SceneRule, Settings
from streamv2v_obs.stats import EngineStatus, ObsStatus, PublishStatus, ServiceStatus


class FakeSetup:
    """Remembers what was written and chosen, and takes the rules for good."""

    rules_file = "/home/user/config.yaml"

    def __init__(self, settings: Settings, told: list[Any]) -> None:
        self.current = settings
        self._told = told

    def model_names(self) -> list[str]:
        return ["auto", "demo"]

    def set_rules(self, rules: Sequence[SceneRule]) -> None:
        obs = self.current.obs.model_copy(update={"rules": tuple(rules)})
        self.current = self.current.model_copy(update={"obs": obs})
        self._told.append(("rules", [rule.scene for rule in rules]))

    def choose(self, chosen: Mapping[tuple[str, str], Any]) -> Plan:
        self._told.append(dict(chosen))
        return Plan(engine=tuple(".".join(keys) for keys in chosen))


class FakeService:
    """Remembers what it was told, and shows what it is given."""

    def __init__(self) -> None:
        self.settings = Settings(
            model=ModelSettings.model_validate({"styles": {"ink": {"path": "ink.safetensors"}}}),
            presets=(
                Preset(name="Comic", prompt="a comic book panel", strength=0.5, bank="reset"),
                Preset(name="Ölbild", prompt="an oil painting"),
                Preset(name="Ink", prompt="ink on paper", style="ink", seed=4),
            ),
        )
        self.presets = Presets(self.settings.presets)
        self.browser = BrowserSink()
        self.input_view: BrowserSink | None = BrowserSink()
        self.watches_input = False
        self.told: list[Any] = []
        self.viewers = Viewers(None, self.apply, lambda: None)
        self.setup: Setup = FakeSetup(self.settings, self.told)
        self.stopped = threading.Event()
        self.publish = PublishStatus(state="HOLD", content_age_ms_p50=float("nan"))
        self.obs = ObsStatus()
        self.engine = EngineStatus(scene="Chat", scenes_stored=("Chat", "Game"))

    def status(self) -> ServiceStatus:
        return ServiceStatus(
            "1",
            2,
            3.0,
            "http://here",
            publish=self.publish,
            engine=self.engine,
            preset=self.presets.current,
            obs=self.obs,
            watches_input=self.watches_input,
        )

    def apply(self, change: Change) -> None:
        self.presets.note(change)
        self.told.append(change)

    def set_bypass(self, on: bool) -> None:
        self.told.append(("bypass", on))

    def set_panic(self, on: bool) -> None:
        self.told.append(("panic", on))

    def watch_input(self, on: bool) -> None:
        self.watches_input = on
        self.told.append(("input", on))

    def stop(self) -> None:
        self.stopped.set()
