"""Scoring the candidates of a call, chunk by chunk: all at once where nothing is gained by parts.

Parts are for a deadline, to show early rankings, or to encode while a GPU scores. While one chunk is scored the next is
encoded, so the first scores do not wait for the encoding of all candidates.
"""

from __future__ import annotations

import dataclasses
from collections import deque
from concurrent.futures import CancelledError, Future
from typing import TYPE_CHECKING

import numpy as np

from crossrank.engine.call.chunks import ENCODE_SECONDS_PER_UNIT, Chunk, TimedChunks, even_chunks
from crossrank.engine.call.drivers import Encode
from crossrank.engine.call.encoded_candidates import DocumentScores, candidate_pieces
from crossrank.engine.schedule.encoders import OutOfTime
from crossrank.engine.schedule.encoding_pieces import Piece
from crossrank.engine.schedule.run_results import GIVE_UP_AFTER
from crossrank.engine.text.encoded import EncodedDocuments

if TYPE_CHECKING:
    import numpy.typing as npt

    from crossrank.engine.call.arguments import Arguments
    from crossrank.engine.call.drivers import Steps
    from crossrank.engine.call.encoded_candidates import EncodedCandidates
    from crossrank.engine.call.model import ScoringModel
    from crossrank.engine.call.results import DocumentWindow
    from crossrank.engine.schedule.admission import AdmittedCall
    from crossrank.engine.schedule.encoding_pieces import Pieces
    from crossrank.engine.schedule.request import FailedPair, Outcome, Terms
    from crossrank.engine.schedule.scheduler import Scheduler
    from crossrank.engine.schedule.time_limit import TimeLimit
    from crossrank.engine.text.encoded import EncodedPairs

_CHUNKS_AT_ONCE = 2
"""One that is scored and one that waits behind it, so that workers never wait for an encoding."""


