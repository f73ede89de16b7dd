"""The way of one request: check, encode, plan, run, activate, sort."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from crossrank.engine.config import RerankerConfig
from crossrank.engine.documents import as_list, checked_top_k, document_texts, pair_texts, query_text
from crossrank.engine.prepared import PreparedDocuments
from crossrank.engine.results import RankedDocument, RankResult
from crossrank.engine.scorer import PairScorer
from crossrank.models.errors import InvalidInputError, TruncationWarning

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from types import TracebackType

    import numpy.typing as npt

    from crossrank.engine.config import PrecisionChoice, ProviderChoice
    from crossrank.engine.cost import CostModel
    from crossrank.engine.documents import Document
    from crossrank.engine.encoding import EncodedDocuments, EncodedPairs
    from crossrank.engine.prepared import Documents
    from crossrank.engine.results import RerankerInfo
    from crossrank.models.manifest import Activation


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
        self._open(
            RerankerConfig(
                artifact=Path(artifact).absolute(),
                provider=provider,
                precision=precision,
                threads=threads,
                max_length=max_length,
                activation=activation,
                max_batch_tokens=max_batch_tokens,
            )
        )

    def _open(self, config: RerankerConfig) -> None:
        self._config = config
        self._scorer = PairScorer(config)

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
        query = query_text(query)
        pairs = self._one_query_pairs(query, self.prepare(documents))
        _warn_of_truncation(pairs)
        return self._scorer.score(pairs)

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
        query_of = np.asarray([number[query] for query in queries], dtype=np.int64)
        encoded = self._pairs(list(number), query_of, self._encode_documents(texts))
        _warn_of_truncation(encoded)
        return self._scorer.score(encoded)

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
        documents = self._encode_documents([text for item in texts for text in item])
        encoded = self._pairs(queries, np.repeat(np.arange(len(queries)), counts), documents)
        _warn_of_truncation(encoded)
        return np.split(self._scorer.score(encoded), np.cumsum(counts)[:-1]) if counts else []

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
        query = query_text(query)
        prepared = self.prepare(documents)
        items = prepared.items
        top_k = checked_top_k(top_k, len(items))
        pairs = self._one_query_pairs(query, prepared)
        logits = self._scorer.logits(pairs)
        scores = self._scorer.activated(logits)
        best_first = np.argsort(-logits, kind="stable")[:top_k].tolist()
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
            if documents.encoder_key != self._scorer.encoder_key:
                raise InvalidInputError(
                    "these documents were prepared by a reranker with another tokenizer or max_length; "
                    "prepare them with this one"
                )
            return documents
        items = tuple(as_list(documents))
        encoded = self._encode_documents(document_texts(items))
        return PreparedDocuments(items, encoded, self._scorer.encoder_key)

    def info(self) -> RerankerInfo:
        """What runs: model, graph, provider and why, limits, versions."""
        return self._scorer.info()

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
            self._scorer.score(self._one_query_pairs("warm", self.prepare(documents)))

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

    def _one_query_pairs(self, query: str, prepared: PreparedDocuments) -> EncodedPairs:
        return self._pairs([query], np.zeros(len(prepared), dtype=np.int64), prepared.encoded)

    def _pairs(
        self, queries: Sequence[str], query_of: npt.NDArray[np.int64], documents: EncodedDocuments
    ) -> EncodedPairs:
        encoder = self._scorer.encoder
        return encoder.pair([encoder.encode_query(query) for query in queries], query_of, documents)

    def _encode_documents(self, texts: Sequence[str]) -> EncodedDocuments:
        self._scorer.check_open()
        return self._scorer.encoder.encode_documents(texts)


def _warn_of_truncation(pairs: EncodedPairs) -> None:
    # The text is constant, so that Python's default filter shows it once a place and not once a call.
    if pairs.truncated.any() or pairs.queries_truncated:
        warnings.warn(
            "some texts were longer than the model takes and were cut; rank() says which, info() has the limits",
            TruncationWarning,
            stacklevel=3,
        )
