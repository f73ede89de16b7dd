"""The way of one request: check, encode, plan, run, activate, sort."""

from __future__ import annotations

import dataclasses
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from crossrank.engine.config import RerankerConfig
from crossrank.engine.documents import as_list, checked_top_k, document_texts, pair_texts, query_text
from crossrank.engine.prepared import PreparedDocuments
from crossrank.engine.results import RankedDocument, RankResult
from crossrank.engine.score_cache import ScoreCache
from crossrank.engine.scorer import PairScorer
from crossrank.engine.scoring_request import RequestMaker
from crossrank.engine.windows import as_windows
from crossrank.models.errors import InvalidInputError, TruncationWarning

if TYPE_CHECKING:
    from collections.abc import Iterable
    from types import TracebackType

    import numpy.typing as npt

    from crossrank.engine.config import PrecisionChoice, ProviderChoice
    from crossrank.engine.cost import CostModel
    from crossrank.engine.documents import Document
    from crossrank.engine.prepared import Documents
    from crossrank.engine.results import RerankerInfo
    from crossrank.engine.scoring_request import DocumentScores, ScoringRequest
    from crossrank.engine.windows import LongDocuments
    from crossrank.models.manifest import Activation


class ArtifactReranker:
    """Scores query-document pairs with the graphs of one artifact.

    Scores do not depend on batching: `scores[i]` belongs to `documents[i]`, and a pair's score is the same in any
    company (float32 within 1e-5, int8 bitwise on one machine). May be used from several threads; pickles as its
    configuration; in a child of `fork` it loads sessions of its own at the first call.
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
        long_documents: LongDocuments = "truncate",
        score_cache_bytes: int | None = None,
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
                long_documents=long_documents,
                score_cache_bytes=score_cache_bytes,
            )
        )

    def _open(self, config: RerankerConfig) -> None:
        self._config = config
        self._scorer = PairScorer(config)
        self._cache = ScoreCache(config.score_cache_bytes) if config.score_cache_bytes else None
        self._requests = RequestMaker(
            self._scorer.encoder,
            encoder_key=self._scorer.encoder_key,
            graph=self._scorer.info().graph_sha256,
            windows=as_windows(config.long_documents),
            cache=self._cache,
        )

    def score(self, query: str, documents: Documents) -> npt.NDArray[np.float32]:
        """Score documents against a query.

        Args:
            query: the query.
            documents: strings, or mappings with a 'text' field; or what `prepare` made of them.

        Returns:
            float32 (n,), in the documents' order; larger is more relevant.

        Raises:
            InvalidInputError: a document is no text; the message names its position.
            InferenceError: onnxruntime failed.
            ClosedError: `close` was called.

        Warns:
            TruncationWarning: something was longer than the model takes; `rank` says what.
        """
        _, request = self._one_query(query, documents)
        _warn_of_truncation(request)
        return self._activated(request)

    def score_pairs(self, pairs: Iterable[tuple[str, Document]]) -> npt.NDArray[np.float32]:
        """Score (query, document) pairs of any queries; float32 (n,) in the pairs' order.

        Raises:
            InvalidInputError: an item is no pair of a string and a document; the message names its position.
            InferenceError: onnxruntime failed.
            ClosedError: `close` was called.

        Warns:
            TruncationWarning: something was longer than the model takes.
        """
        queries, texts = pair_texts(pairs)
        self._scorer.check_open()
        request = self._requests.of_texts(queries, np.arange(len(queries)), texts)
        _warn_of_truncation(request)
        return self._activated(request)

    def score_many(
        self, queries: Iterable[str], documents_per_query: Iterable[Iterable[Document]]
    ) -> list[npt.NDArray[np.float32]]:
        """Score each query's documents, all of them planned together.

        Args:
            queries: the queries.
            documents_per_query: as many lists of documents.

        Returns:
            One float32 array a query, in its documents' order.

        Raises:
            InvalidInputError: the lists differ in length, or an item is unusable.
            InferenceError: onnxruntime failed.
            ClosedError: `close` was called.

        Warns:
            TruncationWarning: something was longer than the model takes.
        """
        queries = as_list(queries, "queries", "strings")
        queries = [query_text(query, f"queries[{place}]") for place, query in enumerate(queries)]
        lists = as_list(documents_per_query, "documents_per_query", "lists of documents")
        if len(queries) != len(lists):
            raise InvalidInputError(
                f"{len(queries)} queries, {len(lists)} lists of documents: as many of each expected"
            )
        names = [f"documents_per_query[{place}]" for place in range(len(lists))]
        texts = [document_texts(as_list(item, name), name) for item, name in zip(lists, names, strict=True)]
        counts = [len(item) for item in texts]
        self._scorer.check_open()
        query_of = np.repeat(np.arange(len(queries)), counts)
        request = self._requests.of_texts(queries, query_of, [text for item in texts for text in item])
        _warn_of_truncation(request)
        return np.split(self._activated(request), np.cumsum(counts)[:-1]) if counts else []

    def rank(
        self,
        query: str,
        documents: Documents,
        top_k: int | None = None,
        return_documents: bool = True,
    ) -> RankResult:
        """Order documents by their relevance to a query, best first; equal ones keep the documents' order.

        The order is that of the logits: far from 0 an activation gives different logits one and the same float32.

        Args:
            query: the query.
            documents: strings, or mappings with a 'text' field; or what `prepare` made of them.
            top_k: how many to return at most; None returns all. All of them are scored.
            return_documents: whether the results carry the caller's documents.

        Returns:
            The ranking, with what was cut to the model's length.

        Raises:
            InvalidInputError: a document is no text, or top_k is negative.
            InferenceError: onnxruntime failed.
            ClosedError: `close` was called.
        """
        items, request = self._one_query(query, documents)
        top_k = checked_top_k(top_k, len(items))
        found = request.resolve(self._scorer.logits(request.rows))
        scores = self._scorer.activated(found.logits)
        best_first = np.argsort(-found.logits, kind="stable")[:top_k].tolist()
        return RankResult(
            documents=tuple(
                RankedDocument(
                    index=index,
                    score=float(scores[index]),
                    document=items[index] if return_documents else None,
                    truncated=bool(found.truncated[index]),
                    window=found.windows[index],
                )
                for index in best_first
            ),
            scored=len(items),
            truncated_documents=int(found.truncated.sum()),
            query_truncated=found.query_truncated,
        )

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
        self._scorer.check_open()
        if isinstance(documents, PreparedDocuments):
            if documents.key != self._requests.documents_key:
                raise InvalidInputError(
                    "these documents were prepared by a reranker with another tokenizer or max_length or other "
                    "windows; prepare them with this one"
                )
            return documents
        items = tuple(as_list(documents))
        return self._requests.prepare(items, document_texts(items))

    @property
    def prepared_key(self) -> str:
        """Equal for rerankers that take each other's prepared documents."""
        return self._requests.documents_key

    def score_places(
        self,
        query: str,
        documents: PreparedDocuments,
        places: npt.NDArray[np.int64],
        *,
        max_length: int | None = None,
    ) -> DocumentScores:
        """Logits of some prepared documents, on fewer tokens if wanted: what a stage of a cascade needs.

        Args:
            query: the query.
            documents: what `prepare` made.
            places: which of them, int64 (n,).
            max_length: tokens of a pair, special tokens included, at most the reranker's; only the beginning of each
                document is read then, whatever the windows. None reads as `score` does.

        Returns:
            Logits and what was read of each document, in the order of `places`.

        Raises:
            InvalidInputError: the documents were prepared for another reranker, or `max_length` is outside its range.
            InferenceError: onnxruntime failed.
            ClosedError: `close` was called.
        """
        prepared = self.prepare(documents)
        request = self._requests.of_prepared(query_text(query), prepared, places=places, max_length=max_length)
        return request.resolve(self._scorer.logits(request.rows))

    def activated(self, logits: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Scores of logits, float32 (n,) to float32 (n,), as `score` gives them."""
        return self._scorer.activated(logits)

    def info(self) -> RerankerInfo:
        """What runs: model, graph, provider and why, limits, versions."""
        cache = self._cache.info() if self._cache is not None else None
        return dataclasses.replace(self._scorer.info(), long_documents=self._config.long_documents, score_cache=cache)

    def warmup(self) -> None:
        """Load all sessions and run short and full-length pairs, so that the first call is as fast as the next.

        Raises:
            InferenceError: onnxruntime failed.
            ClosedError: `close` was called.
        """
        self._scorer.load_all()
        info = self.info()
        longest = " ".join(["warm"] * info.max_length)
        for documents in (["warm"], [longest], ["warm"] * (2 * info.threads)):
            # Not through a request, which would score equal documents once.
            encoder = self._scorer.encoder
            query_of = np.zeros(len(documents), dtype=np.int64)
            pairs = encoder.pair([encoder.encode_query("warm")], query_of, encoder.encode_documents(documents))
            self._scorer.score(pairs)

    def calibrate(self) -> CostModel:
        """Fit the cost model that plans batches to this machine, and remember it for later rerankers.

        Takes about a second for a small model on an idle machine. It changes how fast scores come, not what they are.

        Raises:
            InferenceError: onnxruntime failed.
            ClosedError: `close` was called.
        """
        return self._scorer.calibrate()

    def close(self) -> None:
        """Finish the calls in progress and free the sessions. Closing twice does nothing."""
        self._scorer.close()
        if self._cache is not None:
            self._cache.clear()

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

    def _one_query(self, query: str, documents: Documents) -> tuple[tuple[Document, ...], ScoringRequest]:
        """The caller's documents and the request to score them."""
        query = query_text(query)
        if isinstance(documents, PreparedDocuments):
            return documents.items, self._requests.of_prepared(query, self.prepare(documents))
        self._scorer.check_open()
        items = tuple(as_list(documents))
        query_of = np.zeros(len(items), dtype=np.int64)
        return items, self._requests.of_texts([query], query_of, document_texts(items))

    def _activated(self, request: ScoringRequest) -> npt.NDArray[np.float32]:
        return self._scorer.activated(request.resolve(self._scorer.logits(request.rows)).logits)


def _warn_of_truncation(request: ScoringRequest) -> None:
    # The text is constant, so that Python's default filter shows it once a place and not once a call.
    if request.anything_truncated:
        warnings.warn(
            "some texts were longer than the model takes and were cut; rank() says which, info() has the limits",
            TruncationWarning,
            stacklevel=3,
        )
