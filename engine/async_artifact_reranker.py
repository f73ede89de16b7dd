"""The asynchronous reranker: many callers of one event loop, or of several, share the scheduler's queue.

On the event loop a call only waits, and makes a ranking of its scores: texts are encoded and runs planned in a few
threads, scores come from the scheduler's workers. A call that is cancelled, or whose `asyncio.wait_for` times out,
leaves the queue.
"""

from __future__ import annotations

import asyncio
import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import numpy as np

from crossrank.engine.artifact_reranker import TRUNCATION
from crossrank.engine.call.async_calls import AsyncCall, AsyncChunks, in_turns
from crossrank.engine.call.calls import RankCall, check_complete, name_in, start_rank, start_score, start_score_pairs
from crossrank.engine.schedule.admission import Bounds
from crossrank.engine.schedule.admitted_call import AdmittedCall
from crossrank.engine.schedule.encoding_pieces import Piece
from crossrank.engine.text.documents import TEXT_FIELD, as_list, document_texts, pair_texts
from crossrank.engine.text.prepared import PreparedDocuments
from crossrank.errors import TruncationWarning

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterable, Sequence
    from types import TracebackType

    import numpy.typing as npt

    from crossrank.engine.artifact_reranker import ArtifactReranker
    from crossrank.engine.call.encoded_candidates import DocumentScores
    from crossrank.engine.call.results import RankResult, RerankerInfo
    from crossrank.engine.schedule.encoding_pieces import Pieces
    from crossrank.engine.schedule.statistics import BatchObserver, Health, RerankerStats
    from crossrank.engine.schedule.time_limit import TimeLimit
    from crossrank.engine.text.documents import Document
    from crossrank.engine.text.prepared import Documents

LONGEST_WAIT = 4.0
"""Seconds that a call may wait for others: enough for the bursts of a machine that is 70% busy, and few callers stay
longer."""
QUEUE_TOKENS = 10_000_000
"""Tokens of all callers that may wait where no number was given: about 100 MB with their texts."""
_CHARACTERS_PER_TOKEN = 4


