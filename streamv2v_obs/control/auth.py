"""Who may ask what: the token, one-time links, sessions, the view-only key, and which hosts and origins count."""

from __future__ import annotations

import hmac
import ipaddress
import secrets
import sys
import threading
import time
from collections.abc import Callable
from enum import IntEnum
from pathlib import Path

import platformdirs

from streamv2v_obs.control.endpoint import APP
from streamv2v_obs.errors import ConfigError

if sys.platform == "win32":
    from streamv2v_obs.control.private_windows import others_can_read, private_folder, write_private
else:
    from streamv2v_obs.control.private_posix import others_can_read, private_folder, write_private

LINK_LIFE_S = 900.0
_LINKS = 32
_SESSIONS = 64


class Right(IntEnum):
    """What a request has shown that it may do; each includes those before it."""

    NOTHING = 0
    VIEW = 1
    ALL = 2


class Auth:
    """Secrets of one service. Safe to use from any thread.

    ``token`` is for the command line and lives as long as the service. ``stream_key`` only shows output pictures
    and figures; it outlives the service, because OBS keeps the address of a browser source. A session is what a
    browser gets for a one-time link. Comparisons take the same time whatever differs. ``lan``: this machine is
    also served under its addresses in the network.
    """

    def __init__(
        self,
        host: str,
        port: int,
        stream_key: str,
        clock: Callable[[], float] = time.monotonic,
        *,
        lan: bool = False,
    ) -> None:
        self.token = secrets.token_urlsafe(32)
        self.stream_key = stream_key
        self.port = port
        self._clock = clock
        self._lock = threading.Lock()
        self._links: dict[str, float] = {}  # key -> end of its life; guarded by _lock
        self._sessions: list[str] = []  # guarded by _lock
        names = {"127.0.0.1", "localhost", "[::1]", f"[{host}]" if ":" in host else host}
        self.hosts = frozenset(f"{name}:{port}" for name in names) | (frozenset(names) if port == 80 else frozenset())
        self.origins = frozenset(f"http://{host}" for host in self.hosts)
        self._lan = lan
        # Cookies know no ports: the name keeps two services on one host apart.
        self.cookie = f"streamv2v_obs_{port}"

    def serves(self, host: str) -> bool:
        """Whether a Host header, in small letters, names this service."""
        if host in self.hosts:
            return True
        # An address in digits cannot have been pointed here by somebody else's name server, so any will do.
        return self._lan and _is_address(host, self.port)

    def accepts(self, origin: str, host: str) -> bool:
        """Whether an Origin header, in small letters, is a page of ours; ``host`` is one that is served."""
        return origin in self.origins or (self._lan and origin == f"http://{host}")

    def new_link_key(self) -> str:
        """A key for /open that works once, within ``LINK_LIFE_S`` seconds."""
        key = secrets.token_urlsafe(24)
        with self._lock:
            now = self._clock()
            self._links = {k: end for k, end in self._links.items() if end > now}
            while len(self._links) >= _LINKS:
                self._links.pop(next(iter(self._links)))
            self._links[key] = now + LINK_LIFE_S
        return key

    def redeem(self, key: str) -> str | None:
        """A new session for a link key, which is used up by it; None if it is unknown, used or too old."""
        with self._lock:
            found = next((k for k in self._links if _same(k, key)), None)
            if found is None or self._links.pop(found) <= self._clock():
                return None
            session = secrets.token_urlsafe(32)
            self._sessions = [*self._sessions[-_SESSIONS + 1 :], session]
            return session

    def is_token(self, text: str) -> bool:
        """Whether this is the command line's token."""
        return _same(self.token, text)

    def is_session(self, text: str) -> bool:
        """Whether this is the cookie of a browser that came by a one-time link."""
        with self._lock:
            return any(_same(session, text) for session in self._sessions)

    def is_stream_key(self, text: str) -> bool:
        """Whether this is the view-only key."""
        return _same(self.stream_key, text)


def _is_address(host: str, port: int) -> bool:
    address, colon, number = host.rpartition(":")
    if not colon:
        address, number = host, "80"
    # What follows a % is a zone, which may be any text, and no browser sends one.
    if number != str(port) or "%" in address:
        return False
    try:
        ipaddress.ip_address(address.removeprefix("[").removesuffix("]"))
    except ValueError:
        return False
    return True


def _same(ours: str, theirs: str) -> bool:
    return hmac.compare_digest(ours.encode(), theirs.encode("utf-8", "surrogateescape"))


def stream_key_file(folder: Path | None = None) -> Path:
    """Where the view-only key is kept."""
    return (folder or Path(platformdirs.user_state_dir(APP, appauthor=False))) / "stream-key"


def lasting_stream_key(folder: Path | None = None) -> str:
    """The view-only key, made at first use and kept in a file of this user; remove the file for a new one."""
    path = stream_key_file(folder)
    try:
        private_folder(path.parent)
        if path.exists() and not others_can_read(path):
            key = path.read_text(encoding="utf-8").strip()
            if len(key) >= 32:
                return key
        key = secrets.token_urlsafe(24)
        write_private(path, key + "\n")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: the key for OBS browser sources cannot be kept there: {error}") from error
    return key