class Scoring:
    """Candidates of one call with the scores they have so far. What the score cache knows is there from the start.

    Attributes:
        complete: whether all candidates are scored, but for those that failed.
        terms: the call's.
    """

    def __init__(
        self,
        model: ScoringModel,
        scheduler: Scheduler,
        arguments: Arguments,
        limit: TimeLimit,
        *,
        early: bool,
        seconds: float,
        characters: int,
    ) -> None:
        """Take what the cache knows; nothing is encoded yet.

        Args:
            model: turns outputs into logits.
            scheduler: encodes and runs.
            arguments: the call's; d distinct pairs of the caller's n pairs.
            limit: the call's time.
            early: whether scores of the first candidates are wanted before all are scored.
            seconds: predicted for all runs, on one core.
            characters: of all texts.
        """
        self._model = model
        self._scheduler = scheduler
        self._candidates = candidates = arguments.candidates
        self._limit = limit
        self.terms = limit.terms()
        self._needs_all = arguments.needs_all and limit.seconds is not None
        self._ended = False
        count = len(candidates.known)
        self._logits = np.full(count, np.nan, dtype=np.float32)
        self._scored = np.zeros(count, dtype=np.bool_)
        self._truncated = np.zeros(count, dtype=np.bool_)
        self._tokens = np.zeros(count, dtype=np.int64)
        self._windows: list[DocumentWindow | None] = [None] * count
        self._failed: dict[int, FailedPair] = {}
        self._query_truncated = False
        unknown = np.arange(count)
        if candidates.keys:
            self._take_known()
            unknown = np.flatnonzero(~self._scored)
        self.complete = len(unknown) == 0
        self._waiting: deque[tuple[Chunk, EncodedCandidates, Future[Outcome]]] = deque()
        self._timed: TimedChunks | None = None
        self._planned: deque[Chunk] = deque()
        self._query_seconds = 0.0
        self._expected = self._encoded = 0.0  # seconds of the chunks so far, before and after they were encoded
        if early or limit.seconds is not None:
            self._timed = self._chunks_by_time(arguments.order)
            return
        encodes = not isinstance(candidates.documents, EncodedDocuments)
        if encodes and model.documents_at_once is not None and len(unknown) > model.documents_at_once:
            work = candidates.expected_work(scheduler.cost)
            self._planned.extend(even_chunks(unknown, work.seconds, candidates.sizes(), model.documents_at_once))
        elif len(unknown):
            self._planned.append(Chunk(unknown, characters, seconds, 0.0))

    def all_scores(self, admitted: AdmittedCall) -> Steps[DocumentScores]:
        """Go on until there is nothing more to score; for arguments and exceptions see `next_scores`."""
        try:
            while (yield from self.next_scores(admitted)):
                pass
        finally:
            self.cancel()
        return self.document_scores()

    def next_scores(self, admitted: AdmittedCall) -> Steps[bool]:
        """Submit what there is room for, then wait for the oldest chunk; returns False where there is none left.

        Args:
            admitted: the call as it was accepted.

        Raises:
            InferenceError: every run so far failed: that is no single document's fault.
        """
        waiting = self._waiting
        while len(waiting) < _CHUNKS_AT_ONCE and (chunk := self._next_chunk()) is not None:
            yield from self._start(chunk, admitted)
        if not waiting:
            return False
        chunk, encoded, future = waiting[0]
        outcome = yield future
        waiting.popleft()
        self._record(chunk, encoded, outcome)
        return True

    def cancel(self) -> None:
        """Drop what has not started."""
        for _, _, future in self._waiting:
            future.cancel()

    def forget(self) -> None:
        """In a child of fork: nobody answers what was submitted, and a thread that is gone may have held its locks."""
        self._waiting.clear()

    def document_scores(self) -> DocumentScores:
        """What is known of the caller's pairs so far."""
        of = self._candidates.distinct_of
        windows: list[DocumentWindow | None] = [None] * len(of)
        if self._candidates.windows is not None:
            windows = [self._windows[index] for index in of.tolist()]
        failed: dict[int, FailedPair] = {}
        if self._failed:
            failed = {index: self._failed[pair] for index, pair in enumerate(of.tolist()) if pair in self._failed}
        columns = (self._logits[of], self._scored[of], self._truncated[of], windows)
        return DocumentScores(*columns, self._query_truncated, self._tokens[of], failed)

    def _chunks_by_time(self, order: npt.NDArray[np.int64]) -> TimedChunks:
        candidates, scheduler = self._candidates, self._scheduler
        in_order = candidates.distinct_of[order]
        _, first = np.unique(in_order, return_index=True)
        in_order = in_order[np.sort(first)]  # each distinct pair where the first of its equals was
        in_order = in_order[~self._scored[in_order]]
        work = candidates.expected_work(scheduler.cost)
        encoder = candidates.encoder
        fresh = [text for index, text in enumerate(candidates.queries) if index not in candidates.encoded_queries]
        read = encoder.characters_read(fresh, encoder.max_query_tokens)
        self._query_seconds = max(read, default=0) * ENCODE_SECONDS_PER_UNIT
        return TimedChunks(
            in_order,
            work.seconds,
            candidates.sizes(),
            work.rows,
            workers=scheduler.processors,
            limit=self._limit.seconds,
            free_encoding=isinstance(candidates.documents, EncodedDocuments),
        )

    def _next_chunk(self) -> Chunk | None:
        """Candidates to encode and submit next; None where none or no time are left."""
        if self._ended:
            return None
        if self._timed is None:
            return self._planned.popleft() if self._planned else None
        deadline = self.terms.deadline
        left = None if deadline is None else deadline - self._scheduler.clock() - self._query_seconds
        return self._timed.take(left, self._scheduler.times.factor)

    def _start(self, chunk: Chunk, admitted: AdmittedCall) -> Steps[None]:
        """Have a chunk encoded and submitted; where the deadline comes before that, nothing more is encoded.

        Encoding and planning are one piece of work: beside an event loop a thread does both.
        """
        submission = _Submission(admitted)
        first = Piece(self._scheduler.encoders.speed.seconds(len(chunk.indices), chunk.units))
        try:
            encoded = yield Encode(self._encoded_and_submitted(chunk, submission), self.terms, chunk.work, first)
        except BaseException as error:
            submission.abandon()
            if not isinstance(error, OutOfTime):
                raise
            self._ended = True
        else:
            self._waiting.append((chunk, encoded, submission.future))

    def _encoded_and_submitted(self, chunk: Chunk, submission: _Submission) -> Pieces[EncodedCandidates]:
        """Encode a chunk piece by piece, then plan its runs and put it into the queue. An encoder thread may do it."""
        encoded = yield from candidate_pieces(self._candidates, chunk.indices, self._scheduler.encoders.speed)
        seconds = encoded.encode_seconds
        if self._timed is not None:
            self._timed.encoded(chunk, seconds)
        self._query_seconds = 0.0  # the first chunk had it encoded
        expected, behind = chunk.work - chunk.work_behind, chunk.work_behind
        if behind:
            # The rest is predicted by its characters: it has as many tokens for them as what was encoded.
            self._expected += expected
            self._encoded += float(self._scheduler.cost.seconds(1, encoded.rows.lengths).sum())
            behind *= self._encoded / self._expected
        terms = dataclasses.replace(self.terms, encode_seconds=seconds, work_behind=behind, expected=expected)
        submission.submit(encoded.rows, terms)
        return encoded

    def _record(self, chunk: Chunk, encoded: EncodedCandidates, outcome: Outcome) -> None:
        """Take the scores of a chunk, as many as its deadline allowed: those with all of their rows scored."""
        logits = self._model.relevance(outcome.outputs)
        scores = encoded.resolve(logits, outcome.scored, outcome.failed)
        # What is not scored is undefined, so all of it may be taken.
        self._logits[chunk.indices] = scores.logits
        self._scored[chunk.indices] = scores.scored
        self._truncated[chunk.indices] = scores.truncated & scores.scored
        self._tokens[chunk.indices] = scores.tokens * scores.scored
        if self._candidates.windows is not None:
            for index, window, scored in zip(
                chunk.indices.tolist(), scores.windows, scores.scored.tolist(), strict=True
            ):
                self._windows[index] = window if scored else None
        for index, failure in scores.failed.items():
            self._failed[int(chunk.indices[index])] = failure
        self._query_truncated |= scores.query_truncated
        self.complete = int(np.count_nonzero(self._scored)) + len(self._failed) == len(self._scored)
        self._ended |= self._needs_all and not bool(outcome.scored.all())
        if self._failed and (self.complete or len(self._failed) >= GIVE_UP_AFTER):
            self._check_any_run()

    def _take_known(self) -> None:
        for index, known in enumerate(self._candidates.known):
            if known is not None:
                self._logits[index], self._truncated[index] = known.logit, known.truncated
                self._query_truncated |= known.query_truncated
                self._windows[index], self._scored[index] = known.window, True

    def _check_any_run(self) -> None:
        if not self._scored.any() and all(pair.in_run for pair in self._failed.values()):
            raise next(iter(self._failed.values())).error


class _Submission:
    """What may be submitted in another thread than that of its caller, who may be gone by then: it costs nothing then.

    Attributes:
        future: of what was submitted.
    """

    future: Future[Outcome]

    def __init__(self, admitted: AdmittedCall) -> None:
        self._admitted = admitted
        self._abandoned = False

    def submit(self, rows: EncodedPairs, terms: Terms) -> None:
        """Submit a chunk. After all of a call without a deadline nothing more comes of it: it needs nobody."""
        if not self._was_abandoned():
            self.future = self._admitted.submit(rows, terms)
            if not self._was_abandoned():  # else between the two lines: of the two sides at least one sees it
                if terms.deadline is None and not terms.work_behind:
                    self._admitted.leave()
                return
            self.future.cancel()
        raise CancelledError

    def abandon(self) -> None:
        # Without a lock: an event loop must not wait for a thread that plans runs.
        self._abandoned = True
        if hasattr(self, "future"):
            self.future.cancel()

    def _was_abandoned(self) -> bool:
        return self._abandoned
