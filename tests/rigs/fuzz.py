"""Requests made up from the API's own OpenAPI document, with and without a right; see ``fuzz``.

``python -m tests.rigs.fuzz 10000 --out tests/rigs/fuzzed.json`` sends at least so many to a server of its own, and
writes down what came of it. The service behind it is a fake, its settings file and all that is written there is real.
"""

from __future__ import annotations

import argparse
import collections
import itertools
import json
import os
import subprocess
import tempfile
from dataclasses import dataclass, field
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path
from typing import Any

import httpx
import hypothesis
import schemathesis
from hypothesis import strategies as st
from schemathesis.core.result import Ok
from schemathesis.generation import GenerationMode

import streamv2v_obs
from streamv2v_obs.control.server import ControlServer
from streamv2v_obs.in_force import InForce
from streamv2v_obs.settings import ControlSettings, Settings
from streamv2v_obs.settings_file import SettingsFile
from tests.rigs.fake_service import FakeService

OPEN_TO_ALL = ("/healthz", "/readyz")
CONFIG = """\
model:
  styles: {ink: {path: ink.safetensors}}
presets: # mine
  - {name: Comic, prompt: a comic book panel, strength: 0.5}
  - {name: Ink, prompt: ink on paper, style: ink, seed: 4}
obs:
  rules:
    - {scene: "Game *", preset: Comic} # the game
"""


@dataclass
class Fuzzed:
    """How many requests were sent by whom, and with which codes they were answered."""

    by: dict[str, collections.Counter[int]] = field(default_factory=dict)

    def note(self, who: str, code: int) -> None:
        """One more answer."""
        self.by.setdefault(who, collections.Counter())[code] += 1

    @property
    def codes(self) -> collections.Counter[int]:
        """Answers by code."""
        return sum(self.by.values(), collections.Counter())

    @property
    def requests(self) -> int:
        """All of them."""
        return sum(self.codes.values())


def intruders(server: ControlServer) -> dict[str, dict[str, str]]:
    """Headers of those who must not get in."""
    token = {"authorization": f"Bearer {server.auth.token}"}
    return {
        "nobody": {},
        "a wrong token": {"authorization": f"Bearer {server.auth.token[:-1]}~"},
        "a foreign host": token | {"host": f"evil.example:{server.auth.port}"},
        "a foreign origin": token | {"origin": "http://evil.example"},
        "another page of this host": {"origin": server.address, "cookie": f"{server.auth.cookie}=made-up"},
    }


def fuzz(server: ControlServer, service: FakeService, requests: int) -> Fuzzed:
    """Send at least ``requests`` requests, one half of them by intruders; raises on the first that goes wrong.

    What must hold: an answer that the document allows, in the form that it describes; no crash; no secret and no
    path of this machine in it; and without a right, nothing but a refusal.
    """
    for pictures in (service.browser, service.input_view):
        if pictures is not None:
            pictures.close()  # so that a stream, which would go on for ever, ends at once
    secrets = [server.auth.token, server.auth.stream_key, str(Path(streamv2v_obs.__file__).parent), "Traceback"]
    told = Fuzzed()
    token = {"authorization": f"Bearer {server.auth.token}"}
    described = (
        httpx.get(f"{server.address}/v1/openapi.json", headers=token, trust_env=False).raise_for_status().json()
    )
    del described["security"]  # or it would leave the token out of a part of the owner's requests, too
    schema = schemathesis.openapi.from_dict(described)
    schema.config.base_url = server.address
    # 503 is one of the answers that the document names, and any other code of a crash is not. A value may have the
    # right form and still be wrong.
    schemathesis.checks.load_all_checks()
    names = ["not_a_server_error", "positive_data_acceptance"]
    operations = [found.ok() for found in schema.get_all_operations() if isinstance(found, Ok)]
    quiet = hypothesis.settings(database=None, deadline=None, suppress_health_check=list(hypothesis.HealthCheck))
    varied = [operation for operation in operations if operation.body or operation.query]
    turns = itertools.cycle(intruders(server).items())

    def answered(case: schemathesis.Case[Any], unwanted: list[Any]) -> None:
        for who, headers in (("the owner", token), next(turns)):
            answer = case.call(base_url=server.address, headers=headers, timeout=10)
            told.note(who, answer.status_code)
            text = answer.content.decode("utf-8", "replace")
            # A page of elsewhere may not write; what it reads, its browser keeps from it, as there is no CORS.
            reads = who == "a foreign origin" and case.method == "GET"
            if who == "the owner":
                assert answer.status_code not in (401, 403), (case, text)
                case.validate_response(answer, excluded_checks=unwanted)
            elif reads:
                assert "access-control-allow-origin" not in answer.headers
            elif case.path not in OPEN_TO_ALL or who == "a foreign host":
                assert answer.status_code in (401, 403), (who, case, answer.status_code)
            if case.path != "/v1/link" or answer.status_code >= 400:
                assert not [secret for secret in secrets if secret in text], (who, case, text)

    # In rounds: of an operation with few cases hypothesis makes fewer than it is asked for.
    rounds = itertools.count()
    while (left := requests - told.requests) > 0:
        seed = next(rounds)
        each = max(1, -(-left // (2 * 2 * len(varied))))  # with a right and without, as documented and not
        for operation in operations:
            # What a query says beyond what is known is not read.
            names_here = names if operation.body else [*names, "negative_data_rejection"]
            unwanted: list[Any] = schemathesis.checks.CHECKS.get_by_names(names_here)
            # Of one without body and query there is one request only, and nothing that could be wrong with it.
            for mode in ("positive", "negative") if operation in varied else ("positive",):
                given = hypothesis.given(operation.as_strategy(GenerationMode(mode)), st.just(unwanted))
                hypothesis.seed(seed)(hypothesis.settings(quiet, max_examples=each)(given(answered)))()
    return told


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("requests", type=int, nargs="?", default=10_000)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        os.environ |= {"STREAMV2V_RUNTIME_DIR": f"{folder}/run", "XDG_STATE_HOME": f"{folder}/state"}
        service = FakeService()
        config = Path(folder, "mine.yaml")
        config.write_text(CONFIG, encoding="utf-8")
        file = SettingsFile(config, ())
        service.setup = InForce(file.load(), file, lambda found, settings: None)
        server = ControlServer(ControlSettings(port=0), service)
        server.start()
        try:
            found = fuzz(server, service, given.requests)
        finally:
            server.stop()
            server.join(5)
        assert isinstance(file.load(), Settings), "what was written there loads"
        assert "presets: # mine" in config.read_text(encoding="utf-8")
    said = {
        "created_utc": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "commit": _git("rev-parse", "HEAD"),
        "dirty": bool(_git("status", "--porcelain")),
        "schemathesis": version("schemathesis"),
        "requests": found.requests,
        "went_wrong": 0,
        "answers_by_code": {who: dict(sorted(codes.items())) for who, codes in found.by.items()},
    }
    print(json.dumps(said, indent=1))
    if given.out is not None:
        given.out.write_text(json.dumps(said, indent=1) + "\n", encoding="utf-8")


def _git(*words: str) -> str:
    root = Path(__file__).parents[2]
    return subprocess.run(["git", *words], cwd=root, capture_output=True, text=True, check=True).stdout.strip()


if __name__ == "__main__":
    main()