class AsyncArtifactReranker:
    """Scores query-document pairs for callers of an event loop.

    Scores are those of the `ArtifactReranker` it is made of, whoever else calls. Every method may be called from
    several event loops and threads.
    """

    def __init__(self, reranker: ArtifactReranker) -> None:
        """Share a reranker's model and queue; closing one closes both.

        Args:
            reranker: may be used synchronously as well.
        """
        self._reranker = reranker

    async def score(
        self, query: str, documents: Documents, *, deadline_ms: float | None = None, priority: int = 0
    ) -> npt.NDArray[np.float32]:
        """Score documents against a query, float32 (n,) in their order; see `ArtifactReranker.score`.

        Raises:
            InvalidInputError: a document is no text; the message names its position.
            InferenceError: onnxruntime failed.
            DeadlineExceeded: not all documents were scored in time.
            Overloaded: it would wait too long; `expected_wait` and `retry_after` say how long and until when.
            ClosedError: `aclose` was called.

        Warns:
            TruncationWarning: something was longer than the model takes; `rank` says what.
        """
        model = self._reranker.loaded_model
        limit = model.time_limit(deadline_ms, priority)
        documents = _read_once(documents)
        size = _Size.of(documents, (query,))
        with self._accept(size, limit) as admitted:
            call = AsyncCall(model, lambda: start_score(model, query, documents), limit, *size.counts)
            _, scores = await call.score(admitted)
        return self._complete(scores, limit, "documents")

    async def score_pairs(
        self, pairs: Iterable[tuple[str, Document]], *, deadline_ms: float | None = None, priority: int = 0
    ) -> npt.NDArray[np.float32]:
        """Score (query, document) pairs of any queries, float32 (n,) in their order.

        Raises:
            InvalidInputError: an item is no pair of a string and a document; the message names its position.
            InferenceError: onnxruntime failed.
            DeadlineExceeded: not all pairs were scored in time.
            Overloaded: it would wait too long; `expected_wait` and `retry_after` say how long and until when.
            ClosedError: `aclose` was called.

        Warns:
            TruncationWarning: something was longer than the model takes.
        """
        model = self._reranker.loaded_model
        limit = model.time_limit(deadline_ms, priority)
        queries, texts = pair_texts(pairs)
        size = _Size.of(texts, queries)
        with self._accept(size, limit) as admitted:
            call = AsyncCall(model, lambda: start_score_pairs(model, queries, texts), limit, *size.counts)
            _, scores = await call.score(admitted)
        return self._complete(scores, limit, "pairs")

    async def rank(
        self,
        query: str,
        documents: Documents,
        top_k: int | None = None,
        return_documents: bool = True,
        *,
        deadline_ms: float | None = None,
        first_stage_scores: Sequence[float] | npt.NDArray[np.floating] | None = None,
        priority: int = 0,
    ) -> RankResult:
        """Order documents by their relevance to a query, best first; see `ArtifactReranker.rank`.

        Raises:
            InvalidInputError: a document is no text, or an option is outside its range.
            InferenceError: onnxruntime failed.
            Overloaded: it would wait too long; `expected_wait` and `retry_after` say how long and until when.
            ClosedError: `aclose` was called.
        """
        model = self._reranker.loaded_model
        limit = model.time_limit(deadline_ms, priority)
        documents = _read_once(documents)

        def start() -> RankCall:
            return start_rank(
                model,
                query,
                documents,
                top_k=top_k,
                return_documents=return_documents,
                first_stage_scores=first_stage_scores,
            )

        size = _Size.of(documents, (query,))
        with self._accept(size, limit) as admitted:
            call, scores = await AsyncCall(model, start, limit, *size.counts).score(admitted)
        return call.ranking(scores)

    async def aiter_rank(
        self,
        query: str,
        documents: Documents,
        top_k: int | None = None,
        return_documents: bool = True,
        *,
        deadline_ms: float | None = None,
        first_stage_scores: Sequence[float] | npt.NDArray[np.floating] | None = None,
        priority: int = 0,
    ) -> AsyncGenerator[RankResult, None]:
        """Rankings that improve as documents are scored; see `ArtifactReranker.iter_rank`.

        Yields:
            At least one ranking; the last is what `rank` gives.

        Raises:
            InvalidInputError: a document is no text, or an option is outside its range.
            InferenceError: onnxruntime failed.
            Overloaded: it would wait too long, before the first ranking.
            ClosedError: `aclose` was called.
        """
        model = self._reranker.loaded_model
        limit = model.time_limit(deadline_ms, priority)
        documents = _read_once(documents)

        def start() -> RankCall:
            return start_rank(
                model,
                query,
                documents,
                top_k=top_k,
                return_documents=return_documents,
                first_stage_scores=first_stage_scores,
            )

        size, scheduler = _Size.of(documents, (query,)), model.scheduler()
        call, scoring = await AsyncCall(model, start, limit, *size.counts).in_chunks(scheduler)
        chunks = AsyncChunks(scoring, scheduler)
        started = yielded = False
        try:
            while True:
                # A call for each chunk: a stream that nobody reads on must not keep the reranker from closing.
                with self._accept(_Size.nothing() if started else size, limit, continues=started) as admitted:
                    started = True
                    if not await chunks.step(admitted):
                        break
                yielded = True
                yield call.ranking(scoring.document_scores(), final=scoring.complete)
        finally:
            chunks.cancel()
        if not yielded or not scoring.complete:
            yield call.ranking(scoring.document_scores())

    async def prepare(self, documents: Documents) -> PreparedDocuments:
        """Encode documents once, to score them against several queries; see `ArtifactReranker.prepare`.

        Raises:
            InvalidInputError: a document is no text, or was prepared for another tokenizer or length limit.
            ClosedError: `aclose` was called.
        """
        self._reranker.loaded_model.check_open()
        documents = _read_once(documents)
        if isinstance(documents, PreparedDocuments):
            return self._reranker.prepare(documents)
        model = self._reranker.loaded_model
        scheduler, size = model.scheduler(), _Size.of(documents, ())

        def pieces() -> Pieces[PreparedDocuments]:
            yield first
            texts = document_texts(documents)
            return (yield from model.finder.prepare(documents, texts, scheduler.encoders.speed))

        first = Piece(scheduler.encoders.speed.seconds(*size.counts))
        return await in_turns(scheduler, pieces(), model.time_limit().terms(), 0.0, first)

    async def warmup(self) -> None:
        """Load all sessions and run short and full-length pairs, so that the first call is as fast as the next.

        Raises:
            InferenceError: onnxruntime failed.
            ClosedError: `aclose` was called.
        """
        await asyncio.to_thread(self._reranker.warmup)

    def info(self) -> RerankerInfo:
        """What runs: model, graph, provider and why, limits, versions."""
        return self._reranker.info()

    def stats(self) -> RerankerStats:
        """Requests, failures, waiting and run times, batch sizes, since the model was loaded in this process."""
        return self._reranker.stats()

    def health(self) -> Health:
        """Whether its threads live and it is open; cheap, for a health check."""
        return self._reranker.health()

    def observe_batches(self, observer: BatchObserver | None) -> None:
        """Call a function with every run; see `ArtifactReranker.observe_batches`.

        Raises:
            ClosedError: `aclose` was called.
        """
        self._reranker.observe_batches(observer)

    async def aclose(self, *, drain: bool = True) -> None:
        """End the calls in progress and free the sessions. Closing twice does nothing.

        Args:
            drain: whether calls in progress get their scores; else they get a ClosedError.
        """
        await asyncio.to_thread(self._reranker.close, drain=drain)

    async def __aenter__(self) -> Self:
        """Use as an asynchronous context manager; leaving it closes."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close: draining, or after an error cancelling what still waits."""
        await self.aclose(drain=kind is None)

    def __getstate__(self) -> object:
        """Pickle as the reranker, which pickles as its configuration."""
        return self._reranker

    def __setstate__(self, state: Any) -> None:
        """Open the reranker again where the pickle is read."""
        self._reranker = state

    def _accept(self, size: _Size, limit: TimeLimit, *, continues: bool = False) -> AdmittedCall:
        """Enter the queue with an estimate of the work, before anything is encoded."""
        model = self._reranker.loaded_model
        scheduler = model.scheduler()
        tokens = model.finder.estimated_tokens(size.tokens)
        return AdmittedCall(
            scheduler,
            tokens,
            seconds=scheduler.expected_seconds(tokens, len(size.tokens)),
            terms=limit.terms(),
            bounds=Bounds(LONGEST_WAIT, scheduler.bounds.tokens or QUEUE_TOKENS),
            continues=continues,
            loop=asyncio.get_running_loop(),
        )

    def _complete(self, document_scores: DocumentScores, limit: TimeLimit, argument: str) -> npt.NDArray[np.float32]:
        check_complete(document_scores, limit, name_in(argument))
        if document_scores.anything_truncated:
            warnings.warn(TRUNCATION, TruncationWarning, stacklevel=3)
        return self._reranker.activated(document_scores.logits)


