"""The running service as the command line sees it."""

from __future__ import annotations

import json
from typing import Any

import httpx

from streamv2v_obs.control.endpoint import Endpoint
from streamv2v_obs.errors import ConfigError, NotRunning, StreamV2VError

_PATIENCE_S = 5.0


class ServiceClient:
    """Asks one service; raises NotRunning if it does not answer and ConfigError with its own line if it refuses."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint

    def get(self, path: str) -> dict[str, Any]:
        """The JSON object at ``path``."""
        return self._ask("GET", path, None)

    def post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """The JSON answer to ``body``."""
        return self._ask("POST", path, body)

    def _ask(self, method: str, path: str, body: dict[str, Any] | None) -> dict[str, Any]:
        headers = {"authorization": f"Bearer {self._endpoint.token}"}
        where = f"the service (process {self._endpoint.pid}) at {self._endpoint.address}"
        try:
            # Without the environment's proxies: the token is for this machine.
            with httpx.Client(trust_env=False, timeout=_PATIENCE_S) as client:
                answer = client.request(method, self._endpoint.address + path, headers=headers, json=body)
            found = answer.json()
        except (httpx.HTTPError, json.JSONDecodeError) as error:
            raise NotRunning(
                f"{where} does not answer ({type(error).__name__}); see streamv2v-obs logs, or end it with: "
                "streamv2v-obs stop"
            ) from error
        if answer.is_success and isinstance(found, dict):
            return found
        text = found.get("error") if isinstance(found, dict) else None
        if answer.is_client_error and text:
            raise ConfigError(str(text))
        raise StreamV2VError(f"{where} answered {answer.status_code}: {text or answer.text[:200]}")
