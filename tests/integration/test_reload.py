"""The running service and its settings file: edited by hand, edited through the API, broken, and taken up."""

from __future__ import annotations

import itertools
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml

from tests.rigs.service import RunningService, running_service

pytestmark = pytest.mark.timeout(900)  # three engines are loaded

BEGINNING = """\
# Mine.
capture: {kind: pattern, fps: 10}
model: {name: demo}
translator: {prompt: a pencil sketch, steps: 1} # soft
publish: {outputs: [browser]}
obs:
  rules:
    # the game
    - {scene: Game, prompt: a comic}
"""


class Editor:
    """Somebody who edits the file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.write_text(BEGINNING, encoding="utf-8")

    def set(self, key: str, value: Any) -> None:
        tree = yaml.safe_load(self.path.read_text(encoding="utf-8"))
        node = tree
        *above, last = key.split(".")
        for name in above:
            node = node.setdefault(name, {})
        node[last] = value
        self.path.write_text(yaml.safe_dump(tree), encoding="utf-8")


def says(service: RunningService, part: str) -> bool:
    return any(part in notice for notice in service.status()["notices"])


def test_what_is_edited_is_taken_up_while_it_runs(tmp_path: Path) -> None:
    file = Editor(tmp_path / "mine.yaml")
    with running_service(tmp_path / "run", config=file.path) as service:
        service.until_on_air("TRANSLATED", 300)
        first_engine = service.status()["engine_pid"]

        # By hand, by the API: what the file does not say anything new of stays as it was chosen.
        service.post("prompt", prompt="a blueprint")
        service.until(lambda: service.engine()["prompt"] == "a blueprint", "the prompt by hand")
        file.set("translator.seed", 7)
        service.until(lambda: service.engine()["seed"] == 7, "the seed")
        assert service.engine()["prompt"] == "a blueprint"
        file.set("translator.prompt", "neon lights")
        service.until(lambda: service.engine()["prompt"] == "neon lights", "the prompt")
        file.set("translator.strength", 0.5)
        service.until(lambda: service.engine()["strength"] == 0.5, "the strength")
        file.set("capture", {"kind": "pattern", "fps": 10, "width": 320, "height": 320})
        service.until(lambda: "320" in service.engine()["source"], "the source")
        file.set("presets", [{"name": "Dusk", "prompt": "dusk"}])
        service.until(lambda: bool(service.client().get("/v1/presets").json()["presets"]), "a preset")
        service.post("preset", name="Dusk")
        service.until(lambda: service.engine()["prompt"] == "dusk", "the preset")
        file.set("log.level", "error")
        seeds = itertools.count(8)

        def silent() -> bool:
            lines, seed = len(service.said.splitlines()), next(seeds)
            service.post("prompt", seed=seed)
            service.until(lambda: service.engine()["seed"] == seed, "a seed")
            return len(service.said.splitlines()) == lines

        service.until(silent, "neither the service nor the engine says more than errors")
        assert silent()
        lines = len(service.said.splitlines())
        file.set("log.level", "info")

        def speaks() -> bool:
            service.post("prompt", seed=7)
            return len(service.said.splitlines()) > lines

        service.until(speaks, "words again")
        file.set("obs", {"enabled": True, "port": 9, "rules": [{"scene": "A"}]})
        service.until(lambda: service.status()["obs"]["state"] == "connecting", "the link to OBS")
        file.set("obs.enabled", False)
        service.until(lambda: service.status()["obs"]["state"] == "off", "its end")
        service.until(lambda: says(service, "obs.enabled is false"), "a notice")
        assert service.status()["engine_pid"] == first_engine

        # Wrong: said, and nothing changes.
        right = file.path.read_text(encoding="utf-8")
        file.path.write_text(right + "\nnonsense: 1\n", encoding="utf-8")
        service.until(lambda: says(service, "unknown key nonsense"), "the mistake")
        assert service.engine()["prompt"] == "dusk"
        file.path.write_text(right, encoding="utf-8")
        service.until(lambda: not says(service, "nonsense"), "the end of it")

        # What a running service cannot take up is said.
        file.set("publish.fps", 20)
        service.until(lambda: says(service, "start the service anew for publish.fps"), "the notice")
        file.set("publish.hold_s", 0.5)

        # A new engine, without a picture from before it being lost or a restart being counted.
        file.set("translator.steps", 2)
        service.until(lambda: service.engine().get("steps") == 2, "the steps")
        assert service.status()["engine_pid"] == first_engine
        file.set("translator.bank", {"kind": "queue"})
        service.until(lambda: service.engine().get("bank") == "queue", "another bank", 300)
        status = service.status()
        assert status["engine_pid"] != first_engine
        assert status["engine_restarts"] == 0
        assert (status["engine"]["prompt"], status["engine"]["seed"]) == ("dusk", 7)
        service.until_on_air("TRANSLATED", 300)

        # A model that cannot be had: the one before goes on.
        file.set("model.name", str(tmp_path / "nowhere"))
        service.until(lambda: says(service, "goes on with the ones before"), "the refusal", 300)
        # An engine that is refused at once is gone before its predecessor's last picture has grown old.
        service.until(lambda: service.engine().get("model") == "demo", "the engine before", 300)
        service.until_on_air("TRANSLATED", 300)
        assert "Traceback" not in service.said
        assert service.stop() == 0


def test_settings_that_kill_every_engine_are_given_up_and_others_need_not_wait(tmp_path: Path) -> None:
    file = Editor(tmp_path / "mine.yaml")
    with running_service(tmp_path / "run", config=file.path) as service:
        service.until_on_air("TRANSLATED", 300)
        killed = {service.status()["engine_pid"]}

        def kill() -> None:
            pid = service.status()["engine_pid"]
            if pid is not None and pid not in killed:
                with suppress(psutil.NoSuchProcess):
                    psutil.Process(pid).kill()
                    killed.add(pid)

        def given_up() -> bool:
            if not says(service, "goes on with the ones before"):
                kill()
                return False
            return True

        file.set("translator.bank", {"kind": "queue"})
        service.until(given_up, "the refusal")
        assert len(killed) == 3, "the first engine, and two with these settings"
        service.until(lambda: service.engine().get("bank") == "dyme", "the engine with the settings before", 60)
        service.until_on_air("TRANSLATED", 60)

        def waits() -> bool:
            kill()
            return bool(service.status()["engine_state"] == "waiting")

        service.until(waits, "the engine is left alone for a while", 60)
        file.set("translator.bank", {"kind": "off"})
        service.until(lambda: service.engine().get("bank") == "off", "an engine at once", 30)


def test_rules_by_the_api_are_in_the_file_and_steps_are_chosen(tmp_path: Path) -> None:
    file = Editor(tmp_path / "mine.yaml")
    with running_service(tmp_path / "run", config=file.path) as service:
        service.until_on_air("TRANSLATED", 300)
        answer = service.client().get("/v1/rules").json()
        assert answer == {"rules": [{"scene": "Game", "prompt": "a comic"}], "file": str(file.path)}
        rules = [*answer["rules"], {"scene": "Chat", "preset": None, "bank": "reset"}]
        service.post("rules", rules=rules)
        expected = BEGINNING + "    - scene: Chat\n      bank: reset\n"
        assert file.path.read_text(encoding="utf-8") == expected
        assert service.client().get("/v1/rules").json()["rules"][1] == {"scene": "Chat", "bank": "reset"}
        wrong = service.client().post("/v1/rules", json={"rules": [{"scene": "A", "preset": "none such"}]})
        assert wrong.status_code == 422
        assert "none such" in wrong.json()["error"]
        assert file.path.read_text(encoding="utf-8") == expected

        chosen = service.client().post("/v1/engine", json={"steps": 2})
        assert chosen.json() == {"accepted": {"steps": 2}, "restarts_engine": False}
        service.until(lambda: service.engine().get("steps") == 2, "the steps", 300)
        assert service.client().get("/v1/choices").json()["steps"] == 2
        assert service.client().post("/v1/engine", json={"model": "/etc/passwd"}).status_code == 422
        lines = service.client().get("/v1/log").json()["lines"]
        assert any("translating with demo" in line["text"] for line in lines), "the engine's own lines"
        time.sleep(1)
        assert file.path.read_text(encoding="utf-8") == expected
        assert service.stop() == 0
