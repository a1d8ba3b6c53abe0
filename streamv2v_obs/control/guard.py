"""The door of the API: every request is refused here unless host, origin and right are as they must be."""

from __future__ import annotations

from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from streamv2v_obs.control.auth import Auth, Right

PICTURE_PATHS = frozenset({"/v1/stream", "/v1/preview"})
"""What the view-only key opens; the view of the input is refused to it one step further in."""

_HEADERS = {
    # No exception for the page of an OBS browser source: OBS opens it as a window of its own, not in a frame.
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
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
        """Refuse, or pass on with ``request.state.right`` set."""
        if scope["type"] != "http":
            return
        request = Request(scope)
        right = self.right_of(request)
        request.state.right = right

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        answer: ASGIApp = self._refusal(request, right) or self._app
        await answer(scope, receive, send_guarded)

    def right_of(self, request: Request) -> Right:
        """What the request's token, cookie or key opens."""
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer" and self._auth.is_token(token.strip()):
            return Right.ALL
        cookie = request.cookies.get(self._auth.cookie, "")
        # To a browser every port of this host is the same site, so the cookie's SameSite does not keep those out.
        ours = request.headers.get("sec-fetch-site", "none") in ("same-origin", "none")
        if cookie and ours and self._auth.is_session(cookie):
            return Right.ALL
        key = request.query_params.get("key", "")
        if request.url.path in PICTURE_PATHS and key and self._auth.is_stream_key(key):
            return Right.PICTURES
        return Right.NOTHING

    def _refusal(self, request: Request, right: Right) -> Response | None:
        # A name that was pointed at 127.0.0.1 (DNS rebinding) shows itself in the Host header.
        if request.headers.get("host", "").lower() not in self._auth.hosts:
            return refusal(403, f"this host name is not served; allowed: {', '.join(sorted(self._auth.hosts))}")
        path = request.url.path
        if request.method not in ("GET", "HEAD"):
            origin = request.headers.get("origin")
            # Browsers name the origin of every write; only the command line may leave it out.
            if origin is None and not request.headers.get("authorization"):
                return refusal(403, "a request that changes something needs an Origin header or a bearer token")
            if origin is not None and origin.lower() not in self._auth.origins:
                return refusal(403, f"requests from {origin[:100]!r} are not accepted")
        needed = Right.PICTURES if path in PICTURE_PATHS else Right.ALL
        if path.startswith("/v1/") and right < needed:
            return refusal(401, "no valid token, cookie or key; get a panel link with: streamv2v-obs open")
        return None


def refusal(status: int, text: str) -> JSONResponse:
    """The one form of every error answer."""
    return JSONResponse({"error": text}, status)
