"""The panel and the page for an OBS browser source: a handful of static files, each served under its exact name."""

from __future__ import annotations

from importlib import resources

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

_PAGES = {
    "/": ("index.html", "text/html"),
    "/app.css": ("app.css", "text/css"),
    "/parts.css": ("parts.css", "text/css"),
    "/app.js": ("app.js", "text/javascript"),
    "/looks.js": ("looks.js", "text/javascript"),
    "/plots.js": ("plots.js", "text/javascript"),
    "/rules.js": ("rules.js", "text/javascript"),
    "/talk.js": ("talk.js", "text/javascript"),
    "/viewers.js": ("viewers.js", "text/javascript"),
    "/icon.svg": ("icon.svg", "image/svg+xml"),
    "/view": ("view.html", "text/html"),
    "/view.css": ("view.css", "text/css"),
    "/view.js": ("view.js", "text/javascript"),
}


def pages() -> list[BaseRoute]:
    """A route a file. They hold no secrets and are served to anyone who gets past the Host check; a path in a
    request is never joined to a path on the disk."""
    folder = resources.files("streamv2v_obs.control") / "panel"
    return [_page(path, (folder / name).read_bytes(), kind) for path, (name, kind) in _PAGES.items()]


def _page(path: str, content: bytes, kind: str) -> Route:
    async def page(request: Request) -> Response:
        return Response(content, media_type=kind)

    return Route(path, page, methods=["GET"])
