"""Prompts of viewers over HTTP: what waits, and the streamer's word on it."""

from __future__ import annotations

from typing import Protocol

from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from streamv2v_obs.control.bodies import Body, read_body
from streamv2v_obs.control.openapi import Operation


class Viewers(Protocol):
    """The queue; from any thread. All but ``told`` raise ConfigError."""

    def told(self) -> dict[str, object]: ...
    def decide(self, number: int, approve: bool) -> None: ...
    def clear(self) -> None: ...


class ViewerBody(Body):
    """One of three: the number of a prompt that is approved, of one that is rejected, or that all are dropped."""

    approve: int | None = None
    reject: int | None = None
    clear: bool | None = None


def viewer_operations(viewers: Viewers) -> list[Operation]:
    """``GET /v1/viewers`` and ``POST /v1/viewers``."""

    async def waiting(request: Request) -> Response:
        """Prompts of viewers: those that wait for the streamer, those that wait for their turn, and the one shown."""
        return JSONResponse(viewers.told())

    async def decide(request: Request) -> Response:
        """Approve one, reject one, or drop all and bring the prompt before back."""
        body = await read_body(request, ViewerBody)
        match body.model_dump(exclude_none=True):
            case {"approve": int(number), **others} if not others:
                await run_in_threadpool(viewers.decide, number, True)
            case {"reject": int(number), **others} if not others:
                await run_in_threadpool(viewers.decide, number, False)
            case {"clear": True, **others} if not others:
                await run_in_threadpool(viewers.clear)
            case _:
                raise HTTPException(422, "allowed: exactly one of approve, reject, clear: true")
        return JSONResponse({"accepted": body.model_dump(exclude_none=True)})

    return [Operation("GET", "/v1/viewers", waiting), Operation("POST", "/v1/viewers", decide, body=ViewerBody)]
