"""The HTTP API of the running service, for the command line, the panel and an OBS browser source."""

from __future__ import annotations

import logging
import threading
from typing import Any, Protocol

from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import BaseRoute, Route, WebSocketRoute

from streamv2v_obs.commands import Change
from streamv2v_obs.control.auth import LINK_LIFE_S, Auth, Right
from streamv2v_obs.control.bodies import BankBody, Body, EmptyBody, PromptBody, SwitchBody, read_body
from streamv2v_obs.control.guard import Guard, refusal
from streamv2v_obs.control.lan import lan_address
from streamv2v_obs.control.live import Live
from streamv2v_obs.control.openapi import Operation, document
from streamv2v_obs.control.pages import pages
from streamv2v_obs.control.pictures import Pictures, Viewers
from streamv2v_obs.control.preset_routes import preset_operations
from streamv2v_obs.control.setup_routes import Setup, setup_operations
from streamv2v_obs.control.viewer_routes import Viewers as ViewerQueue
from streamv2v_obs.control.viewer_routes import viewer_operations
from streamv2v_obs.control.views import Views
from streamv2v_obs.errors import ConfigError, StreamV2VError
from streamv2v_obs.presets import Presets
from streamv2v_obs.settings import Settings
from streamv2v_obs.stats import ServiceStatus

log = logging.getLogger(__name__)

_VIEW = {"view": {"type": "string", "enum": ["output", "input"], "default": "output"}}


class ServiceLike(Protocol):
    """What the API needs of the service. Every method returns at once and may be called from any thread."""

    @property
    def settings(self) -> Settings: ...
    @property
    def setup(self) -> Setup: ...
    @property
    def presets(self) -> Presets: ...
    @property
    def browser(self) -> Pictures: ...
    @property
    def input_view(self) -> Pictures | None: ...
    @property
    def watches_input(self) -> bool: ...
    @property
    def viewers(self) -> ViewerQueue: ...
    def status(self) -> ServiceStatus: ...
    def apply(self, change: Change) -> None: ...
    def set_bypass(self, on: bool) -> None: ...
    def set_panic(self, on: bool) -> None: ...
    def watch_input(self, on: bool) -> None: ...
    def stop(self) -> None: ...


