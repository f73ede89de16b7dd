"""Connections that cannot hold the service up: limits of a client's time and of their number.

uvicorn bounds the size of a request's head and the time between requests. Here is what it leaves open: a connection
that sends nothing or its head byte by byte, a body that goes on after its request was refused, an answer that is not
read, and connections without number.
"""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from crossrank.server.failures import Refusal

if TYPE_CHECKING:
    import asyncio

    from crossrank.server.settings import ServerSettings

LARGEST_HEAD = 32 * 1024
"""Bytes of a request's line and headers."""

_BODY_MARGIN = 5.0
"""Seconds that an application's own refusal of a slow body gets before the connection is closed without one."""
_TOO_MANY = json.dumps(Refusal(503, "too many connections", "busy").body(), separators=(",", ":")).encode()
_FULL = (
    b"HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\nRetry-After: 1\r\nContent-Type: application/json\r\n"
    b"Content-Length: %d\r\n\r\n%s" % (len(_TOO_MANY), _TOO_MANY)
)


class GuardedConnection(H11Protocol):
    """uvicorn's HTTP/1.1 protocol with those limits."""

    def __init__(self, *args: Any, settings: ServerSettings, **kwargs: Any) -> None:
        """One connection.

        Args:
            *args: uvicorn's.
            settings: has the limits.
            **kwargs: uvicorn's.
        """
        super().__init__(*args, **kwargs)
        self._settings = settings
        self._refused = False
        self._waits_for: object = None
        self._read_timer: asyncio.TimerHandle | None = None
        self._write_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Wait for the first request, or refuse a connection too many."""
        if len(self.connections) >= self._settings.max_connections:
            self._refused = True
            transport.write(_FULL)
            transport.close()
            return
        super().connection_made(transport)
        transport.set_write_buffer_limits(high=0)  # so that every byte left unread is noticed
        self._watch_reading()

    def data_received(self, data: bytes) -> None:
        """Take data, and limit the time for what it is a part of."""
        if self._refused:
            return
        super().data_received(data)
        self._watch_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        """End the limits."""
        if self._refused:
            return
        for timer in (self._read_timer, self._write_timer):
            if timer is not None:
                timer.cancel()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        """The client leaves something unread."""
        super().pause_writing()
        if self._write_timer is None:
            self._write_timer = self.loop.call_later(self._settings.write_timeout, self.transport.abort)

    def resume_writing(self) -> None:
        """The client has read everything."""
        super().resume_writing()
        if self._write_timer is not None:
            self._write_timer.cancel()
            self._write_timer = None

    def _watch_reading(self) -> None:
        """Limit the time for a head or a body from its beginning on, however it comes in parts."""
        state = self.conn.their_state
        if state is self._waits_for:
            return
        self._waits_for = state
        if self._read_timer is not None:
            self._read_timer.cancel()
            self._read_timer = None
        if state is h11.IDLE:
            self._read_timer = self.loop.call_later(self._settings.header_timeout, self._too_slow)
        elif state is h11.SEND_BODY:
            seconds = self._settings.body_timeout + _BODY_MARGIN
            self._read_timer = self.loop.call_later(seconds, self._too_slow)

    def _too_slow(self) -> None:
        if not self.transport.is_closing():
            self.transport.abort()


def keep_alive_seconds(settings: ServerSettings) -> int:
    """Uvicorn counts whole seconds."""
    return max(1, math.ceil(settings.keep_alive))
