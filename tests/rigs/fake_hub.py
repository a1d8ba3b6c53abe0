"""A fake of the hub's HTTP interface, a real server on loopback: listing, metadata, files, ranges, and faults."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@dataclass
class FakeHub:
    """``files``: repository -> path -> content; weights (.safetensors) are declared as large files with a sha256."""

    files: dict[str, dict[str, bytes]] = field(default_factory=dict)
    sent: dict[str, bytes] = field(default_factory=dict)  # path -> what goes over the wire instead
    declared: dict[str, str] = field(default_factory=dict)  # path -> sha256 that is stated instead
    cut: dict[str, list[int]] = field(default_factory=dict)  # path -> bytes after which each next answer breaks off
    gated: bool = False
    requests: list[tuple[str, str, str]] = field(default_factory=list)  # method, path, range
    address: str = ""

    def entry(self, path: str, content: bytes) -> dict[str, Any]:
        """How the hub describes a file."""
        git = hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()
        found: dict[str, Any] = {"type": "file", "path": path, "size": len(content), "oid": git}
        if path.endswith(".safetensors"):
            sha256 = self.declared.get(path, hashlib.sha256(content).hexdigest())
            found["lfs"] = {"oid": sha256, "size": len(content), "pointerSize": 134}
        return found

    def ranges_of(self, path: str) -> list[str]:
        """The Range headers of the downloads of a large file, in order; empty text for all of it."""
        return [
            asked
            for method, asked_path, asked in self.requests
            if method == "GET" and asked_path.startswith("cdn/") and asked_path.endswith(path)
        ]


class _Handler(BaseHTTPRequestHandler):
    hub: FakeHub
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: object) -> None:
        """Keep the test's output clean."""

    def _json(self, content: object, status: int = 200, **headers: str) -> None:
        body = json.dumps(content).encode()
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self._answer(body)

    def do_GET(self) -> None:
        self._answer(b"")

    do_HEAD = do_GET

    def _answer(self, body: bytes) -> None:
        path = unquote(urlsplit(self.path).path).removeprefix("/")
        self.hub.requests.append((self.command, path, self.headers.get("Range", "")))
        name = next((name for name in self.hub.files if name in path), None)
        if name is None:
            return self._json({"error": "Repository not found"}, 404, X_Error_Code="RepoNotFound")
        if self.hub.gated:
            return self._json({"error": "Access is restricted"}, 403, X_Error_Code="GatedRepo")
        if COMMIT not in path:
            return self._json({"error": "Invalid rev id"}, 404, X_Error_Code="RevisionNotFound")
        files = self.hub.files[name]
        if "/paths-info/" in path:
            wanted = parse_qs(body.decode())["paths"]
            return self._json([self.hub.entry(p, files[p]) for p in wanted if p in files])
        if "/tree/" in path:
            return self._json([self.hub.entry(p, content) for p, content in files.items()])
        if path.startswith("api/models/"):
            siblings = [{"rfilename": p} for p in files]
            return self._json({"id": name, "sha": COMMIT, "siblings": siblings, "private": False})
        return self._file(path.split(f"{COMMIT}/", 1)[1], files)

    def _file(self, path: str, files: dict[str, bytes]) -> None:
        if path not in files:
            return self._json({"error": "Entry not found"}, 404, X_Error_Code="EntryNotFound", X_Repo_Commit=COMMIT)
        described = self.hub.entry(path, files[path])
        if "lfs" in described and not self.path.startswith("/cdn/"):
            # As the real one does: large files lie elsewhere, and the metadata is told on the way there.
            self.send_response(302)
            self.send_header("Location", f"{self.hub.address}/cdn{self.path}")
            self.send_header("X-Linked-ETag", f'"{described["lfs"]["oid"]}"')
            self.send_header("X-Linked-Size", str(len(files[path])))
            self.send_header("X-Repo-Commit", COMMIT)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        content = self.hub.sent.get(path, files[path])
        first = 0
        if asked := self.headers.get("Range"):
            first = int(asked.removeprefix("bytes=").split("-")[0])
        self.send_response(206 if asked else 200)
        self.send_header("ETag", f'"{described.get("lfs", described)["oid"]}"')
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Content-Length", str(len(content) - first))
        if asked:
            self.send_header("Content-Range", f"bytes {first}-{len(content) - 1}/{len(content)}")
        self.end_headers()
        if self.command == "HEAD":
            return
        rest = content[first:]
        if self.hub.cut.get(path):
            self.wfile.write(rest[: self.hub.cut[path].pop(0)])
            self.wfile.flush()
            self.close_connection = True
            return
        self.wfile.write(rest)


@contextmanager
def fake_hub() -> Iterator[FakeHub]:
    """A hub on a free port of loopback, until the block ends."""
    hub = FakeHub()
    handler = type("Handler", (_Handler,), {"hub": hub})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    hub.address = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, name="fake-hub", daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
