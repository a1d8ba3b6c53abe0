"""The presets over HTTP: what there is, and another one in force."""

from __future__ import annotations

import logging
from typing import Annotated, Literal, Protocol

from pydantic import BeforeValidator, Field
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from streamv2v_obs.commands import Change
from streamv2v_obs.control.bodies import Body, read_body
from streamv2v_obs.control.openapi import Operation
from streamv2v_obs.presets import Presets

log = logging.getLogger(__name__)


class ServiceWithPresets(Protocol):
    """What these routes need of the service."""

    @property
    def presets(self) -> Presets: ...
    def apply(self, change: Change) -> None: ...


def _no_boolean(value: object) -> object:
    # true equals 1, which is all that a Literal asks.
    if isinstance(value, bool):
        raise ValueError("allowed: 1 or -1")
    return value


class PresetBody(Body):
    """Which preset, said in one of three ways."""

    name: str | None = Field(None, max_length=100)
    number: int | None = None
    step: Annotated[Literal[1, -1], BeforeValidator(_no_boolean)] | None = None


def preset_operations(service: ServiceWithPresets) -> list[Operation]:
    """``GET /v1/presets`` and ``POST /v1/preset``."""

    async def presets(request: Request) -> Response:
        """All of them, in order, and the name of the one in force."""
        found = [preset.model_dump() for preset in service.presets.all]
        return JSONResponse({"presets": found, "current": service.presets.current})

    async def preset(request: Request) -> Response:
        """Put one in force, by its name, its number (from 1) or a step from the last one."""
        body = await read_body(request, PresetBody)
        match body.model_dump(exclude_none=True):
            case {"name": str(name), **others} if not others:
                change = service.presets.named(name)
            case {"number": int(number), **others} if not others:
                change = service.presets.numbered(number)
            case {"step": int(step), **others} if not others:
                change = service.presets.stepped(step)
            case _:
                raise HTTPException(422, "allowed: exactly one of name, number, step")
        log.info("preset %r", change.preset)
        await run_in_threadpool(service.apply, change)
        return JSONResponse({"accepted": {"preset": change.preset}})

    return [Operation("GET", "/v1/presets", presets), Operation("POST", "/v1/preset", preset, body=PresetBody)]
