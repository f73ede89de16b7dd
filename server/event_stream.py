"""Answers as server-sent events."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from starlette.responses import StreamingResponse

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from starlette.types import Receive, Scope, Send

EVENTS = "text/event-stream"


class EventStream(StreamingResponse):
    """Server-sent events; says when they ended, whoever ended them."""

    def __init__(self, events: AsyncIterator[bytes], ended: Callable[[], Awaitable[None]]) -> None:
        """Send events.

        Args:
            events: as `event` makes them.
            ended: called after the last, and where the client went away.
        """
        super().__init__(events, media_type=EVENTS, headers={"Cache-Control": "no-store"})
        self._ended = ended

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send them."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            await self._ended()


def event(name: str, data: dict[str, Any]) -> bytes:
    """One event with JSON for its data."""
    return f"event: {name}\ndata: {json.dumps(data, allow_nan=False, separators=(',', ':'))}\n\n".encode()
