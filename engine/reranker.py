"""The way of one request: check, encode, plan, run, activate, sort."""

from __future__ import annotations

import os
import threading
import warnings
import weakref
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from crossrank.engine.activation import activate, relevance_logits
from crossrank.engine.config import DEFAULT_BATCH_TOKENS, RerankerConfig
from crossrank.engine.cores import available_cores
from crossrank.engine.cost import CostModel
from crossrank.engine.documents import as_list, checked_top_k, document_texts, pair_texts, query_text
from crossrank.engine.encoding import PairEncoder
from crossrank.engine.executor import Executor
from crossrank.engine.planner import plan
from crossrank.engine.providers import choose_graph, choose_provider
from crossrank.engine.results import RankedDocument, RankResult, RerankerInfo
from crossrank.engine.runtime_build import load_onnxruntime
from crossrank.models.artifact import Artifact
from crossrank.models.errors import ClosedError, InvalidInputError, TruncationWarning

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path
    from types import TracebackType

    import numpy.typing as npt

    from crossrank.engine.config import PrecisionChoice, ProviderChoice
    from crossrank.engine.documents import Document
    from crossrank.engine.encoding import EncodedPairs
    from crossrank.models.manifest import Activation

_alive: weakref.WeakSet[ArtifactReranker] = weakref.WeakSet()


