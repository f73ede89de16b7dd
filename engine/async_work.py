"""Encoding and submitting beside an event loop, and waiting there for the scores.

Texts are encoded and runs planned in a few threads, so the event loop only waits. A call may be cancelled at any
moment: before its encoding starts, during it, between that and the queue, in the queue. Nothing of it is scored
afterwards, except runs that are in progress.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, TypeVar

from crossrank.engine.progressive import CHUNKS_AT_ONCE

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Future

    from crossrank.engine.chunks import Chunk
    from crossrank.engine.encoding import EncodedPairs
    from crossrank.engine.progressive import ChunkedScoring
    from crossrank.engine.request import Outcome, Terms
    from crossrank.engine.scheduler import Call
    from crossrank.engine.time_limit import TimeLimit

_Result = TypeVar("_Result")
_ENCODERS = 2
"""Threads that encode. The tokenizer itself uses all cores for a large request."""


class EncoderThreads:
    """A small pool of threads that encode, started at the first call; made anew in the child of a fork."""

    def __init__(self) -> None:
        """Start nothing yet."""
        self._pool: ThreadPoolExecutor | None = None
        self._process = 0

    async def run(self, work: Callable[[], _Result]) -> _Result:
        """The result of a function that one of the threads calls."""
        if self._pool is None or self._process != os.getpid():
            self._pool = ThreadPoolExecutor(_ENCODERS, thread_name_prefix="crossrank-encoder")
            self._process = os.getpid()
        return await asyncio.get_running_loop().run_in_executor(self._pool, work)

    async def submit(
        self, call: Call, encode: Callable[[], tuple[EncodedPairs, Terms]]
    ) -> tuple[EncodedPairs, Future[Outcome]]:
        """Encode and plan in a thread, and let the pairs wait for their runs."""
        submission = _Submission()

        def work() -> tuple[EncodedPairs, Future[Outcome]]:
            pairs, terms = encode()
            return pairs, submission.submit(call, pairs, terms)

        try:
            return await self.run(work)
        except BaseException:
            submission.abandon()
            raise

    async def score(
        self, call: Call, encode: Callable[[], EncodedPairs], limit: TimeLimit
    ) -> tuple[EncodedPairs, Outcome]:
        """Encode, submit, and wait for the scores."""

        def timed() -> tuple[EncodedPairs, Terms]:
            started = time.perf_counter()
            pairs = encode()
            return pairs, limit.terms(encode_seconds=time.perf_counter() - started)

        pairs, future = await self.submit(call, timed)
        return pairs, await asyncio.wrap_future(future)

    def stop(self) -> None:
        """Let the threads end when they have nothing more to do."""
        pool, self._pool = self._pool, None
        if pool is not None and self._process == os.getpid():
            pool.shutdown(wait=False)


class AsyncChunks:
    """`run_chunks` for an event loop: chunks that were submitted and not recorded yet, the oldest first."""

    def __init__(self, scoring: ChunkedScoring, threads: EncoderThreads) -> None:
        """Nothing is submitted yet."""
        self._scoring = scoring
        self._threads = threads
        self._waiting: deque[tuple[Chunk, EncodedPairs, Future[Outcome]]] = deque()

    async def step(self, call: Call) -> bool:
        """Submit what there is room for, then wait for the oldest chunk; returns False when there is none left."""
        scoring = self._scoring
        while len(self._waiting) < CHUNKS_AT_ONCE and (chunk := scoring.next_chunk()) is not None:

            def encode(chunk: Chunk = chunk) -> tuple[EncodedPairs, Terms]:
                return scoring.encode(chunk)

            self._waiting.append((chunk, *await self._threads.submit(call, encode)))
        if not self._waiting:
            return False
        chunk, pairs, future = self._waiting[0]
        outcome = await asyncio.wrap_future(future)
        self._waiting.popleft()
        scoring.record(chunk, pairs, outcome)
        return True

    async def run(self, call: Call) -> None:
        """All steps; what has not started is dropped when the caller is cancelled."""
        try:
            while await self.step(call):
                pass
        finally:
            self.cancel()

    def cancel(self) -> None:
        """Drop what has not started."""
        for _, _, future in self._waiting:
            future.cancel()


class _Submission:
    """What a thread submits for a coroutine that may be cancelled meanwhile: then it costs nothing."""

    def __init__(self) -> None:
        self._abandoned = False
        self._future: Future[Outcome] | None = None

    def submit(self, call: Call, pairs: EncodedPairs, terms: Terms) -> Future[Outcome]:
        if not self._abandoned:
            self._future = future = call.submit(pairs, terms)
            if not self._was_abandoned():  # else between the two lines: of the two sides at least one sees it
                return future
            future.cancel()
        raise asyncio.CancelledError

    def abandon(self) -> None:
        # Without a lock: the event loop must not wait for a thread that plans runs.
        self._abandoned = True
        if self._future is not None:
            self._future.cancel()

    def _was_abandoned(self) -> bool:
        return self._abandoned
