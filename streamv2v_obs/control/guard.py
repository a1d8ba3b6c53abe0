"""The door of the API: every request is refused here unless host, origin and right are as they must be."""

from __future__ import annotations

from starlette.datastructures import MutableHeaders
from starlette.requests import HTTPConnection
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from starlette.websockets import WebSocket

from streamv2v_obs.control.auth import Auth, Right

VIEW_PATHS = frozenset({"/v1/stream", "/v1/preview", "/metrics"})
"""What the view-only key opens; the view of the input is refused to it one step further in."""

_HEADERS = {
    # No exception for the page of an OBS browser source: OBS opens it as a window of its own, not in a frame.
    "content-security-policy": (
        # The socket's address is named too: to some browsers it is not 'self'.
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self' ws://{host}; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
}


class Guard:
    """ASGI middleware. Other sites are kept out by the Host and Origin checks, other users by token and cookie.

    No CORS header is ever sent, so a page of another origin can read no answer even where a request gets through.
    """

    def __init__(self, app: ASGIApp, auth: Auth) -> None:
        self._app = app
        self._auth = auth

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse, or pass on with ``state.right`` set."""
        if scope["type"] not in ("http", "websocket"):
            return
        asked = HTTPConnection(scope)
        right = self.right_of(asked)
        asked.state.right = right
        refused = self._refusal(asked, right)
        if scope["type"] == "websocket":
            if refused is None:
                await self._app(scope, receive, send)
            else:
                await WebSocket(scope, receive, send).send_denial_response(refused)
            return
        # Of a host that is not ours nothing is repeated, and nothing is served to it either.
        host = "localhost" if refused is not None else asked.headers["host"].lower()

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value.replace("{host}", host))
            await send(message)

        answer: ASGIApp = refused or self._app
        await answer(scope, receive, send_guarded)

    def right_of(self, asked: HTTPConnection) -> Right:
        """What the token, cookie or key opens."""
        scheme, _, token = asked.headers.get("authorization", "").partition(" ")
        bearer = token.strip() if scheme.lower() == "bearer" else ""
        if bearer and self._auth.is_token(bearer):
            return Right.ALL
        cookie = asked.cookies.get(self._auth.cookie, "")
        # To a browser every port of this host is the same site, so the cookie's SameSite does not keep those out.
        ours = asked.headers.get("sec-fetch-site", "none") in ("same-origin", "none")
        if cookie and ours and self._auth.is_session(cookie):
            return Right.ALL
        # The path that the router goes by; a URL is put together with the Host header, which is the client's.
        if asked.scope["path"] in VIEW_PATHS:
            keys = (asked.query_params.get("key", ""), bearer)
            if any(key and self._auth.is_stream_key(key) for key in keys):
                return Right.VIEW
        return Right.NOTHING

    def _refusal(self, asked: HTTPConnection, right: Right) -> Response | None:
        # A name that was pointed at 127.0.0.1 (DNS rebinding) shows itself in the Host header.
        host = asked.headers.get("host", "").lower()
        if not self._auth.serves(host):
            return refusal(403, f"this host name is not served; allowed: {', '.join(sorted(self._auth.hosts))}")
        path = asked.scope["path"]
        # A page of any origin may open a WebSocket, and the browser sends the cookie along: it counts as a write.
        if asked.scope["type"] == "websocket" or asked.scope["method"] not in ("GET", "HEAD"):
            origin = asked.headers.get("origin")
            # Browsers name the origin of every write; only the command line may leave it out.
            if origin is None and not asked.headers.get("authorization"):
                return refusal(403, "a request that changes something needs an Origin header or a bearer token")
            if origin is not None and not self._auth.accepts(origin.lower(), host):
                return refusal(403, f"requests from {origin[:100]!r} are not accepted")
        needed = Right.VIEW if path in VIEW_PATHS else Right.ALL
        if (path.startswith("/v1/") or path in VIEW_PATHS) and right < needed:
            return refusal(401, "no valid token, cookie or key; get a panel link with: streamv2v-obs open")
        return None


def refusal(status: int, text: str) -> JSONResponse:
    """The one form of every error answer."""
    return JSONResponse({"error": text}, status)
