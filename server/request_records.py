"""What is known of a request while it is served, and the line of the access log when it has ended."""

from __future__ import annotations

import json
import logging
import re
import time
import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from starlette.datastructures import Headers, MutableHeaders

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from crossrank.server.metrics import Metrics
    from crossrank.server.settings import ServerSettings

logger = logging.getLogger("crossrank.server")
access_logger = logging.getLogger("crossrank.server.access")

_SAFE_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")
_RECORD = "crossrank.record"
_CLIENT_CLOSED = 499


@dataclass
class Record:
    """One request.

    Attributes:
        id: the client's `X-Request-Id` where it is harmless, else made up.
        began: when its head had come, on the monotonic clock.
        status: of the answer; 0 before it.
        complete: whether the whole answer was sent.
        streamed: whether its answer goes on after its handler.
        details: what the access log says besides: model, documents, what was not scored.
        texts: query and documents; only in the log where that is asked for.
    """

    id: str
    began: float = field(default_factory=time.monotonic)
    status: int = 0
    complete: bool = False
    streamed: bool = False
    details: dict[str, Any] = field(default_factory=dict)
    texts: dict[str, Any] = field(default_factory=dict)

    @property
    def milliseconds(self) -> float:
        """Since it began."""
        return (time.monotonic() - self.began) * 1000


def record_of(scope: Scope) -> Record:
    """The record of the request that is served."""
    record: Record = scope[_RECORD]
    return record


class Recorder:
    """Gives every request its record and its id, and logs it when it has ended."""

    def __init__(self, app: ASGIApp, settings: ServerSettings, metrics: Metrics) -> None:
        """Wrap an application."""
        self._app = app
        self._settings = settings
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        given = Headers(scope=scope).get("x-request-id", "")
        record = Record(given if _SAFE_ID.fullmatch(given) else uuid.uuid4().hex)
        scope[_RECORD] = record

        async def recorded(message: Message) -> None:
            if message["type"] == "http.response.start":
                record.status = message["status"]
                MutableHeaders(scope=message)["X-Request-Id"] = record.id
            elif message["type"] == "http.response.body":
                record.complete = not message.get("more_body", False)
            await send(message)

        try:
            await self._app(scope, receive, recorded)
        except Exception:
            # The client has its 500, and the connection may carry further requests: uvicorn would close it.
            if not record.complete:
                raise
            logger.exception("request %s failed", record.id)
        finally:
            self._metrics.responses.labels(str(record.status or _CLIENT_CLOSED)).inc()
            if access_logger.isEnabledFor(logging.INFO):
                self._log(scope, record)

    def _log(self, scope: Scope, record: Record) -> None:
        client = scope.get("client")
        line: dict[str, Any] = {
            "client": client[0] if client else None,
            "method": scope["method"],
            "path": scope["path"],
            "status": record.status or _CLIENT_CLOSED,
            "ms": round(record.milliseconds, 1),
            "id": record.id,
            **record.details,
        }
        if self._settings.log_texts:
            line |= record.texts
        if self._settings.log_format == "json":
            time_of_day = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
            access_logger.info(json.dumps({"time": time_of_day, **line}, ensure_ascii=True, default=str))
        else:
            # JSON for the values: nothing in a path can begin a line of its own.
            access_logger.info(" ".join(f"{name}={json.dumps(value, default=str)}" for name, value in line.items()))
