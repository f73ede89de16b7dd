"""Scoring candidates chunk by chunk: under a deadline, to show early rankings, or to encode while a GPU scores.

The state is separate from who waits: `run_chunks` waits in a thread, `async_reranker.py` in an event loop. While one
chunk is scored, the next is encoded, so the first scores do not wait for the encoding of all candidates.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

import numpy as np

from crossrank.engine.call.chunks import ENCODE_SECONDS_PER_UNIT, Chunks, EvenChunks
from crossrank.engine.call.encoded_candidates import DocumentScores, candidate_pieces, encode_candidates
from crossrank.engine.schedule.encoders import OutOfTime
from crossrank.engine.schedule.encoding_pieces import Piece
from crossrank.engine.schedule.request import wait_for
from crossrank.engine.schedule.run_results import GIVE_UP_AFTER
from crossrank.engine.text.encoding import EncodedDocuments
from crossrank.errors import ClosedError

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from concurrent.futures import Future

    import numpy.typing as npt

    from crossrank.engine.call.candidates import Candidates
    from crossrank.engine.call.chunks import Chunk
    from crossrank.engine.call.encoded_candidates import EncodedCandidates
    from crossrank.engine.call.model import ScoringModel
    from crossrank.engine.call.results import DocumentWindow
    from crossrank.engine.schedule.encoding_pieces import Pieces
    from crossrank.engine.schedule.request import FailedPair, Outcome, Terms
    from crossrank.engine.schedule.scheduler import Scheduler
    from crossrank.engine.schedule.time_limit import TimeLimit
    from crossrank.engine.text.encoding import EncodedPairs

CHUNKS_AT_ONCE = 2
"""One that is scored and one that waits behind it, so that workers never wait for an encoding."""


class ChunkedScoring:
    """Candidates of one call with the scores they have so far. What the score cache knows is there from the start.

    Attributes:
        estimated_tokens: of all rows that have to be scored, from the length of their texts.
        expected_seconds: predicted for them, on one core.
        terms: the call's.
        check_process: as the scheduler's.
    """

    def __init__(
        self,
        model: ScoringModel,
        scheduler: Scheduler,
        candidates: Candidates,
        order: npt.NDArray[np.int64],
        limit: TimeLimit,
        *,
        needs_all: bool = False,
        documents_at_once: int | None = None,
    ) -> None:
        """Nothing is encoded yet, except queries of which the cache knows scores.

        Args:
            model: turns outputs into logits.
            scheduler: whose clock and predictions count.
            candidates: the d distinct pairs of the caller's n pairs.
            order: the caller's pairs, most promising first, int64 (n,).
            limit: the call's time.
            needs_all: whether the rest is worth nothing once a pair could not be scored in time.
            documents_at_once: candidates of a chunk, longest first; None makes chunks in first-stage order by time.
        """
        self._model = model
        self._needs_all = needs_all
        self._fell_short = False
        self._out_of_time = False
        self._candidates = candidates
        self._limit = limit
        count = len(candidates)
        self._logits = np.full(count, np.nan, dtype=np.float32)
        self._scored = np.zeros(count, dtype=np.bool_)
        self._truncated = np.zeros(count, dtype=np.bool_)
        self._windows: list[DocumentWindow | None] = [None] * count
        self._failed: dict[int, FailedPair] = {}
        self._query_truncated = False
        known = np.flatnonzero(~candidates.unknown)
        if len(known):
            self._take(known, encode_candidates(candidates.only(known)).resolve(np.empty(0, dtype=np.float32)))
        in_order = candidates.distinct_of[order]
        _, first = np.unique(in_order, return_index=True)
        in_order = in_order[np.sort(first)]  # each distinct pair where the first of its equals was
        in_order = in_order[~self._scored[in_order]]
        self._cost = scheduler.cost
        self._expected = self._encoded = 0.0  # seconds of the chunks so far, before and after they were encoded
        work = candidates.expected_work(self._cost)
        self.estimated_tokens = int(work.tokens[in_order].sum())
        self.expected_seconds = float(work.seconds[in_order].sum())
        self.terms = limit.terms()
        fresh = [text for index, text in enumerate(candidates.queries) if index not in candidates.encoded_queries]
        encoder = candidates.encoder
        read = encoder.characters_read(fresh, encoder.max_query_tokens)
        self._query_seconds = max(read, default=0) * ENCODE_SECONDS_PER_UNIT
        self.check_process = scheduler.check_process
        self._clock = scheduler.clock
        self._encoders = scheduler.encoders
        self._times = scheduler.times
        if documents_at_once is not None:
            self._chunks: Chunks | EvenChunks = EvenChunks(
                in_order, work.seconds, candidates.sizes(), at_once=documents_at_once
            )
            return
        self._chunks = Chunks(
            in_order,
            work.seconds,
            candidates.sizes(),
            work.rows,
            workers=scheduler.processors,
            limit=limit.seconds,
            free_encoding=isinstance(candidates.documents, EncodedDocuments),
        )

    @property
    def complete(self) -> bool:
        """Whether all candidates are scored, but for those that failed."""
        return int(self._scored.sum()) + len(self._failed) == len(self._scored)

    def next_chunk(self) -> Chunk | None:
        """Candidates to encode and submit next; None where none or no time are left."""
        if self._out_of_time or (self._needs_all and self._fell_short):
            return None
        deadline = self._limit.deadline
        left = None if deadline is None else deadline - self._clock() - self._query_seconds
        return self._chunks.take(left, self._times.factor)

    def encode(self, chunk: Chunk) -> tuple[EncodedCandidates, Terms] | None:
        """Encode a chunk, waiting for its turns; None where the deadline came before it was done."""
        try:
            return self._encoders.run(self.pieces(chunk), self.terms, chunk.work, self.first_piece(chunk))
        except OutOfTime:
            self.end_early()
            return None

    def pieces(self, chunk: Chunk) -> Pieces[tuple[EncodedCandidates, Terms]]:
        """Encode a chunk piece by piece; from any thread, one chunk at a time."""
        request = yield from candidate_pieces(self._candidates.only(chunk.indices), self._encoders.speed)
        seconds = request.encode_seconds
        self._chunks.encoded(chunk, seconds)
        self._query_seconds = 0.0  # the first chunk had it encoded
        expected = chunk.work - chunk.work_behind
        self._expected += expected
        self._encoded += float(self._cost.seconds(1, request.rows.lengths).sum())
        # The rest is predicted by its characters: it has as many tokens for them as what was encoded.
        behind = chunk.work_behind * self._encoded / self._expected
        return request, self._limit.terms(encode_seconds=seconds, partial=True, work_behind=behind, expected=expected)

    def first_piece(self, chunk: Chunk) -> Piece:
        """What is predicted of a chunk's encoding."""
        return Piece(self._encoders.speed.seconds(len(chunk.indices), chunk.units))

    def end_early(self) -> None:
        """The deadline came while a chunk was encoded: nothing more of the call is."""
        self._out_of_time = True

    def record(self, chunk: Chunk, request: EncodedCandidates, outcome: Outcome) -> None:
        """Take the scores of a chunk, as many as its deadline allowed: those with all of their rows scored."""
        self._fell_short |= not bool(outcome.scored.all())
        logits = self._model.relevance(outcome.outputs)
        self._take(chunk.indices, request.resolve(logits, outcome.scored, outcome.failed))
        if len(self._failed) >= GIVE_UP_AFTER:
            self.check_any_run()

    def check_any_run(self) -> None:
        """Refuse what holds no score because every run so far failed: that is no single document's fault.

        Raises:
            InferenceError: the first of the runs' errors.
        """
        if self._failed and not self._scored.any() and all(pair.in_run for pair in self._failed.values()):
            raise next(iter(self._failed.values())).error

    def document_scores(self) -> DocumentScores:
        """What is known of the caller's pairs so far."""
        of = self._candidates.distinct_of
        windows = [self._windows[index] for index in of.tolist()]
        failed = {index: self._failed[pair] for index, pair in enumerate(of.tolist()) if pair in self._failed}
        return DocumentScores(
            self._logits[of], self._scored[of], self._truncated[of], windows, self._query_truncated, failed
        )

    def _take(self, indices: npt.NDArray[np.int64], document_scores: DocumentScores) -> None:
        done = indices[document_scores.scored]
        self._logits[done] = document_scores.logits[document_scores.scored]
        self._truncated[done] = document_scores.truncated[document_scores.scored]
        self._scored[done] = True
        for index, window, scored in zip(
            indices.tolist(), document_scores.windows, document_scores.scored.tolist(), strict=True
        ):
            if scored:
                self._windows[index] = window
        self._failed.update((int(indices[index]), failure) for index, failure in document_scores.failed.items())
        self._query_truncated = self._query_truncated or document_scores.query_truncated


def run_chunks(
    scoring: ChunkedScoring, submit: Callable[[EncodedPairs, Terms], Future[Outcome]]
) -> Generator[None, None, None]:
    """Score chunk after chunk, yielding after each; what has not started is dropped when the iteration ends early."""
    waiting: deque[tuple[Chunk, EncodedCandidates, Future[Outcome]]] = deque()
    try:
        while True:
            try:
                scoring.check_process()
            except ClosedError:
                waiting.clear()  # nobody answers them here, and a thread that is gone may have held their locks
                raise
            while len(waiting) < CHUNKS_AT_ONCE and (chunk := scoring.next_chunk()) is not None:
                encoded = scoring.encode(chunk)
                if encoded is not None:
                    request, terms = encoded
                    waiting.append((chunk, request, submit(request.rows, terms)))
            if not waiting:
                if scoring.complete:
                    scoring.check_any_run()
                return
            chunk, request, future = waiting.popleft()
            scoring.record(chunk, request, wait_for(future))
            yield
    finally:
        for _, _, future in waiting:
            future.cancel()
