"""Reading a request's body within limits: of bytes, of bodies at once, of a client's time."""

from __future__ import annotations

import asyncio
from contextlib import contextmanager
from typing import TYPE_CHECKING

from crossrank.server.failures import Refusal

if TYPE_CHECKING:
    from collections.abc import Iterator

    from starlette.requests import Request

    from crossrank.server.settings import ServerSettings

_JSON = "application/json"
_RETRY_SECONDS = 1.0


class ClientGone(Exception):  # noqa: N818  nothing went wrong here
    """The client closed its connection."""


class BodyReader:
    """Reads bodies, all of them within common limits. For one event loop."""

    def __init__(self, settings: ServerSettings) -> None:
        """Read nothing yet."""
        self._settings = settings
        self.bodies = 0
        self.bytes = 0

    async def read(self, request: Request) -> bytes:
        """The whole body.

        Raises:
            Refusal: it is no JSON by its headers (415), too large (413), too slow (408), or too many are read (429).
            ClientGone: the client went away.
        """
        check_content_type(request)
        limit = self._settings.max_body_bytes
        announced = request.headers.get("content-length", "")
        if announced.isdigit() and int(announced) > limit:
            raise _too_large(limit)
        parts: list[bytes] = []
        with self._place() as held:
            try:
                async with asyncio.timeout(self._settings.body_timeout):
                    while True:
                        async with asyncio.timeout(self._settings.stall_timeout):
                            message = await request.receive()
                        if message["type"] == "http.disconnect":
                            raise ClientGone
                        part: bytes = message.get("body", b"")
                        held[0] += len(part)
                        self.bytes += len(part)
                        if held[0] > limit:
                            raise _too_large(limit)
                        if self.bytes > self._settings.max_buffered_bytes:
                            raise Refusal(
                                429,
                                f"bodies of {self._settings.max_buffered_bytes} bytes are being read; try again soon",
                                "too_many_bodies",
                                retry_after=_RETRY_SECONDS,
                            )
                        parts.append(part)
                        if not message.get("more_body", False):
                            return b"".join(parts)
            except TimeoutError:
                raise Refusal(
                    408,
                    f"the body did not come in time: at most {self._settings.stall_timeout:g} s between two parts and "
                    f"{self._settings.body_timeout:g} s for all of it",
                    "body_timeout",
                    headers={"Connection": "close"},
                ) from None

    @contextmanager
    def _place(self) -> Iterator[list[int]]:
        """A place among the bodies that are read; holds the bytes read so far."""
        if self.bodies >= self._settings.max_concurrent_bodies:
            raise Refusal(
                429,
                f"{self.bodies} bodies are being read, no more are at once; try again soon",
                "too_many_bodies",
                retry_after=_RETRY_SECONDS,
            )
        held = [0]
        self.bodies += 1
        try:
            yield held
        finally:
            self.bodies -= 1
            self.bytes -= held[0]


def check_content_type(request: Request) -> None:
    """Refuse what is not JSON by its headers.

    Raises:
        Refusal: 415.
    """
    content_type = request.headers.get("content-type", "")
    if content_type.partition(";")[0].strip().lower() != _JSON:
        raise Refusal(
            415,
            f"Content-Type {content_type!r}: {_JSON} expected (curl: -H 'Content-Type: {_JSON}')",
            "unsupported_media_type",
        )
    encoding = request.headers.get("content-encoding", "identity")
    if encoding.lower() != "identity":
        raise Refusal(415, f"Content-Encoding {encoding!r}: send the body as it is", "unsupported_media_type")


def _too_large(limit: int) -> Refusal:
    return Refusal(
        413, f"the body has more than {limit} bytes, the most that is read (max_body_bytes)", "body_too_large"
    )
