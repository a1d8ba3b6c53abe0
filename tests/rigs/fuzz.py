"""Requests made up from the API's own OpenAPI document, with and without the token; see ``fuzz``.

``python -m tests.rigs.fuzz 10000`` sends so many to a server of its own, in front of a fake service.
"""

from __future__ import annotations

import collections
import os
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import hypothesis
import schemathesis
from hypothesis import strategies as st
from schemathesis.core.result import Ok
from schemathesis.generation import GenerationMode

import streamv2v_obs
from streamv2v_obs.control.server import ControlServer
from streamv2v_obs.settings import ControlSettings
from tests.rigs.fake_service import FakeService

OPEN_TO_ALL = ("/healthz", "/readyz")


@dataclass
class Fuzzed:
    """How many requests were sent, and with which codes they were answered."""

    codes: collections.Counter[int] = field(default_factory=collections.Counter)

    @property
    def requests(self) -> int:
        """All of them."""
        return sum(self.codes.values())


def fuzz(server: ControlServer, service: FakeService, requests: int) -> Fuzzed:
    """Send about ``requests`` requests, one half of them without any right; raises on the first that goes wrong.

    What must hold: an answer that the document allows, in the form that it describes; no crash; no secret and no
    path of this machine in it; and without a right, nothing but a refusal.
    """
    service.browser.close()  # so that a stream, which would go on for ever, ends at once
    secrets = [server.auth.token, server.auth.stream_key, str(Path(streamv2v_obs.__file__).parent), "Traceback"]
    told = Fuzzed()
    token = {"authorization": f"Bearer {server.auth.token}"}
    schema = schemathesis.openapi.from_url(f"{server.address}/v1/openapi.json", headers=token)
    schema.config.base_url = server.address
    # 503 is one of the answers that the document names, and any other code of a crash is not. A value may have the
    # right form and still be wrong. And without a right everything is asked anyway.
    schemathesis.checks.load_all_checks()
    names = ["not_a_server_error", "positive_data_acceptance", "ignored_auth"]
    operations = [found.ok() for found in schema.get_all_operations() if isinstance(found, Ok)]
    quiet = hypothesis.settings(
        database=None, deadline=None, derandomize=True, suppress_health_check=list(hypothesis.HealthCheck)
    )
    varied = [operation for operation in operations if operation.body or operation.query]
    each = max(1, requests // (2 * 2 * len(varied)))  # with and without the token, as documented and not
    for operation in operations:
        # What a query says beyond what is known is not read.
        names_here = names if operation.body else [*names, "negative_data_rejection"]
        unwanted: list[Any] = schemathesis.checks.CHECKS.get_by_names(names_here)

        def ask(case: schemathesis.Case[Any], unwanted: list[Any]) -> None:
            for headers in (token, {}):
                answer = case.call(base_url=server.address, headers=headers, timeout=10)
                told.codes[answer.status_code] += 1
                text = answer.content.decode("utf-8", "replace")
                if case.path != "/v1/link" or not headers:
                    assert not [secret for secret in secrets if secret in text], (case, text)
                if headers:
                    case.validate_response(answer, excluded_checks=unwanted)
                elif case.path not in OPEN_TO_ALL:
                    assert answer.status_code in (401, 403), (case, answer.status_code)

        # Of an operation without body and query there is one request only, and nothing that could be wrong with it.
        for mode in ("positive", "negative") if operation in varied else ("positive",):
            given = hypothesis.given(operation.as_strategy(GenerationMode(mode)), st.just(unwanted))
            hypothesis.settings(quiet, max_examples=each)(given(ask))()
    return told


def main() -> None:
    """The command."""
    requests = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000
    with tempfile.TemporaryDirectory() as folder:
        os.environ |= {"STREAMV2V_RUNTIME_DIR": f"{folder}/run", "XDG_STATE_HOME": f"{folder}/state"}
        service = FakeService()
        server = ControlServer(ControlSettings(port=0), service)
        server.start()
        try:
            found = fuzz(server, service, requests)
        finally:
            server.stop()
            server.join(5)
    print(f"{found.requests} requests, none went wrong; answers by code: {dict(sorted(found.codes.items()))}")


if __name__ == "__main__":
    main()
