"""The way of one request: check, encode, plan, run, activate, sort."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from crossrank.engine.call.calls import (
    ScoreCall,
    check_complete,
    improving_rankings,
    name_in,
    score_call,
    start_rank,
    start_score,
    start_score_many,
    start_score_pairs,
)
from crossrank.engine.config import RerankerConfig
from crossrank.engine.loaded_model import LoadedModel
from crossrank.engine.text.documents import as_list, document_texts, pair_texts, query_text
from crossrank.engine.text.prepared import PreparedDocuments
from crossrank.errors import TruncationWarning

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from types import TracebackType

    import numpy.typing as npt

    from crossrank.engine.call.encoded_candidates import DocumentScores
    from crossrank.engine.call.results import RankResult, RerankerInfo
    from crossrank.engine.plan.cost import CostModel
    from crossrank.engine.schedule.statistics import BatchObserver, Health, RerankerStats
    from crossrank.engine.schedule.time_limit import TimeLimit
    from crossrank.engine.text.documents import Document
    from crossrank.engine.text.prepared import Documents
    from crossrank.engine.text.windows import LongDocuments
    from crossrank.models.manifest import Activation, PrecisionChoice, ProviderChoice

TRUNCATION = "some texts were longer than the model takes and were cut; rank() says which, info() has the limits"


class ArtifactReranker:
    """Scores query-document pairs with the graphs of one artifact.

    Scores do not depend on batching: `scores[i]` belongs to `documents[i]`, and a pair's score is the same
    whatever shares its run (float32 within 1e-5, int8 bitwise on one machine). May be used from several threads;
    pickles as its configuration; in a child of `fork` it loads sessions of its own at the first call.
    """

    def __init__(  # noqa: PLR0913  one parameter an option
        self,
        artifact: str | Path,
        *,
        provider: ProviderChoice = "auto",
        precision: PrecisionChoice = "auto",
        threads: int | None = None,
        max_length: int | None = None,
        activation: Activation | None = None,
        max_batch_tokens: int | None = None,
        max_queue_tokens: int | None = None,
        max_wait_ms: float = 0.0,
        long_documents: LongDocuments = "truncate",
        score_cache_bytes: int | None = None,
        devices: Sequence[int] | None = None,
        gpu_memory_limit: int | None = None,
        cuda_graphs: bool = True,
    ) -> None:
        """Open an artifact and load its graph; see `RerankerConfig` for the options.

        Raises:
            ArtifactError: the artifact is missing, damaged or foreign.
            InvalidInputError: an option is outside its range.
            MissingDependencyError: onnxruntime is not installed.
            PrecisionError: the artifact has no graph of that precision for the provider.
            ProviderError: the provider does not work here.
        """
        self._open(
            RerankerConfig(
                artifact=Path(artifact).absolute(),
                provider=provider,
                precision=precision,
                threads=threads,
                max_length=max_length,
                activation=activation,
                max_batch_tokens=max_batch_tokens,
                max_queue_tokens=max_queue_tokens,
                max_wait_ms=max_wait_ms,
                long_documents=long_documents,
                score_cache_bytes=score_cache_bytes,
                devices=devices,
                gpu_memory_limit=gpu_memory_limit,
                cuda_graphs=cuda_graphs,
            )
        )

    def _open(self, config: RerankerConfig) -> None:
        self._config = config
        self._loaded = LoadedModel(config)

    def score(
        self, query: str, documents: Documents, *, deadline_ms: float | None = None, priority: int = 0
    ) -> npt.NDArray[np.float32]:
        """Score documents against a query.

        Args:
            query: the query.
            documents: strings, or mappings with a 'text' field; or what `prepare` made of them.
            deadline_ms: milliseconds from the call on, encoding and waiting included, after which it is given up.
            priority: from -4 to 4, larger goes earlier; a step counts as half the work.

        Returns:
            float32 (n,), in the documents' order; larger is more relevant.

        Raises:
            InvalidInputError: a document is no text; the message names its position.
            InferenceError: onnxruntime failed.
            DeadlineExceeded: not all documents were scored in time.
            Overloaded: more tokens wait than `max_queue_tokens`.
            ClosedError: `close` was called.

        Warns:
            TruncationWarning: something was longer than the model takes; `rank` says what.
        """
        limit = self._loaded.time_limit(deadline_ms, priority)
        return self._scores(start_score(self._loaded, query, documents), limit, name_in("documents"))

    def score_pairs(
        self, pairs: Iterable[tuple[str, Document]], *, deadline_ms: float | None = None, priority: int = 0
    ) -> npt.NDArray[np.float32]:
        """Score (query, document) pairs of any queries; float32 (n,) in the pairs' order.

        Args:
            pairs: the pairs.
            deadline_ms: as for `score`.
            priority: as for `score`.

        Raises:
            InvalidInputError: an item is no pair of a string and a document; the message names its position.
            CrossrankError: otherwise as `score`.

        Warns:
            TruncationWarning: something was longer than the model takes.
        """
        limit = self._loaded.time_limit(deadline_ms, priority)
        return self._scores(start_score_pairs(self._loaded, *pair_texts(pairs)), limit, name_in("pairs"))

    def score_many(
        self,
        queries: Iterable[str],
        documents_per_query: Iterable[Iterable[Document]],
        *,
        deadline_ms: float | None = None,
        priority: int = 0,
    ) -> list[npt.NDArray[np.float32]]:
        """Score each query's documents, all of them planned together.

        Args:
            queries: the queries.
            documents_per_query: as many lists of documents.
            deadline_ms: as for `score`, for all of them together.
            priority: as for `score`.

        Returns:
            One float32 array a query, in its documents' order.

        Raises:
            InvalidInputError: the lists differ in length, or an item is unusable.
            CrossrankError: otherwise as `score`.

        Warns:
            TruncationWarning: something was longer than the model takes.
        """
        limit = self._loaded.time_limit(deadline_ms, priority)
        call, counts = start_score_many(self._loaded, queries, documents_per_query)
        if not counts:
            return []
        ends = np.cumsum(counts)

        def name(index: int) -> str:
            of_query = int(np.searchsorted(ends, index, side="right"))
            return f"documents_per_query[{of_query}][{index - int(ends[of_query]) + counts[of_query]}]"

        return np.split(self._scores(call, limit, name), ends[:-1])

    def rank(
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
        """Order documents by their relevance to a query, best first; equal ones keep the documents' order.

        The order is that of the logits: far from 0 an activation gives different logits one and the same float32.

        Args:
            query: the query.
            documents: strings, or mappings with a 'text' field; or what `prepare` made of them.
            top_k: how many to return at most; None returns all. All of them are scored.
            return_documents: whether the results carry the caller's documents.
            deadline_ms: milliseconds from the call on, encoding and waiting included, after which the ranking is made
                of what is scored: documents are scored in first-stage order, and those that time did not
                allow follow the scored ones in that order, with score None.
            first_stage_scores: a number for each document, larger is more promising; None where their order says it.
                Matters with a deadline only.
            priority: from -4 to 4, larger goes earlier; a step counts as half the work.

        Returns:
            The ranking, with what was cut to the model's length and what was not scored.

        Raises:
            InvalidInputError: a document is no text, or an option is outside its range.
            InferenceError: onnxruntime failed.
            Overloaded: more tokens wait than `max_queue_tokens`.
            ClosedError: `close` was called.
        """
        limit = self._loaded.time_limit(deadline_ms, priority)
        call = start_rank(
            self._loaded,
            query,
            documents,
            top_k=top_k,
            return_documents=return_documents,
            first_stage_scores=first_stage_scores,
        )
        return call.ranking(score_call(self._loaded, call, limit))

    def iter_rank(
        self,
        query: str,
        documents: Documents,
        top_k: int | None = None,
        return_documents: bool = True,
        *,
        deadline_ms: float | None = None,
        first_stage_scores: Sequence[float] | npt.NDArray[np.floating] | None = None,
        priority: int = 0,
    ) -> Iterator[RankResult]:
        """Rankings that improve as documents are scored, the first after a few of them.

        Each holds all documents: those not scored yet follow the scored ones in first-stage order. The last
        is what `rank` gives. Ending the iteration early drops what has not started.

        Args:
            query: as for `rank`, likewise the others.
            documents: strings, or mappings with a 'text' field; or what `prepare` made of them.
            top_k: how many to return at most.
            return_documents: whether the results carry the caller's documents.
            deadline_ms: milliseconds from the call on, after which the last ranking comes.
            first_stage_scores: a number for each document, larger is more promising and scored earlier.
            priority: from -4 to 4.

        Returns:
            An iterator over at least one ranking; the arguments are checked before it is returned.

        Raises:
            InvalidInputError: a document is no text, or an option is outside its range.
            InferenceError: onnxruntime failed; while iterating.
            Overloaded: more tokens wait than `max_queue_tokens`; while iterating, before the first ranking.
            ClosedError: `close` was called.
        """
        limit = self._loaded.time_limit(deadline_ms, priority)
        call = start_rank(
            self._loaded,
            query,
            documents,
            top_k=top_k,
            return_documents=return_documents,
            first_stage_scores=first_stage_scores,
        )
        scheduler = self._loaded.scheduler()
        return improving_rankings(call, scheduler, call.in_chunks(self._loaded, scheduler, limit))

    def prepare(self, documents: Documents) -> PreparedDocuments:
        """Encode documents once, to score them against several queries.

        Args:
            documents: strings, or mappings with a 'text' field. What was prepared already is given back.

        Returns:
            A handle that `score` and `rank` take in place of the documents.

        Raises:
            InvalidInputError: a document is no text, or was prepared for another tokenizer or length limit.
            ClosedError: `close` was called.
        """
        self._loaded.check_open()
        if isinstance(documents, PreparedDocuments):
            documents.check_key(self.prepared_key)
            return documents
        items = tuple(as_list(documents))
        scheduler = self._loaded.scheduler()
        encoders = scheduler.encoders
        pieces = self._loaded.finder.prepare(items, document_texts(items), encoders.speed)
        return encoders.run(pieces, self._loaded.time_limit().terms(), 0.0)

    @property
    def prepared_key(self) -> str:
        """Equal for rerankers that take each other's prepared documents."""
        return self._loaded.finder.documents_key

    def score_indices(
        self,
        query: str,
        documents: PreparedDocuments,
        indices: npt.NDArray[np.int64],
        *,
        max_length: int | None = None,
    ) -> DocumentScores:
        """Logits of some prepared documents, on fewer tokens if wanted: what a stage of a cascade needs.

        Args:
            query: the query.
            documents: what `prepare` made.
            indices: which of them, int64 (n,).
            max_length: tokens of a pair, special tokens included, at most the reranker's; only the beginning of each
                document is read then, whatever the windows. None reads as `score` does.

        Returns:
            Logits and what was read of each document, in the order of `indices`; `failed` has those without a logit.

        Raises:
            InvalidInputError: the documents were prepared for another reranker, or `max_length` is outside its range.
            InferenceError: all runs failed.
            ClosedError: `close` was called.
        """
        limit = self._loaded.time_limit()
        candidates = self._loaded.finder.of_prepared(
            query_text(query), documents, indices=indices, max_length=max_length
        )
        call = ScoreCall(candidates, np.arange(len(indices)))
        return score_call(self._loaded, call, limit)

    def activated(self, logits: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Scores of logits, float32 (n,) to float32 (n,), as `score` gives them."""
        return self._loaded.activated(logits)

    def info(self) -> RerankerInfo:
        """What runs: model, graph, provider and why, limits, versions."""
        return self._loaded.info()

    def warmup(self) -> None:
        """Load all sessions and run short and full-length pairs, so that the first call is as fast as the next.

        Raises:
            InferenceError: onnxruntime failed.
            ClosedError: `close` was called.
        """
        self._loaded.warmup()

    def calibrate(self) -> CostModel:
        """Fit the cost model that plans batches to this machine, and remember it for later rerankers.

        Takes about a second for a small model on an idle machine. It changes how fast scores come, not what they are.

        Raises:
            InferenceError: onnxruntime failed.
            CacheFolderError: the fit cannot be kept, because its folder is not there or cannot be written; the message
                names the variable that moves it. This reranker plans by the fit all the same.
            ClosedError: `close` was called.
        """
        return self._loaded.calibrate()

    def stats(self) -> RerankerStats:
        """Requests, failures, waiting and run times, batch sizes, since the model was loaded in this process."""
        return self._loaded.stats()

    def health(self) -> Health:
        """Whether its threads live and it is open; cheap, for a health check."""
        return self._loaded.health()

    def observe_batches(self, observer: BatchObserver | None) -> None:
        """Call a function with every run in this process, for metrics; None ends that.

        It is called from the threads that run batches, so it should be quick. If it raises, it is not called again.

        Args:
            observer: takes a `BatchObserved`; takes the place of an observer given before.

        Raises:
            ClosedError: `close` was called.
        """
        self._loaded.observe(observer)

    def close(self, *, drain: bool = True) -> None:
        """End the calls in progress and free the sessions. Closing twice does nothing.

        Args:
            drain: whether calls in progress get their scores; else they get a ClosedError.
        """
        self._loaded.close(drain=drain)

    def __enter__(self) -> Self:
        """Use as a context manager; leaving it closes."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close."""
        self.close()

    def __getstate__(self) -> object:
        """Pickle as the configuration: a session does not travel, the configuration does."""
        return self._config

    def __setstate__(self, state: Any) -> None:
        """Open the artifact again where the pickle is read."""
        self._open(state)

    @property
    def loaded_model(self) -> LoadedModel:
        """What scores encoded pairs."""
        return self._loaded

    def _scores(self, call: ScoreCall, limit: TimeLimit, name: Callable[[int], str]) -> npt.NDArray[np.float32]:
        scores = score_call(self._loaded, call, limit, _warn_of_truncation)
        check_complete(scores, limit, name)
        return self._loaded.activated(scores.logits)


def _warn_of_truncation() -> None:
    # The text is constant, so that Python's default filter shows it once a place and not once a call. The caller's
    # line is above this function, `score_call`, `_scores` and a public method.
    warnings.warn(TRUNCATION, TruncationWarning, stacklevel=5)
