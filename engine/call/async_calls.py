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

from crossrank.engine.call.calls import ScoreCall, scores_while_encoding
from crossrank.engine.call.chunked_scoring import CHUNKS_AT_ONCE, ChunkedScoring
from crossrank.engine.call.encoded_candidates import encode_candidates

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Future

    from crossrank.engine.call.chunks import Chunk
    from crossrank.engine.call.encoded_candidates import DocumentScores, EncodedCandidates
    from crossrank.engine.call.model import ScoringModel
    from crossrank.engine.schedule.admitted_call import AdmittedCall
    from crossrank.engine.schedule.request import Outcome, Terms
    from crossrank.engine.schedule.scheduler import Scheduler
    from crossrank.engine.schedule.time_limit import TimeLimit
    from crossrank.engine.text.encoding import EncodedPairs

_Result = TypeVar("_Result")
_AnyCall = TypeVar("_AnyCall", bound=ScoreCall)
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
        self, call: AdmittedCall, encode: Callable[[], tuple[_Result, EncodedCandidates, Terms]], *, last: bool = False
    ) -> tuple[_Result, EncodedCandidates, Future[Outcome]]:
        """Encode and plan in a thread, and let the rows wait for their runs.

        Args:
            call: whose rows.
            encode: gives them.
            last: whether the call submits nothing more; then it leaves, so that nothing of it needs the event loop.
        """
        submission = _Submission()

        def work() -> tuple[_Result, EncodedCandidates, Future[Outcome]]:
            result, request, terms = encode()
            future = submission.submit(call, request.rows, terms)
            if last:
                call.leave()
            return result, request, future

        try:
            return await self.run(work)
        except BaseException:
            submission.abandon()
            raise

    async def score(
        self, model: ScoringModel, admitted: AdmittedCall, start: Callable[[], _AnyCall], limit: TimeLimit
    ) -> tuple[_AnyCall, DocumentScores]:
        """`score_call` for an event loop: check the arguments and encode in a thread, submit, and wait."""
        if limit.seconds is not None:
            call, scoring = await self.start(model, admitted.scheduler, start, limit)
            await AsyncChunks(scoring, self).run(admitted)
            return call, scoring.found()

        if model.documents_at_once is not None:
            started_call = await self.run(start)
            if scores_while_encoding(model, started_call):
                scoring = started_call.while_encoding(model, admitted.scheduler, limit)
                await AsyncChunks(scoring, self).run(admitted)
                return started_call, scoring.found()
            start = _given(started_call)

        def encode() -> tuple[_AnyCall, EncodedCandidates, Terms]:
            started = time.perf_counter()
            call = start()
            request = encode_candidates(call.candidates)
            return call, request, limit.terms(encode_seconds=time.perf_counter() - started, partial=True)

        call, request, future = await self.submit(admitted, encode, last=True)
        outcome = await asyncio.wrap_future(future)
        scores = request.resolve(model.relevance(outcome.outputs), outcome.scored, outcome.failed)
        scores.check_any_run()
        return call, scores

    async def start(
        self, model: ScoringModel, scheduler: Scheduler, start: Callable[[], _AnyCall], limit: TimeLimit
    ) -> tuple[_AnyCall, ChunkedScoring]:
        """Check the arguments of a call in a thread, to be scored chunk by chunk."""

        def work() -> tuple[_AnyCall, ChunkedScoring]:
            call = start()
            return call, call.in_chunks(model, scheduler, limit)

        return await self.run(work)

    def stop(self) -> None:
        """Let the threads end when they have nothing more to do."""
        pool, self._pool = self._pool, None
        if pool is not None and self._process == os.getpid():
            pool.shutdown(wait=False)


def _given(call: _AnyCall) -> Callable[[], _AnyCall]:
    return lambda: call


class AsyncChunks:
    """`run_chunks` for an event loop: chunks that were submitted and not recorded yet, the oldest first."""

    def __init__(self, scoring: ChunkedScoring, threads: EncoderThreads) -> None:
        """Nothing is submitted yet."""
        self._scoring = scoring
        self._threads = threads
        self._waiting: deque[tuple[Chunk, EncodedCandidates, Future[Outcome]]] = deque()

    async def step(self, call: AdmittedCall) -> bool:
        """Submit what there is room for, then wait for the oldest chunk; returns False when there is none left."""
        scoring = self._scoring
        while len(self._waiting) < CHUNKS_AT_ONCE and (chunk := scoring.next_chunk()) is not None:

            def encode(chunk: Chunk = chunk) -> tuple[Chunk, EncodedCandidates, Terms]:
                return chunk, *scoring.encode(chunk)

            self._waiting.append(await self._threads.submit(call, encode))
        if not self._waiting:
            if scoring.complete:
                scoring.check_any_run()
            return False
        chunk, request, future = self._waiting[0]
        outcome = await asyncio.wrap_future(future)
        self._waiting.popleft()
        scoring.record(chunk, request, outcome)
        return True

    async def run(self, call: AdmittedCall) -> None:
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

    def submit(self, call: AdmittedCall, pairs: EncodedPairs, terms: Terms) -> Future[Outcome]:
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