class _Size(NamedTuple):
    """How large a call is, before its arguments are checked.

    Attributes:
        tokens: of each document and its query, about, int64 (n,).
        characters: that have to be encoded, of queries and documents together.
    """

    tokens: npt.NDArray[np.int64]
    characters: int

    @property
    def counts(self) -> tuple[int, int]:
        """Documents and characters."""
        return len(self.tokens), self.characters

    @classmethod
    def of(cls, documents: Sequence[object] | PreparedDocuments, queries: Sequence[object]) -> _Size:
        """Of documents and as many queries, or one for all, or none."""
        of_queries = np.fromiter(map(_characters, queries), dtype=np.int64, count=len(queries))
        query_tokens = of_queries // _CHARACTERS_PER_TOKEN + 1 if len(queries) else 0
        if isinstance(documents, PreparedDocuments):
            tokens = documents.encoded.full_lengths[documents.text_of]
            return cls(tokens + query_tokens, int(of_queries.sum()))
        characters = np.fromiter(map(_characters, documents), dtype=np.int64, count=len(documents))
        tokens = characters // _CHARACTERS_PER_TOKEN + 1
        return cls(tokens + query_tokens, int(of_queries.sum() + characters.sum()))

    @classmethod
    def nothing(cls) -> _Size:
        return cls(np.empty(0, dtype=np.int64), 0)


def _read_once(documents: Documents) -> tuple[Document, ...] | PreparedDocuments:
    """The caller's documents as they are now, so that a thread may read them."""
    return documents if isinstance(documents, PreparedDocuments) else tuple(as_list(documents))


def _characters(document: object) -> int:
    """Length of a document's text; what is no document is refused later, with its place."""
    text = document.get(TEXT_FIELD) if isinstance(document, Mapping) else document
    return len(text) if isinstance(text, str) else 0
