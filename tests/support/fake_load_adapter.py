"""A contender for tests on an event loop: a queue of one server, with the faults that options ask for."""

from __future__ import annotations

import asyncio

PACKAGES = ()
SCALE = "logit"
REFUSAL = "RefusedError"


class RefusedError(Exception):
    """The queue is full."""


async def load(**options):
    if options.get("fail") == "load":
        raise ValueError("cannot read the weights")
    server = asyncio.Lock()
    waiting = 0

    async def rerank(query, documents):
        nonlocal waiting
        if options.get("fail") == "rerank" and len(documents) == 20:
            raise KeyError("ids")
        if waiting >= options.get("most", 1e9):
            raise RefusedError
        waiting += 1
        try:
            async with server:
                await asyncio.sleep(options.get("seconds_a_document", 0) * len(documents))
        finally:
            waiting -= 1

    return rerank
