"""Each key that can be changed while running is changed, in the file of the real service beside a real OBS, and acts.

The keys are read off the settings and the table of what is taken up how: one without a case here is a failure.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import psutil
import pytest
import yaml

from streamv2v_obs.reload import where
from streamv2v_obs.settings import Section, Settings
from tests.conftest import Require
from tests.rigs.demo_lora import save_demo_lora
from tests.rigs.obs import PASSWORD, RealObs, obs_obstacle, real_obs
from tests.rigs.service import RunningService, running_service

pytestmark = [pytest.mark.obs, pytest.mark.timeout(400)]

PRESETS = [{"name": "Dusk", "prompt": "dusk"}, {"name": "Dawn", "prompt": "dawn"}]


def live_keys() -> list[str]:
    """All that is taken up at once. What is captured is one thing, whatever its kind has for keys."""

    def below(section: type[Section], above: str) -> Iterator[str]:
        for name, field in section.model_fields.items():
            inner, key = field.annotation, f"{above}{name}"
            if isinstance(inner, type) and issubclass(inner, Section):
                yield from below(inner, f"{key}.")
            else:
                yield key

    return [key for key in below(Settings, "") if where(key) == "live"]


@dataclass
class Live:
    """The service, the file that it watches, and the OBS that it is linked to."""

    service: RunningService
    obs: RealObs
    path: Path

    def set(self, key: str, value: Any) -> None:
        """Edit the file, and wait until that is taken up."""
        tree = yaml.safe_load(self.path.read_text(encoding="utf-8"))
        *above, last = key.split(".")
        node = tree
        for name in above:
            node = node.setdefault(name, {})
        if node.get(last) == value:
            return
        node[last] = value
        told = self._told()
        self.path.write_text(yaml.safe_dump(tree), encoding="utf-8")
        if key != "log.level":  # which may say that nothing is to be said
            self.service.until(lambda: self._told() > told, f"{key} is taken up")

    def _told(self) -> int:
        return self.service.said.count("settings: applied at once: ")

    def until_prompt(self, prompt: str) -> None:
        self.service.until(lambda: self.service.engine()["prompt"] == prompt, f"the prompt {prompt!r}")

    def until_obs(self, state: str) -> None:
        self.service.until(lambda: self.service.status()["obs"]["state"] == state, f"OBS is {state}")

    def until_linked(self) -> None:
        """Connected, and the scene is known."""
        self.service.until(lambda: self.service.status()["obs"]["scene"] == "A", "scene A")

    def say(self, **order: Any) -> None:
        self.obs.requests.broadcast({"streamv2v": order})

    def create(self, name: str, kind: str, **settings: Any) -> int:
        asked = {"sceneName": "A", "inputName": name, "inputKind": kind, "inputSettings": settings}
        return int(self.obs.requests.call("CreateInput", asked)["sceneItemId"])

    def preview(self) -> npt.NDArray[np.int16]:
        """The upper part of what is shown, where nothing of a slate moves."""
        jpeg = self.service.client().get("/v1/preview").raise_for_status().content
        picture = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)
        assert picture is not None
        return picture[: picture.shape[0] * 6 // 10].astype(np.int16)


def capture(live: Live) -> None:
    live.set("capture", {"kind": "pattern", "fps": 5, "width": 320, "height": 256})
    live.service.until(lambda: "320" in live.service.engine()["source"], "the other source")


def style(live: Live) -> None:
    live.service.until_on_air("TRANSLATED")
    engine = live.service.status()["engine_pid"]
    live.set("model.style", "ink")
    live.service.until(lambda: live.service.engine().get("style") == "ink", "the style")
    live.set("model.style", None)
    live.service.until(lambda: live.service.engine().get("style", "?") is None, "its end")
    assert live.service.status()["engine_pid"] == engine, "weights are rewritten in the engine that runs"


def of_the_engine(name: str, value: Any) -> Callable[[Live], None]:
    def case(live: Live) -> None:
        live.set(f"translator.{name}", value)
        live.service.until(lambda: live.service.engine()[name] == value, name)

    return case


def hold_s(live: Live) -> None:
    engine = psutil.Process(live.service.status()["engine_pid"])
    live.set("publish.hold_s", 30)
    live.service.until_on_air("TRANSLATED")
    engine.suspend()
    try:
        live.service.until_on_air("HOLD")
        time.sleep(3.5)
        assert live.service.status()["publish"]["state"] == "HOLD", "longer than the three seconds before"
        live.set("publish.hold_s", 0.5)
        live.service.until_on_air("SLATE", 5)
    finally:
        engine.resume()
    live.service.until_on_air("TRANSLATED")


def slate(live: Live) -> None:
    live.service.post("panic", on=True)
    live.service.until_on_air("SLATE")
    time.sleep(0.5)
    before = live.preview()
    assert np.abs(live.preview() - before).mean() < 0.05, "the slate stays as it is"
    live.set("publish.slate", "back in five minutes")
    live.service.until(lambda: np.abs(live.preview() - before).mean() > 0.3, "other words on the slate", 10)
    live.service.post("panic", on=False)


def presets(live: Live) -> None:
    live.set("presets", [*PRESETS, {"name": "Noon", "prompt": "noon"}])
    live.service.post("preset", name="Noon")
    live.until_prompt("noon")


def level(live: Live) -> None:
    def lines_of(seed: int) -> int:
        before = len(live.service.said.splitlines())
        live.service.post("prompt", seed=seed)
        live.service.until(lambda: live.service.engine()["seed"] == seed, "a seed")
        return len(live.service.said.splitlines()) - before

    assert lines_of(31) > 0
    live.set("log.level", "error")
    seeds = iter(range(32, 1000))
    live.service.until(lambda: lines_of(next(seeds)) == 0, "silence")
    live.set("log.level", "info")
    live.service.until(lambda: lines_of(next(seeds)) > 0, "words again")


def enabled(live: Live) -> None:
    live.set("obs.enabled", False)
    live.until_obs("off")
    live.set("obs.enabled", True)
    live.until_obs("connected")


def required(live: Live) -> None:
    live.set("obs.required", True)
    live.obs.kill()
    live.until_obs("connecting")
    time.sleep(1)
    assert live.service.process.poll() is None, "it is required at the start only"
    live.obs.restart()
    live.until_obs("connected")
    live.set("obs.required", False)


def unreachable(key: str, value: Any) -> Callable[[Live], None]:
    def case(live: Live) -> None:
        right = yaml.safe_load(live.path.read_text(encoding="utf-8"))["obs"][key]
        live.set(f"obs.{key}", value)
        live.until_obs("refused" if key == "password" else "connecting")
        live.set(f"obs.{key}", right)
        live.until_obs("connected")

    return case


def timeout_s(live: Live) -> None:
    live.set("obs.timeout_s", 0.7)
    live.until_linked()
    live.obs.freeze()
    try:
        within = "within 0.7 s"
        live.service.until(lambda: within in live.service.status()["obs"]["detail"], within)
    finally:
        live.obs.thaw()
    live.until_obs("connected")
    live.set("obs.timeout_s", 5)


def rules(live: Live) -> None:
    live.set("obs.rules", [{"scene": "A", "prompt": "by its rule"}])
    live.until_prompt("by its rule")
    live.set("obs.rules", [])


def default(live: Live) -> None:
    live.set("obs.default", {"prompt": "of all scenes"})
    live.until_prompt("of all scenes")
    live.set("obs.default", None)


def prompt_text(live: Live) -> None:
    live.create("Asked", "text_ft2_source_v2", text="from a text source")
    live.set("obs.prompt_text", "Asked")
    live.until_prompt("from a text source")
    live.set("obs.prompt_text", None)


def custom_events(live: Live) -> None:
    live.set("obs.custom_events", False)
    live.until_linked()
    live.say(prompt="not heard")
    time.sleep(1)
    assert live.service.engine()["prompt"] != "not heard"
    live.set("obs.custom_events", True)
    live.until_linked()
    live.say(prompt="heard")
    live.until_prompt("heard")


def viewers(live: Live) -> None:
    live.say(viewer={"prompt": "not allowed yet", "name": "Ada"})
    live.service.until(lambda: "viewers" in live.service.status()["obs"]["note"], "a refusal")
    live.set("obs.viewers", {"approve": False, "cooldown_s": 0, "revert_s": 2})
    live.until_linked()
    before = live.service.engine()["prompt"]
    live.say(viewer={"prompt": "a wish of a viewer", "name": "Ada"})
    live.until_prompt("a wish of a viewer")
    live.until_prompt(before)
    live.set("obs.viewers", None)


def bypass_by_event(live: Live) -> None:
    live.say(bypass=True)
    live.service.until(lambda: "bypass_by_event" in live.service.status()["obs"]["note"], "a refusal")
    assert not live.service.status()["publish"]["bypass"]
    live.set("obs.bypass_by_event", True)
    live.until_linked()
    live.say(bypass=True)
    live.service.until(lambda: live.service.status()["publish"]["bypass"], "bypass")
    live.set("obs.bypass_by_event", False)
    live.service.post("bypass", on=False)


def preset_items(live: Live) -> None:
    number = live.create("Dusk", "color_source_v3")

    def switch(on: bool) -> None:
        asked = {"sceneName": "A", "sceneItemId": number, "sceneItemEnabled": on}
        live.obs.requests.call("SetSceneItemEnabled", asked)

    switch(False)
    live.set("obs.preset_items", True)
    live.until_linked()
    switch(True)
    live.service.until(lambda: live.service.status()["preset"] == "Dusk", "the preset of an item")
    live.set("obs.preset_items", False)


def preset_filters(live: Live) -> None:
    named = {"sourceName": "A colour", "filterName": "Dawn"}
    live.obs.requests.call("CreateSourceFilter", named | {"filterKind": "color_filter_v2"})
    live.obs.requests.call("SetSourceFilterEnabled", named | {"filterEnabled": False})
    live.set("obs.preset_filters", True)
    live.until_linked()
    live.obs.requests.call("SetSourceFilterEnabled", named | {"filterEnabled": True})
    live.service.until(lambda: live.service.status()["preset"] == "Dawn", "the preset of a filter")
    live.set("obs.preset_filters", False)


def status_text(live: Live) -> None:
    def text() -> str:
        found = live.obs.requests.call("GetInputSettings", {"inputName": "Told"})["inputSettings"]
        return str(found.get("text", ""))

    live.create("Told", "text_ft2_source_v2", text="nothing")
    live.set("obs.status_text", "Told")
    live.service.until(lambda: text().startswith("streamv2v: "), "the status in OBS")
    live.set("obs.status_text", None)
    live.service.until(lambda: text() == "streamv2v: ended", "its end")


def audio_sync(live: Live) -> None:
    def offset_ms() -> int:
        return int(live.obs.requests.call("GetInputAudioSyncOffset", {"inputName": "Mic"})["inputAudioSyncOffset"])

    live.create("Mic", "ffmpeg_source")  # a media source has sound, and needs no sound card
    live.service.until_on_air("TRANSLATED")
    live.set("obs.audio_sync", {"input": "Mic"})
    live.service.until(lambda: offset_ms() > 0, "the sound is held back")
    live.set("obs.audio_sync", None)
    live.service.until(lambda: offset_ms() == 0, "and no longer")


def stop_with_obs(live: Live) -> None:
    live.set("obs.stop_with_obs", True)
    live.until_linked()
    live.obs.stop()
    assert live.service.process.wait(15) == 0


CASES: dict[str, Callable[[Live], None]] = {
    "capture": capture,
    "model.style": style,
    "translator.prompt": of_the_engine("prompt", "a watercolor"),
    "translator.strength": of_the_engine("strength", 0.5),
    "translator.steps": of_the_engine("steps", 2),
    "translator.seed": of_the_engine("seed", 7),
    "publish.hold_s": hold_s,
    "publish.slate": slate,
    "presets": presets,
    "log.level": level,
    "obs.enabled": enabled,
    "obs.host": unreachable("host", "10.255.255.1"),
    "obs.port": unreachable("port", 9),
    "obs.password": unreachable("password", "wrong"),
    "obs.timeout_s": timeout_s,
    "obs.rules": rules,
    "obs.default": default,
    "obs.prompt_text": prompt_text,
    "obs.custom_events": custom_events,
    "obs.viewers": viewers,
    "obs.bypass_by_event": bypass_by_event,
    "obs.preset_items": preset_items,
    "obs.preset_filters": preset_filters,
    "obs.status_text": status_text,
    "obs.audio_sync": audio_sync,
    "obs.required": required,
    "obs.stop_with_obs": stop_with_obs,  # the last, since it ends the service
}


def test_each_reloadable_key_has_a_case_here() -> None:
    assert set(live_keys()) == set(CASES)


@pytest.fixture(scope="module")
def live(require: Require, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    require("obs", not obs_obstacle(), obs_obstacle())
    folder = tmp_path_factory.mktemp("live")
    path = folder / "mine.yaml"
    config = {
        "capture": {"kind": "pattern", "fps": 5},
        "model": {"name": "demo", "styles": {"ink": {"path": str(save_demo_lora(folder / "ink.safetensors"))}}},
        "translator": {"prompt": "a pencil sketch", "steps": 1},
        "publish": {"outputs": ["browser"], "hold_s": 3},
        "presets": PRESETS,
        "obs": {"enabled": True, "host": "127.0.0.1", "port": 4455, "password": PASSWORD, "timeout_s": 5},
    }
    path.write_text(yaml.safe_dump(config), encoding="utf-8")
    with real_obs() as obs, running_service(folder / "run", config=path) as service:
        service.until_on_air("TRANSLATED", 300)
        found = Live(service, obs, path)
        found.until_linked()
        yield found


@pytest.mark.parametrize("key", CASES)
def test_it_acts_while_running(live: Live, key: str) -> None:
    before = live.service.status()
    CASES[key](live)
    if key == "obs.stop_with_obs":
        return
    now = live.service.status()
    same = (now["engine_pid"], now["engine_restarts"]) == (before["engine_pid"], before["engine_restarts"])
    assert same, f"the engine was started anew\n{live.service.said[-3000:]}"
    assert now["notices"] == []
