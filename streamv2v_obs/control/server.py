"""The HTTP server in a thread of its own; its port is bound before that, so a port in use is said at once."""

from __future__ import annotations

import logging
import socket
import sys
import threading

import uvicorn

from streamv2v_obs.control.api import Api, ServiceLike, create_app
from streamv2v_obs.control.auth import Auth, lasting_stream_key
from streamv2v_obs.control.endpoint import FOLDER_VARIABLE, publish_endpoint, runtime_folder
from streamv2v_obs.control.history import History
from streamv2v_obs.control.log_tail import LogTail
from streamv2v_obs.control.views import Views
from streamv2v_obs.errors import ConfigError
from streamv2v_obs.settings import ControlSettings

log = logging.getLogger(__name__)

_GRACE_S = 1
_PATIENCE_S = 0.5
_MESSAGE_LIMIT = 1024  # bytes; nothing is expected of a WebSocket's client


class ControlServer:
    """Binds in the constructor (raises ConfigError); ``start``, ``stop`` and ``join`` are for its owner's thread."""

    def __init__(self, settings: ControlSettings, service: ServiceLike) -> None:
        self._stopping = threading.Event()
        self._socket = bind(settings)
        port = self._socket.getsockname()[1]
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(settings.host, settings.host)  # noqa: S104 - not bound to
        self.address = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
        try:
            self.auth = Auth(host, port, lasting_stream_key(), lan=settings.lan)
        except BaseException:
            self._socket.close()
            raise
        self._history = History(service.status)
        self._log_tail = LogTail()
        views = Views(service, self._history, self._log_tail)
        api = Api(service, self.auth, self.address, self._stopping, views)
        config = uvicorn.Config(
            create_app(api, self.auth),
            http="h11",
            ws="websockets-sansio",
            ws_max_size=_MESSAGE_LIMIT,
            ws_per_message_deflate=False,  # JPEGs do not get smaller
            lifespan="off",
            log_config=None,
            log_level="warning",
            access_log=False,  # addresses carry keys
            proxy_headers=False,
            server_header=False,
            timeout_graceful_shutdown=_GRACE_S,
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._run, name="control", daemon=True)

    def new_link(self) -> str:
        """An address that opens the panel, once."""
        return f"{self.address}/open?key={self.auth.new_link_key()}"

    def start(self) -> None:
        """Serve, and tell the command line where. Raises ConfigError if that cannot be kept anywhere."""
        try:
            self._endpoint = publish_endpoint(self.address, self.auth.token)
        except OSError as error:
            raise ConfigError(
                f"the service's address cannot be kept in {runtime_folder()} ({error.strerror}); make room there, or "
                f"name another folder with the environment variable {FOLDER_VARIABLE}"
            ) from error
        logging.getLogger().addHandler(self._log_tail)
        logging.getLogger("uvicorn.error").addFilter(_is_an_error)
        self._history.start()
        self._thread.start()

    def stop(self) -> None:
        """Ask it to end: open streams end, new requests are refused."""
        self._stopping.set()
        self._history.stop()
        self._server.should_exit = True

    def join(self, timeout_s: float) -> None:
        """Wait for the end; the port is free after it."""
        if self._thread.ident is not None:
            self._thread.join(min(timeout_s, _PATIENCE_S))
            # Whoever has stopped taking the pictures that we send is not waited for.
            self._server.force_exit = True
            self._thread.join(timeout_s)
            self._endpoint.unlink(missing_ok=True)
            self._history.join(timeout_s)
            logging.getLogger().removeHandler(self._log_tail)
        self._socket.close()

    def _run(self) -> None:
        log.info("control at %s", self.address)
        self._server.run(sockets=[self._socket])


def _is_an_error(record: logging.LogRecord) -> bool:
    # A WebSocket that is refused with a proper answer is none, and a panel without access tries for ever
    # (https://github.com/Kludex/uvicorn/pull/3138).
    return record.msg != "ASGI callable returned without completing handshake."


def bind(settings: ControlSettings) -> socket.socket:
    """A listening socket at the address that is set; ConfigError names the key if that is not possible."""
    host = "127.0.0.1" if settings.host == "localhost" else settings.host
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    found = socket.socket(family, socket.SOCK_STREAM)
    try:
        if sys.platform == "win32":
            # There, SO_REUSEADDR would let another program take over the port.
            found.setsockopt(socket.SOL_SOCKET, socket.SO_EXCLUSIVEADDRUSE, 1)
        else:
            found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        found.bind((host, settings.port))
        found.listen(64)
    except OSError as error:
        found.close()
        raise ConfigError(
            f"control.port = {settings.port}: cannot listen on {settings.host} ({error.strerror}); allowed: a port "
            f"that no other program uses, or 0 for any free one, such as --set control.port=0"
        ) from error
    return found