class ArtifactReranker:
    """Scores query-document pairs with the graphs of one artifact.

    Scores do not depend on batching: `scores[i]` belongs to `documents[i]`, and a pair's score is the same in any
    company (float32 within 1e-5, int8 bitwise on one machine). May be used from several threads; pickles as its
    configuration; in a child of `fork` it loads sessions of its own at the first call.
    """

    def __init__(
        self,
        artifact: str | Path,
        *,
        provider: ProviderChoice = "auto",
        precision: PrecisionChoice = "auto",
        threads: int | None = None,
        max_length: int | None = None,
        activation: Activation | None = None,
        max_batch_tokens: int | None = None,
    ) -> None:
        """Open an artifact and load its graph; see `RerankerConfig` for the options.

        Raises:
            ArtifactError: the artifact is missing, damaged or foreign.
            InvalidInputError: an option is outside its range.
            MissingDependencyError: onnxruntime is not installed.
            PrecisionError: the artifact has no graph of that precision for the provider.
            ProviderError: the provider does not work here.
        """
        from pathlib import Path as PathType

        self._start(
            RerankerConfig(
                artifact=PathType(artifact).absolute(),
                provider=provider,
                precision=precision,
                threads=threads,
                max_length=max_length,
                activation=activation,
                max_batch_tokens=max_batch_tokens,
            )
        )

    def _start(self, config: RerankerConfig) -> None:
        self._config = config
        self._artifact = Artifact.open(config.artifact)
        manifest = self._artifact.manifest
        if config.max_length is not None and config.max_length > manifest.max_length:
            raise InvalidInputError(
                f"max_length={config.max_length}: this model reads {manifest.max_length} tokens at most"
            )
        self._resolution = choose_provider(config.provider)
        self._graph = choose_graph(self._artifact, self._resolution.provider, config.precision)
        self._artifact.verify([manifest.tokenizer, self._graph.file, *self._graph.external_data])
        self._activation = config.activation or manifest.activation
        self._threads = config.threads or available_cores()
        self._max_batch_tokens = config.max_batch_tokens or DEFAULT_BATCH_TOKENS[self._resolution.provider]
        self._cost = CostModel.of(manifest.architecture)
        self._encoder = PairEncoder.load(
            self._artifact.path(manifest.tokenizer),
            max_length=config.max_length or manifest.max_length,
            pad_token_id=manifest.pad_token_id,
        )
        self._closed = False
        self._lock = threading.Lock()
        self._executor: Executor | None = self._new_executor()
        _alive.add(self)

    def score(self, query: str, documents: Iterable[Document]) -> npt.NDArray[np.float32]:
        """Score documents against a query.

        Args:
            query: the query.
            documents: strings, or mappings with a 'text' field.

        Returns:
            float32 (n,), in the documents' order; larger is more relevant.

        Raises:
            InvalidInputError: a document is no text; the message names its position.
            InferenceError: onnxruntime failed.
            ClosedError: `close` was called.

        Warns:
            TruncationWarning: something was longer than the model takes; `rank` says what.
        """
        texts = document_texts(as_list(documents))
        pairs = self._encode([query_text(query)], np.zeros(len(texts), dtype=np.int64), texts)
        _warn_of_truncation(pairs)
        return self._score(pairs)

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
        number = {query: place for place, query in enumerate(dict.fromkeys(queries))}
        encoded = self._encode(list(number), np.asarray([number[query] for query in queries], dtype=np.int64), texts)
        _warn_of_truncation(encoded)
        return self._score(encoded)

    def score_many(
        self, queries: Sequence[str], documents_per_query: Sequence[Iterable[Document]]
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
        queries = [query_text(query, f"queries[{place}]") for place, query in enumerate(as_list(queries, "queries"))]  # type: ignore[arg-type]
        lists = list(documents_per_query)
        if len(queries) != len(lists):
            raise InvalidInputError(
                f"{len(queries)} queries, {len(lists)} lists of documents: as many of each expected"
            )
        names = [f"documents_per_query[{place}]" for place in range(len(lists))]
        texts = [document_texts(as_list(item, name), name) for item, name in zip(lists, names, strict=True)]
        counts = [len(item) for item in texts]
        encoded = self._encode(
            queries, np.repeat(np.arange(len(queries)), counts), [text for item in texts for text in item]
        )
        _warn_of_truncation(encoded)
        return np.split(self._score(encoded), np.cumsum(counts)[:-1]) if counts else []

    def rank(
        self,
        query: str,
        documents: Iterable[Document],
        top_k: int | None = None,
        return_documents: bool = True,
    ) -> RankResult:
        """Order documents by their score for a query, best first; equal scores keep the documents' order.

        Args:
            query: the query.
            documents: strings, or mappings with a 'text' field.
            top_k: how many to return at most; None returns all. All of them are scored.
            return_documents: whether the results carry the caller's documents.

        Returns:
            The ranking, with what was cut to the model's length.

        Raises:
            InvalidInputError: a document is no text, or top_k is negative.
            InferenceError: onnxruntime failed.
            ClosedError: `close` was called.
        """
        items = as_list(documents)
        top_k = checked_top_k(top_k, len(items))
        texts = document_texts(items)
        pairs = self._encode([query_text(query)], np.zeros(len(texts), dtype=np.int64), texts)
        scores = self._score(pairs)
        best_first = np.argsort(-scores, kind="stable")[:top_k].tolist()
        return RankResult(
            documents=tuple(
                RankedDocument(
                    index=index,
                    score=float(scores[index]),
                    document=items[index] if return_documents else None,
                    truncated=bool(pairs.truncated[index]),
                )
                for index in best_first
            ),
            scored=len(items),
            truncated_documents=int(pairs.truncated.sum()),
            query_truncated=pairs.queries_truncated,
        )

    def info(self) -> RerankerInfo:
        """What runs: model, graph, provider and why, limits, versions."""
        manifest = self._artifact.manifest
        return RerankerInfo(
            model=manifest.name,
            artifact=str(self._artifact.folder),
            precision=self._graph.precision,
            provider=self._resolution.provider,
            provider_reason=self._resolution.reason,
            threads=self._threads,
            max_length=self._encoder.max_length,
            max_query_tokens=self._encoder.max_query_tokens,
            cut_query_tokens=self._encoder.cut_query_tokens,
            activation=self._activation,
            batching=self._graph.batching,
            max_batch_tokens=self._max_batch_tokens,
            graph_sha256=next(record.sha256 for record in manifest.files if record.path == self._graph.file),
            onnxruntime_version=load_onnxruntime().__version__,
        )

    def warmup(self) -> None:
        """Load all sessions and run a short and a full-length pair, so that the first call is as fast as the next.

        Raises:
            InferenceError: onnxruntime failed.
            ClosedError: `close` was called.
        """
        self._live_executor().load_all()
        longest = " ".join(["warm"] * self._encoder.max_length)
        for documents in (["warm"], [longest], ["warm"] * (2 * self._threads)):
            self._score(self._encode(["warm"], np.zeros(len(documents), dtype=np.int64), documents))

    def close(self) -> None:
        """Finish the calls in progress and free the sessions. Closing twice does nothing."""
        with self._lock:
            executor, self._executor, self._closed = self._executor, None, True
        if executor is not None:
            executor.close()

    def __enter__(self) -> Self:
        """Use as a context manager; leaving it closes."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close."""
        self.close()

    def __getstate__(self) -> object:
        """Pickle as the configuration: a session does not travel, the recipe does."""
        return self._config

    def __setstate__(self, state: Any) -> None:
        """Open the artifact again where the pickle is read."""
        self._start(state)

    def _encode(self, queries: list[str], query_of: npt.NDArray[np.int64], texts: list[str]) -> EncodedPairs:
        if self._closed:
            raise ClosedError("this reranker was closed; make a new one")
        encoded_queries = [self._encoder.encode_query(query) for query in queries]
        return self._encoder.pair(encoded_queries, query_of, self._encoder.encode_documents(texts))

    def _score(self, pairs: EncodedPairs) -> npt.NDArray[np.float32]:
        executor = self._live_executor()
        batches = plan(
            pairs.lengths,
            batching=self._graph.batching,
            cost=self._cost,
            max_batch_tokens=self._max_batch_tokens,
            workers=executor.workers,
        )
        outputs = executor.run(self._encoder, pairs, batches)
        return activate(relevance_logits(outputs, self._artifact.manifest.positive_label), self._activation)

    def _live_executor(self) -> Executor:
        executor = self._executor
        if executor is not None:
            return executor
        with self._lock:
            if self._closed:
                raise ClosedError("this reranker was closed; make a new one")
            if self._executor is None:  # the child of a fork
                self._executor = self._new_executor()
            return self._executor

    def _new_executor(self) -> Executor:
        return Executor(
            self._artifact.path(self._graph.file),
            self._artifact.manifest,
            provider=self._resolution.provider,
            threads=self._threads,
        )

    def _forget_after_fork(self) -> None:
        executor, self._executor, self._lock = self._executor, None, threading.Lock()
        if executor is not None:
            executor.abandon_after_fork()


def _warn_of_truncation(pairs: EncodedPairs) -> None:
    # The text is constant, so that Python's default filter shows it once a place and not once a call.
    if pairs.truncated.any() or pairs.queries_truncated:
        warnings.warn(
            "some texts were longer than the model takes and were cut; rank() says which, info() has the limits",
            TruncationWarning,
            stacklevel=3,
        )


def _after_fork_in_child() -> None:
    for reranker in list(_alive):
        reranker._forget_after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
