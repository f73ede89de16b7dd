"""Encoding and submitting beside an event loop, and waiting there for the scores.

Texts are encoded and runs planned in a few threads, so the event loop only waits. A call may be cancelled at any
moment: before its encoding starts, during it, between that and the queue, in the queue. Nothing of it is scored
afterwards, except runs that are in progress.
"""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

from crossrank.engine.call.calls import ScoreCall, scores_while_encoding
from crossrank.engine.call.chunked_scoring import CHUNKS_AT_ONCE
from crossrank.engine.call.encoded_candidates import candidate_pieces
from crossrank.engine.schedule.encoders import OutOfTime
from crossrank.engine.schedule.encoding_pieces import Piece

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Future

    from crossrank.engine.call.chunked_scoring import ChunkedScoring
    from crossrank.engine.call.chunks import Chunk
    from crossrank.engine.call.encoded_candidates import DocumentScores, EncodedCandidates
    from crossrank.engine.call.model import ScoringModel
    from crossrank.engine.schedule.admitted_call import AdmittedCall
    from crossrank.engine.schedule.encoding_pieces import Pieces
    from crossrank.engine.schedule.request import Outcome, Terms
    from crossrank.engine.schedule.scheduler import Scheduler
    from crossrank.engine.schedule.time_limit import TimeLimit
    from crossrank.engine.text.encoding import EncodedPairs

_Result = TypeVar("_Result")
_AnyCall = TypeVar("_AnyCall", bound=ScoreCall)
_CHECKED_ON_LOOP_DOCUMENTS, _CHECKED_ON_LOOP_CHARACTERS = 256, 100_000
"""Larger calls are checked in a thread; smaller ones take less than a millisecond, and a hand-over would cost more."""


@dataclass(frozen=True)
class AsyncCall(Generic[_AnyCall]):
    """A call that an event loop waits for.

    Attributes:
        model: scores it.
        start: checks its arguments and finds its candidates.
        limit: its time.
        documents: how many it has.
        characters: of its query and documents together.
    """

    model: ScoringModel
    start: Callable[[], _AnyCall]
    limit: TimeLimit
    documents: int
    characters: int

    async def score(self, admitted: AdmittedCall) -> tuple[_AnyCall, DocumentScores]:
        """`score_call` for an event loop: check the arguments, encode in a thread, submit, and wait."""
        scheduler, model = admitted.scheduler, self.model
        if self.limit.seconds is not None:
            call, scoring = await self.in_chunks(scheduler)
            await AsyncChunks(scoring, scheduler).run(admitted)
            return call, scoring.document_scores()
        call = await self._checked(scheduler, self.start)
        if scores_while_encoding(model, call):
            scoring = call.while_encoding(model, scheduler, self.limit)
            await AsyncChunks(scoring, scheduler).run(admitted)
            return call, scoring.document_scores()
        submission = _Submission()

        def pieces() -> Pieces[tuple[EncodedCandidates, Future[Outcome]]]:
            encoded = yield from candidate_pieces(call.candidates, scheduler.encoders.speed)
            seconds = encoded.encode_seconds
            terms = self.limit.terms(encode_seconds=seconds, partial=True, expected=admitted.seconds)
            future = submission.submit(admitted, encoded.rows, terms)
            admitted.leave()  # it submits nothing more, so nothing of it needs the event loop
            return encoded, future

        terms = self.limit.terms()
        encoded, future = await submission.made_by(scheduler, pieces(), terms, admitted.seconds, self._piece(scheduler))
        outcome = await asyncio.wrap_future(future)
        scores = encoded.resolve(model.relevance(outcome.outputs), outcome.scored, outcome.failed)
        scores.check_any_run()
        return call, scores

    async def in_chunks(self, scheduler: Scheduler) -> tuple[_AnyCall, ChunkedScoring]:
        """Check the arguments of a call that is scored chunk by chunk."""

        def start() -> tuple[_AnyCall, ChunkedScoring]:
            call = self.start()
            return call, call.in_chunks(self.model, scheduler, self.limit)

        return await self._checked(scheduler, start)

    async def _checked(self, scheduler: Scheduler, start: Callable[[], _Result]) -> _Result:
        """What `start` gives: at once, or of a large call from a thread."""
        if self.documents <= _CHECKED_ON_LOOP_DOCUMENTS and self.characters <= _CHECKED_ON_LOOP_CHARACTERS:
            return start()
        try:
            return await in_turns(scheduler, _one_piece(start), self.limit.terms(), 0.0, self._piece(scheduler))
        except OutOfTime:
            return start()  # an answer without a score names the documents, too

    def _piece(self, scheduler: Scheduler) -> Piece:
        return Piece(scheduler.encoders.speed.seconds(self.documents, self.characters))


