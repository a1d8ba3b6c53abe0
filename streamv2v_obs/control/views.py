"""What can be asked of the service without changing anything, but for its pictures."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from pydantic import TypeAdapter
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from streamv2v_obs.control import metrics
from streamv2v_obs.control.history import PERIOD_S, History, Point
from streamv2v_obs.control.log_tail import LINES, LogLine, LogTail
from streamv2v_obs.control.openapi import Operation
from streamv2v_obs.stats import ServiceStatus


@dataclass(frozen=True)
class HistoryAnswer:
    """Points a fixed time apart, the oldest first."""

    period_s: float
    points: tuple[Point, ...]


@dataclass(frozen=True)
class LogAnswer:
    """Lines of the log, the oldest first."""

    lines: tuple[LogLine, ...]


_STATUS: TypeAdapter[ServiceStatus] = TypeAdapter(ServiceStatus)
_HISTORY: TypeAdapter[HistoryAnswer] = TypeAdapter(HistoryAnswer)
_LOG: TypeAdapter[LogAnswer] = TypeAdapter(LogAnswer)
_COUNT = {"type": "integer", "minimum": 0, "maximum": 2**53}


class WithStatus(Protocol):
    """What this needs of the service; from any thread."""

    def status(self) -> ServiceStatus: ...


class Views:
    """Each method an operation."""

    def __init__(self, service: WithStatus, history: History, log_tail: LogTail) -> None:
        self._service = service
        self._history = history
        self._log_tail = log_tail

    def operations(self) -> list[Operation]:
        """All of them."""
        return [
            Operation("GET", "/healthz", self.health),
            Operation("GET", "/readyz", self.ready, refusals=(503,)),
            Operation("GET", "/metrics", self.metrics, answer="text/plain"),
            Operation("GET", "/v1/status", self.status, answer=ServiceStatus),
            Operation("GET", "/v1/history", self.history, answer=HistoryAnswer),
            Operation("GET", "/v1/log", self.log, answer=LogAnswer, query={"after": _COUNT}),
        ]

    def status_json(self) -> bytes:
        """ServiceStatus as JSON, for any thread."""
        return _STATUS.dump_json(self._service.status())

    async def health(self, request: Request) -> Response:
        """Alive; says nothing else."""
        return JSONResponse({"ok": True})

    async def ready(self, request: Request) -> Response:
        """Whether translated pictures go out right now."""
        status = await run_in_threadpool(self._service.status)
        if status.publish.state != "TRANSLATED":
            raise HTTPException(503, f"not ready: the outputs show {status.publish.state}")
        return JSONResponse({"ready": True})

    async def metrics(self, request: Request) -> Response:
        """The status in figures, for Prometheus; the view-only key opens it, as ?key= or bearer token."""
        text = metrics.exposition(await run_in_threadpool(self._service.status))
        return Response(text, media_type=metrics.MEDIA_TYPE)

    async def status(self, request: Request) -> Response:
        """All that the service says of itself."""
        return Response(await run_in_threadpool(self.status_json), media_type="application/json")

    async def history(self, request: Request) -> Response:
        """The last ten minutes in figures, a point a second."""
        answer = HistoryAnswer(PERIOD_S, self._history.points())
        return Response(_HISTORY.dump_json(answer), media_type="application/json")

    async def log(self, request: Request) -> Response:
        """The last lines of the log; with ``after`` only those with a higher number."""
        after = request.query_params.get("after", "0")
        if not (after.isascii() and after.isdecimal() and len(after) <= 16):
            raise HTTPException(422, f"after = {after[:50]!r}: allowed: the number of a line")
        answer = LogAnswer(self._log_tail.after(int(after), LINES))
        return Response(_LOG.dump_json(answer), media_type="application/json")
