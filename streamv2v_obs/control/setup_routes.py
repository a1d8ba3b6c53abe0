"""What the service is set up with, over HTTP: scene rules, the model, the steps, and what there is to choose from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Protocol

from pydantic import Field
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from typing_extensions import TypedDict

from streamv2v_obs.control.bodies import Body, read_body
from streamv2v_obs.control.openapi import Operation
from streamv2v_obs.reload import Plan
from streamv2v_obs.settings import SceneRule, Settings

_RULES_LIMIT = 256 * 1024


class Setup(Protocol):
    """The settings in force, ``in_force.InForce``. From any thread; ``set_rules`` may take seconds."""

    @property
    def current(self) -> Settings: ...
    @property
    def rules_file(self) -> str | None: ...
    def model_names(self) -> Sequence[str]: ...
    def set_rules(self, rules: Sequence[SceneRule]) -> None: ...
    def choose(self, chosen: Mapping[tuple[str, str], Any]) -> Plan: ...


class RulesBody(Body):
    """All scene rules, in their order; those that are left out are removed."""

    rules: Annotated[list[SceneRule], Field(max_length=200)]


class EngineBody(Body):
    """What the engine is started anew for; what is left out stays as it is."""

    model: Annotated[str, Field(min_length=1, max_length=500)] | None = None
    steps: Annotated[int, Field(ge=1, le=8)] | None = None


class RulesAnswer(TypedDict):
    """The rules in force, and the file that they are kept in (null: they cannot be edited)."""

    rules: list[dict[str, Any]]
    file: str | None


class ChoicesAnswer(TypedDict):
    """What may be chosen, and what is in force."""

    models: list[str]
    model: str
    styles: list[str]
    steps: int
    presets: list[str]


def setup_operations(setup: Setup) -> list[Operation]:
    """``/v1/rules``, ``/v1/choices`` and ``/v1/engine``."""

    async def rules(request: Request) -> Response:
        """What happens when which scene of OBS goes on air."""
        # What a rule sets wins over its preset even where it is the default.
        found = [rule.model_dump(mode="json", exclude_unset=True) for rule in setup.current.obs.rules]
        return JSONResponse({"rules": found, "file": setup.rules_file})

    async def set_rules(request: Request) -> Response:
        """Write other rules into the settings file, its comments kept, and apply them."""
        body = await read_body(request, RulesBody, _RULES_LIMIT)
        await run_in_threadpool(setup.set_rules, body.rules)
        return JSONResponse({"accepted": {"rules": len(body.rules)}})

    async def choices(request: Request) -> Response:
        """Models, styles and steps."""
        settings = setup.current
        answer: ChoicesAnswer = {
            "models": list(await run_in_threadpool(setup.model_names)),
            "model": settings.model.name,
            "styles": list(settings.model.styles),
            "steps": settings.translator.steps,
            "presets": [preset.name for preset in settings.presets],
        }
        return JSONResponse(answer)

    async def engine(request: Request) -> Response:
        """Another model or number of steps; the engine is started anew, and the last picture held meanwhile."""
        body = await read_body(request, EngineBody)
        chosen: dict[tuple[str, str], Any] = {}
        if body.model is not None:
            names = await run_in_threadpool(setup.model_names)
            # Any other one would have this process read a file, or fetch a repository, that a request names.
            if body.model not in names:
                raise HTTPException(422, f"model = {body.model[:100]!r}: allowed: {', '.join(names)}")
            chosen["model", "name"] = body.model
        if body.steps is not None:
            chosen["translator", "steps"] = body.steps
        if not chosen:
            raise HTTPException(422, f"nothing to change; allowed: {', '.join(EngineBody.model_fields)}")
        found = await run_in_threadpool(setup.choose, chosen)
        accepted = body.model_dump(exclude_none=True)
        return JSONResponse({"accepted": accepted, "restarts_engine": bool(found.engine)})

    return [
        Operation("GET", "/v1/rules", rules, answer=RulesAnswer),
        Operation("POST", "/v1/rules", set_rules, body=RulesBody),
        Operation("GET", "/v1/choices", choices, answer=ChoicesAnswer),
        Operation("POST", "/v1/engine", engine, body=EngineBody),
    ]
