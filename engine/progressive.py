"""Scoring candidates chunk by chunk: under a deadline, or to show early rankings.

The state is separate from who waits: `run_chunks` waits in a thread, `async_reranker.py` in an event loop. While one
chunk is scored, the next is encoded, so the first scores do not wait for the encoding of all candidates.
"""

from __future__ import annotations

import time
from collections import deque
from typing import TYPE_CHECKING

import numpy as np

from crossrank.engine.chunks import Chunks
from crossrank.engine.encoding import EncodedDocuments
from crossrank.engine.scorer import wait_for
from crossrank.models.errors import DeadlineExceeded

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence
    from concurrent.futures import Future

    import numpy.typing as npt

    from crossrank.engine.chunks import Chunk
    from crossrank.engine.encoding import EncodedPairs, EncodedQuery
    from crossrank.engine.request import Outcome, Terms
    from crossrank.engine.scorer import PairScorer
    from crossrank.engine.time_limit import TimeLimit

CHUNKS_AT_ONCE = 2
"""One that is scored and one that waits behind it, so that workers never wait for an encoding."""
_TOKENS_PER_CHARACTER = 0.25


class ChunkedScoring:
    """Candidates of one call with the scores they have so far.

    Attributes:
        logits: float32 (n,) in the caller's order; undefined where not scored.
        scored: bool (n,), which are scored.
        truncated: bool (n,), which of those were cut to the model's length.
        query_truncated: whether a query was cut.
        estimated_tokens: of all pairs, from the length of their texts.
    """

    def __init__(
        self,
        scorer: PairScorer,
        queries: Sequence[str],
        query_of: npt.NDArray[np.int64],
        documents: Sequence[str] | EncodedDocuments,
        order: npt.NDArray[np.int64],
        limit: TimeLimit,
        *,
        needs_all: bool = False,
    ) -> None:
        """Nothing is encoded yet.

        Args:
            scorer: whose encoder and cost model count.
            queries: the distinct queries.
            query_of: int64 (n,), an index into `queries` for each candidate.
            documents: n texts, or n documents encoded before.
            order: most promising first, int64 (n,).
            limit: the call's time.
            needs_all: whether the rest is worth nothing once a pair could not be scored in time.
        """
        self._scorer = scorer
        self._queries = queries
        self._query_of = query_of
        self._documents = documents
        self._limit = limit
        self._needs_all = needs_all
        self._fell_short = False
        self._encoded_queries: list[EncodedQuery] | None = None
        count = len(query_of)
        self.logits = np.full(count, np.nan, dtype=np.float32)
        self.scored = np.zeros(count, dtype=np.bool_)
        self.truncated = np.zeros(count, dtype=np.bool_)
        self.query_truncated = False
        encoder = scorer.encoder
        if isinstance(documents, EncodedDocuments):
            units, per_unit = documents.full_lengths, 1.0
        else:
            units = np.fromiter((len(text) for text in documents), dtype=np.int64, count=count)
            per_unit = _TOKENS_PER_CHARACTER
        of_queries = np.asarray([len(query) * _TOKENS_PER_CHARACTER for query in queries] or [0.0])
        tokens = encoder.template.special_tokens + of_queries[query_of] + units * per_unit
        lengths = np.minimum(encoder.max_length, tokens)
        self.estimated_tokens = int(lengths.sum())
        scheduler = scorer.scheduler()
        self._clock = scheduler.clock
        self._times = scheduler.times
        self._chunks = Chunks(
            order,
            scheduler.cost.seconds(1, lengths.astype(np.int64)),
            units,
            workers=scheduler.workers,
            limit=limit.seconds,
            free_encoding=isinstance(documents, EncodedDocuments),
        )

    @property
    def complete(self) -> bool:
        """Whether all candidates are scored."""
        return bool(self.scored.all())

    def next_chunk(self) -> Chunk | None:
        """Candidates to encode and submit next; None where none or no time are left."""
        if self._needs_all and self._fell_short:
            return None
        deadline = self._limit.deadline
        left = None if deadline is None else deadline - self._clock()
        return self._chunks.take(left, self._times.factor)

    def encode(self, chunk: Chunk) -> tuple[EncodedPairs, Terms]:
        """Encode a chunk; from any thread, one chunk at a time."""
        started = time.perf_counter()
        encoder = self._scorer.encoder
        if self._encoded_queries is None:
            self._encoded_queries = [encoder.encode_query(query) for query in self._queries]
            self.query_truncated = any(query.truncated for query in self._encoded_queries)
        if isinstance(self._documents, EncodedDocuments):
            documents = subset(self._documents, chunk.indices)
        else:
            documents = encoder.encode_documents([self._documents[index] for index in chunk.indices.tolist()])
        pairs = encoder.pair(self._encoded_queries, self._query_of[chunk.indices], documents)
        seconds = time.perf_counter() - started
        self._chunks.encoded(chunk, seconds)
        return pairs, self._limit.terms(encode_seconds=seconds, partial=True, work_behind=chunk.work_behind)

    def record(self, chunk: Chunk, pairs: EncodedPairs, outcome: Outcome) -> None:
        """Take the scores of a chunk, as many as its deadline allowed."""
        self._fell_short |= not bool(outcome.scored.all())
        done = chunk.indices[outcome.scored]
        self.logits[done] = self._scorer.relevance(outcome.outputs[outcome.scored])
        self.scored[done] = True
        self.truncated[done] = pairs.truncated[outcome.scored]

    def all_logits(self) -> npt.NDArray[np.float32]:
        """The logits of all candidates, float32 (n,).

        Raises:
            DeadlineExceeded: not all were scored.
        """
        if not self.complete:
            raise DeadlineExceeded(
                f"{int(self.scored.sum())} of {len(self.scored)} pairs were scored within "
                f"{(self._limit.seconds or 0) * 1000:.0f} ms; rank(deadline_ms=...) gives what there is"
            )
        return self.logits


def run_chunks(
    scoring: ChunkedScoring, submit: Callable[[EncodedPairs, Terms], Future[Outcome]]
) -> Generator[None, None, None]:
    """Score chunk after chunk, yielding after each; what has not started is dropped when the iteration ends early."""
    waiting: deque[tuple[Chunk, EncodedPairs, Future[Outcome]]] = deque()
    try:
        while True:
            while len(waiting) < CHUNKS_AT_ONCE and (chunk := scoring.next_chunk()) is not None:
                pairs, terms = scoring.encode(chunk)
                waiting.append((chunk, pairs, submit(pairs, terms)))
            if not waiting:
                return
            chunk, pairs, future = waiting.popleft()
            scoring.record(chunk, pairs, wait_for(future))
            yield
    finally:
        for _, _, future in waiting:
            future.cancel()


def subset(documents: EncodedDocuments, indices: npt.NDArray[np.int64]) -> EncodedDocuments:
    """Some of the documents, in the order of `indices`, int64 (b,)."""
    starts, ends = documents.offsets[indices], documents.offsets[indices + 1]
    offsets = np.zeros(len(indices) + 1, dtype=np.int64)
    np.cumsum(ends - starts, out=offsets[1:])
    pieces = [documents.ids[start:end] for start, end in zip(starts.tolist(), ends.tolist(), strict=True)]
    ids = np.concatenate(pieces) if pieces else documents.ids[:0]
    return EncodedDocuments(ids, offsets, documents.full_lengths[indices])
