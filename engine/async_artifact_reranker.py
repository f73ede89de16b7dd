"""The asynchronous reranker: many callers of one event loop, or of several, share the scheduler's queue.

On the event loop a call is accepted, small calls are checked, and scores are looked up in the cache, taken in and
ranked. Texts are encoded and runs planned in a few threads, scores come from the scheduler's workers. A call that is
cancelled, or whose `asyncio.wait_for` times out, leaves the queue.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Self

from crossrank.engine.call.arguments import Caller, name_in
from crossrank.engine.call.calls import pairs_call, prepare_steps, rank_call, score_call
from crossrank.engine.call.drivers import wait_beside_loop

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterable, Sequence
    from types import TracebackType

    import numpy as np
    import numpy.typing as npt

    from crossrank.engine.artifact_reranker import ArtifactReranker
    from crossrank.engine.call.encoded_candidates import DocumentScores
    from crossrank.engine.call.results import RankResult, RerankerInfo
    from crossrank.engine.schedule.statistics import BatchObserver, Health, RerankerStats
    from crossrank.engine.text.documents import Document
    from crossrank.engine.text.prepared import Documents, PreparedDocuments


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
        self,
        query: str,
        documents: Documents,
        *,
        deadline_ms: float | None = None,
        priority: int = 0,
        instruction: str | None = None,
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
        call = score_call(self._caller(deadline_ms, priority), query, documents, instruction)
        scores = await wait_beside_loop(call.scores(), call.encoders)
        return call.complete_scores(scores, name_in("documents"))

    async def score_pairs(
        self,
        pairs: Iterable[tuple[str, Document]],
        *,
        deadline_ms: float | None = None,
        priority: int = 0,
        instruction: str | None = None,
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
        call = pairs_call(self._caller(deadline_ms, priority), pairs, instruction)
        scores = await wait_beside_loop(call.scores(), call.encoders)
        return call.complete_scores(scores, name_in("pairs"))

    async def pair_scores(
        self,
        pairs: Iterable[tuple[str, Document]],
        *,
        deadline_ms: float | None = None,
        priority: int = 0,
        instruction: str | None = None,
    ) -> DocumentScores:
        """The logits of pairs and what is missing or was cut, which `score_pairs` raises or warns of.

        Raises:
            InvalidInputError: an item is no pair of a string and a document; the message names its position.
            InferenceError: onnxruntime failed for all pairs.
            Overloaded: it would wait too long; `expected_wait` and `retry_after` say how long and until when.
            ClosedError: `aclose` was called.
        """
        call = pairs_call(self._caller(deadline_ms, priority), pairs, instruction)
        return await wait_beside_loop(call.scores(), call.encoders)

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
        instruction: str | None = None,
    ) -> RankResult:
        """Order documents by their relevance to a query, best first; see `ArtifactReranker.rank`.

        Raises:
            InvalidInputError: a document is no text, or an option is outside its range.
            InferenceError: onnxruntime failed.
            Overloaded: it would wait too long; `expected_wait` and `retry_after` say how long and until when.
            ClosedError: `aclose` was called.
        """
        call = rank_call(
            self._caller(deadline_ms, priority),
            query,
            documents,
            top_k=top_k,
            return_documents=return_documents,
            first_stage_scores=first_stage_scores,
            instruction=instruction,
        )
        return call.ranking(await wait_beside_loop(call.scores(), call.encoders))

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
        instruction: str | None = None,
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
        call = rank_call(
            self._caller(deadline_ms, priority),
            query,
            documents,
            top_k=top_k,
            return_documents=return_documents,
            first_stage_scores=first_stage_scores,
            instruction=instruction,
            early=True,
        )
        try:
            while (ranking := await wait_beside_loop(call.next_ranking(), call.encoders)) is not None:
                yield ranking
        finally:
            call.cancel()

    async def prepare(self, documents: Documents) -> PreparedDocuments:
        """Encode documents once, to score them against several queries; see `ArtifactReranker.prepare`.

        Raises:
            InvalidInputError: a document is no text, or was prepared for another tokenizer or length limit.
            ClosedError: `aclose` was called.
        """
        caller = self._caller()
        return await wait_beside_loop(prepare_steps(caller, documents), caller.scheduler.encoders)

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

    def __repr__(self) -> str:
        """One line: the reranker whose model and queue it shares."""
        return f"<{type(self).__name__} of {getattr(self, '_reranker', 'nothing')!r}>"

    def __getstate__(self) -> object:
        """Pickle as the reranker, which pickles as its configuration."""
        return self._reranker

    def __setstate__(self, state: Any) -> None:
        """Open the reranker again where the pickle is read."""
        self._reranker = state

    def _caller(self, deadline_ms: float | None = None, priority: int = 0) -> Caller:
        model = self._reranker.loaded_model
        return Caller(model, model.scheduler(), model.time_limit(deadline_ms, priority), asyncio.get_running_loop())