class Api:
    """The routes, each a method; those that only tell the status are in ``views``."""

    def __init__(
        self, service: ServiceLike, auth: Auth, address: str, stopping: threading.Event, views: Views
    ) -> None:
        self._service = service
        self._auth = auth
        self._address = address
        self._views = views
        self._viewers = Viewers(stopping)
        self._live = Live(views.status_json, lambda: service.browser, stopping)

    def operations(self) -> list[Operation]:
        """All that is in the OpenAPI document."""
        return [
            *self._views.operations(),
            Operation("GET", "/v1/openapi.json", self.openapi),
            Operation("GET", "/v1/link", self.link),
            Operation("GET", "/v1/preview", self.preview, "image/jpeg", query=_VIEW, refusals=(409, 503)),
            Operation("GET", "/v1/stream", self.stream, "multipart/x-mixed-replace", query=_VIEW, refusals=(409, 503)),
            Operation("POST", "/v1/prompt", self.prompt, body=PromptBody),
            Operation("POST", "/v1/bank", self.bank, body=BankBody),
            Operation("POST", "/v1/bypass", self.bypass, body=SwitchBody),
            Operation("POST", "/v1/panic", self.panic, body=SwitchBody),
            Operation("POST", "/v1/input", self.input, body=SwitchBody),
            Operation("POST", "/v1/stop", self.stop, body=EmptyBody, success=202),
            *preset_operations(self._service),
            *setup_operations(self._service.setup),
            *viewer_operations(self._service.viewers),
        ]

    def routes(self) -> list[BaseRoute]:
        """All of them."""
        return [
            *(operation.route() for operation in self.operations()),
            WebSocketRoute("/v1/events", self._live.events),
            Route("/open", self.open, methods=["GET"]),
            *pages(),
        ]

    async def openapi(self, request: Request) -> Response:
        """The OpenAPI document."""
        return JSONResponse(document(self.operations()))

    async def open(self, request: Request) -> Response:
        """A one-time link becomes a browser's session."""
        # A look ahead by a browser or a chat program must not use the link up.
        ahead = request.method != "GET" or "prefetch" in request.headers.get("sec-purpose", "")
        session = None if ahead else self._auth.redeem(request.query_params.get("key", ""))
        if session is None:
            text = "This link was used before or is too old. Get a new one with: streamv2v-obs open\n"
            return PlainTextResponse(text, 403)
        response = RedirectResponse("/", 303)
        response.set_cookie(self._auth.cookie, session, path="/", httponly=True, samesite="strict")
        return response

    async def link(self, request: Request) -> Response:
        """Addresses to open: the panel (once), the page and the stream for OBS (lasting, view only)."""
        key = self._auth.stream_key
        found = {
            "panel": f"{self._address}/open?key={self._auth.new_link_key()}",
            "panel_life_s": LINK_LIFE_S,
            "view": f"{self._address}/view?key={key}",
            "stream": f"{self._address}/v1/stream?key={key}",
        }
        settings = self._service.settings.control
        if settings.lan and (address := lan_address(settings.host)):
            found["panel_lan"] = f"http://{address}:{self._auth.port}/open?key={self._auth.new_link_key()}"
        return JSONResponse(found)

    async def preview(self, request: Request) -> Response:
        """One JPEG."""
        jpeg = await self._viewers.newest(self._pictures(request))
        if jpeg is None:
            return refusal(503, "there is no picture yet")
        return Response(jpeg, media_type="image/jpeg", headers=_embeddable(request))

    async def stream(self, request: Request) -> Response:
        """MJPEG: a picture replaces the one before for as long as the client stays."""
        return self._viewers.stream(self._pictures(request), _embeddable(request))

    def _pictures(self, request: Request) -> Pictures:
        view = request.query_params.get("view", "output")
        if view == "output":
            return self._service.browser
        if view != "input":
            raise HTTPException(422, f"view = {view[:50]!r}; allowed: output, input")
        if request.state.right < Right.ALL:
            raise HTTPException(403, "this key shows the output only")
        pictures = self._service.input_view
        if pictures is None or not self._service.watches_input:
            raise HTTPException(409, 'the view of the input is off; switch it on with POST /v1/input {"on": true}')
        return pictures

    async def prompt(self, request: Request) -> Response:
        """Change prompt, strength, seed and style together, between two frames."""
        body = await read_body(request, PromptBody)
        if body == PromptBody():
            raise HTTPException(422, f"nothing to change; allowed: {', '.join(PromptBody.model_fields)}")
        try:
            self._service.settings.check_look(body.strength, body.style)
        except ValueError as error:
            raise HTTPException(422, str(error)) from None
        scene = await self._stored_scene(None) if body.bank == "restore" else None
        change = Change(body.prompt, body.strength, body.seed, body.style, body.bank, scene, blend_s=body.blend_s)
        return await self._do(self._service.apply, change, body)

    async def bank(self, request: Request) -> Response:
        """Keep, empty or bring back the feature bank."""
        body = await read_body(request, BankBody)
        if body.scene is not None and body.policy != "restore":
            raise HTTPException(422, f"scene = {body.scene!r}: goes with policy restore only")
        scene = await self._stored_scene(body.scene) if body.policy == "restore" else None
        return await self._do(self._service.apply, Change(bank=body.policy, bank_of=scene), body)

    async def _stored_scene(self, scene: str | None) -> str:
        """The scene whose bank is meant; refuses one without a bank, which the engine would answer with a reset."""
        engine = (await run_in_threadpool(self._service.status)).engine
        stored = engine.scenes_stored if engine else ()
        scene = scene or (engine.scene if engine else None)
        if scene not in stored or scene is None:
            known = ", ".join(stored) or "none"
            raise HTTPException(422, f"scene = {scene!r}: no bank is stored for it; stored: {known}")
        return scene

    async def bypass(self, request: Request) -> Response:
        """Show the captured picture itself, or the translation again."""
        body = await read_body(request, SwitchBody)
        return await self._do(self._service.set_bypass, body.on, body)

    async def panic(self, request: Request) -> Response:
        """The slate at once, until released."""
        body = await read_body(request, SwitchBody)
        return await self._do(self._service.set_panic, body.on, body)

    async def input(self, request: Request) -> Response:
        """Open or close the view of what is captured; it closes by itself once nobody has looked for 10 s."""
        body = await read_body(request, SwitchBody)
        return await self._do(self._service.watch_input, body.on, body)

    async def stop(self, request: Request) -> Response:
        """End the service, once this answer is on its way."""
        await read_body(request, EmptyBody)
        return JSONResponse({"accepted": {}}, 202, background=BackgroundTask(self._service.stop))

    async def _do(self, act: Any, argument: object, body: Body) -> Response:
        accepted = body.model_dump(exclude_none=True, exclude_unset=True)
        said = ", ".join(f"{key} {value!r}" for key, value in accepted.items())
        log.info("asked to %s: %s", getattr(act, "__name__", str(act)).replace("_", " "), said)
        await run_in_threadpool(act, argument)
        return JSONResponse({"accepted": accepted})


def create_app(api: Api, auth: Auth) -> Starlette:
    """The application."""
    return Starlette(
        routes=api.routes(),
        middleware=[Middleware(Guard, auth=auth)],
        exception_handlers={HTTPException: _said, StreamV2VError: _ours, Exception: _bug},
    )


def _embeddable(request: Request) -> dict[str, str]:
    # Whoever shows the view-only key may put the picture into a page of their own; a cookie alone does not allow it.
    return {} if request.state.right > Right.VIEW else {"cross-origin-resource-policy": "cross-origin"}


async def _said(request: Request, error: Exception) -> Response:
    if not isinstance(error, HTTPException):
        raise error
    response = refusal(error.status_code, error.detail)
    response.headers.update(error.headers or {})
    return response


async def _ours(request: Request, error: Exception) -> Response:
    return refusal(422 if isinstance(error, ConfigError) else 503, str(error))


async def _bug(request: Request, error: Exception) -> Response:
    return refusal(500, "this is a bug of streamv2v-obs; its traceback is in the log (streamv2v-obs logs)")
