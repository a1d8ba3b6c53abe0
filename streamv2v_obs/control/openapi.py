"""The OpenAPI document of the API, made from the very table that its routes are made from."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from pydantic import TypeAdapter
from pydantic.json_schema import models_json_schema
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from streamv2v_obs import __version__
from streamv2v_obs.control.bodies import Body
from streamv2v_obs.control.guard import VIEW_PATHS

Endpoint: TypeAlias = Callable[[Request], Awaitable[Response]]

_REF = "#/components/schemas/{model}"
_SAID = {
    401: "no valid token, cookie or key",
    403: "a foreign host or origin, or a key that opens less",
    409: "not so now; the text says what has to be done first",
    413: "the body is too long; the text says how long it may be",
    415: "the body is not application/json",
    422: "a value that is not allowed; the text names key, value and what is allowed",
    503: "not at this moment; the text says why",
}


@dataclass(frozen=True)
class Operation:
    """One thing that can be asked of the API: its route, and what the document says of it.

    ``answer`` is a type to describe as JSON, or a media type; ``query`` are JSON schemas by name; ``refusals`` are
    the error codes beside those that every operation of its kind can answer with.
    """

    method: Literal["GET", "POST"]
    path: str
    endpoint: Endpoint
    answer: Any = "application/json"
    body: type[Body] | None = None
    query: Mapping[str, dict[str, Any]] = field(default_factory=dict)
    refusals: Sequence[int] = ()
    success: int = 200

    def route(self) -> Route:
        """The route of Starlette's."""
        return Route(self.path, self.endpoint, methods=[self.method])

    @property
    def name(self) -> str:
        """Its operationId."""
        return f"{self.method.lower()}_{self.path.removeprefix('/v1').strip('/').replace('.', '_')}"


def document(operations: Sequence[Operation]) -> dict[str, Any]:
    """OpenAPI 3.1 of all ``operations``."""
    models = [(o.body, "validation") for o in operations if o.body is not None]
    _, schemas = models_json_schema(models, ref_template=_REF)  # type: ignore[arg-type]
    components = dict(schemas.get("$defs", {}))
    components["Error"] = {"type": "object", "properties": {"error": {"type": "string"}}, "required": ["error"]}
    paths: dict[str, Any] = {}
    for operation in operations:
        paths.setdefault(operation.path, {})[operation.method.lower()] = _described(operation, components)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "streamv2v-obs",
            "version": __version__,
            "description": "Steers the running service. Beside what is listed here, the WebSocket /v1/events sends "
            "ServiceStatus as JSON text twice a second, and with ?preview=output the newest picture as a binary "
            "JPEG message.",
        },
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{"token": []}],
    }


def _described(operation: Operation, components: dict[str, Any]) -> dict[str, Any]:
    guarded = operation.path.startswith("/v1/") or operation.path in VIEW_PATHS
    refusals = {403, *operation.refusals} | ({401} if guarded else set())
    found: dict[str, Any] = {
        "operationId": operation.name,
        "summary": (inspect.getdoc(operation.endpoint) or "").partition("\n")[0],
    }
    if not guarded:
        found["security"] = []
    if operation.query:
        refusals.add(422)
        found["parameters"] = [
            {"name": name, "in": "query", "required": False, "schema": schema}
            for name, schema in operation.query.items()
        ]
    if operation.body is not None:
        refusals |= {413, 415, 422}
        schema = {"$ref": _REF.format(model=operation.body.__name__)}
        found["requestBody"] = {"required": True, "content": {"application/json": {"schema": schema}}}
    if isinstance(operation.answer, str):
        content: dict[str, Any] = {operation.answer: {}}
    else:
        answer = TypeAdapter(operation.answer).json_schema(ref_template=_REF, mode="serialization")
        components.update(answer.pop("$defs", {}))
        content = {"application/json": {"schema": answer}}
    error = {"application/json": {"schema": {"$ref": _REF.format(model="Error")}}}
    found["responses"] = {str(operation.success): {"description": "done", "content": content}} | {
        str(code): {"description": _SAID[code], "content": error} for code in sorted(refusals)
    }
    return found