class AsyncChunks:
    """`run_chunks` for an event loop: chunks that were submitted and not recorded yet, the oldest first."""

    def __init__(self, scoring: ChunkedScoring, scheduler: Scheduler) -> None:
        """Submit nothing yet.

        Args:
            scoring: the call.
            scheduler: encodes.
        """
        self._scoring = scoring
        self._scheduler = scheduler
        self._waiting: deque[tuple[Chunk, EncodedCandidates, Future[Outcome]]] = deque()

    async def step(self, call: AdmittedCall) -> bool:
        """Submit what there is room for, then wait for the oldest chunk; returns False when there is none left."""
        scoring = self._scoring
        while len(self._waiting) < CHUNKS_AT_ONCE and (chunk := scoring.next_chunk()) is not None:
            try:
                self._waiting.append(await self._submitted(call, chunk))
            except OutOfTime:
                scoring.end_early()
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

    async def _submitted(self, call: AdmittedCall, chunk: Chunk) -> tuple[Chunk, EncodedCandidates, Future[Outcome]]:
        scoring, submission = self._scoring, _Submission()

        def pieces() -> Pieces[tuple[EncodedCandidates, Future[Outcome]]]:
            request, terms = yield from scoring.pieces(chunk)
            return request, submission.submit(call, request.rows, terms)

        first = scoring.first_piece(chunk)
        request, future = await submission.made_by(self._scheduler, pieces(), scoring.terms, chunk.work, first)
        return chunk, request, future


async def in_turns(
    scheduler: Scheduler, pieces: Pieces[_Result], terms: Terms, scoring_seconds: float, first: Piece
) -> _Result:
    """`Encoders.run` for an event loop: encoder threads do the pieces.

    Raises:
        OutOfTime: the deadline came; what is left is not encoded.
    """
    future = scheduler.encoders.begin(pieces, terms, scoring_seconds, first)
    left = None if terms.deadline is None else max(0.0, terms.deadline - scheduler.clock())
    try:
        return await asyncio.wait_for(asyncio.wrap_future(future), left)
    except TimeoutError:
        if future.done() and not future.cancelled() and future.exception() is not None:
            raise
        raise OutOfTime from None
    finally:
        future.cancel()


def _one_piece(work: Callable[[], _Result]) -> Pieces[_Result]:
    yield Piece(0.0)
    return work()


class _Submission:
    """What a thread submits for a coroutine that may be cancelled meanwhile: then it costs nothing."""

    def __init__(self) -> None:
        self._abandoned = False
        self._future: Future[Outcome] | None = None

    async def made_by(
        self, scheduler: Scheduler, pieces: Pieces[_Result], terms: Terms, scoring_seconds: float, first: Piece
    ) -> _Result:
        """The result of pieces that submit."""
        try:
            return await in_turns(scheduler, pieces, terms, scoring_seconds, first)
        except BaseException:
            self._abandon()
            raise

    def submit(self, call: AdmittedCall, pairs: EncodedPairs, terms: Terms) -> Future[Outcome]:
        if not self._abandoned:
            self._future = future = call.submit(pairs, terms)
            if not self._was_abandoned():  # else between the two lines: of the two sides at least one sees it
                return future
            future.cancel()
        raise asyncio.CancelledError

    def _abandon(self) -> None:
        # Without a lock: the event loop must not wait for a thread that plans runs.
        self._abandoned = True
        if self._future is not None:
            self._future.cancel()

    def _was_abandoned(self) -> bool:
        return self._abandoned
