"""A small HTTP/1.1 client over kept connections: it must cost little, because it shares the cores with the service."""

from __future__ import annotations

import asyncio
import contextlib
import json
from typing import Any


class HttpClient:
    """Posts JSON; every connection serves one request at a time and is kept for the next."""

    def __init__(self, port: int, path: str) -> None:
        """Post to a path of a service on this machine."""
        self._port = port
        self._path = path
        self._idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []

    def request(self, body: dict[str, Any]) -> bytes:
        """A whole request, made before the time counts."""
        content = json.dumps(body).encode()
        head = (
            f"POST {self._path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(content)}\r\n\r\n"
        )
        return head.encode() + content

    async def post(self, request: bytes) -> tuple[int, bytes]:
        """The status and the body of the answer."""
        kept = self._idle.pop() if self._idle else None
        reader, writer = kept or await asyncio.open_connection("127.0.0.1", self._port)
        try:
            writer.write(request)
            head = await reader.readuntil(b"\r\n\r\n")
        except (ConnectionError, asyncio.IncompleteReadError):
            writer.close()
            if kept is None:
                raise
            return await self.post(request)  # the service closed a kept connection
        except BaseException:
            writer.close()
            raise
        headers = head.decode("latin-1").lower()
        body = await reader.readexactly(int(headers.split("content-length:")[1].split("\r\n")[0]))
        if "connection: close" in headers:
            writer.close()
        else:
            self._idle.append((reader, writer))
        return int(head.split(b" ", 2)[1]), body

    async def close(self) -> None:
        """Close the connections that are kept."""
        for _, writer in self._idle:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()
        self._idle.clear()
