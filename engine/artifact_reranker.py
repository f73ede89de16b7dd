"""Scoring and ranking in the calling thread; `call/call_steps.py` has the way of a call."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from crossrank.engine.call.arguments import Caller, name_in
from crossrank.engine.call.calls import (
    indices_call,
    many_call,
    pairs_call,
    prepare_steps,
    rank_call,
    repeated_call,
    score_call,
)
from crossrank.engine.call.drivers import wait_in_thread
from crossrank.engine.open_model import OpenModel

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    import numpy.typing as npt

    from crossrank.engine.call.arguments import RankArguments
    from crossrank.engine.call.call_steps import Call
    from crossrank.engine.call.encoded_candidates import DocumentScores
    from crossrank.engine.call.results import RankResult
    from crossrank.engine.text.documents import Document
    from crossrank.engine.text.prepared import Documents, PreparedDocuments


class ArtifactReranker(OpenModel):
    """Scores query-document pairs with the graphs of one artifact.

    Scores do not depend on batching: `scores[i]` belongs to `documents[i]`, and a pair's score is the same
    whatever shares its run (float32 within 1e-5, int8 bitwise on one machine). May be used from several threads;
    pickles as its configuration; in a child of `fork` it loads sessions of its own at the first call.
    """

    def score(
        self,
        query: str,
        documents: Documents,
        *,
        deadline_ms: float | None = None,
        priority: int = 0,
        instruction: str | None = None,
    ) -> npt.NDArray[np.float32]:
        """Score documents against a query.

        Args:
            query: the query.
            documents: strings, or mappings with a 'text' field; or what `prepare` made of them.
            deadline_ms: milliseconds from the call on, encoding and waiting included, after which it is given up.
            priority: from -4 to 4, larger goes earlier; a step counts as half the work.
            instruction: what documents are judged by, for models that take one; None for the reranker's.

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
        call = score_call(self._caller(deadline_ms, priority), query, documents, instruction)
        return call.complete_scores(wait_in_thread(call.scores(), call.encoders), name_in("documents"))

    def score_pairs(
        self,
        pairs: Iterable[tuple[str, Document]],
        *,
        deadline_ms: float | None = None,
        priority: int = 0,
        instruction: str | None = None,
    ) -> npt.NDArray[np.float32]:
        """Score (query, document) pairs of any queries; float32 (n,) in the pairs' order.

        Args:
            pairs: the pairs.
            deadline_ms: as for `score`.
            priority: as for `score`.
            instruction: as for `score`.

        Raises:
            InvalidInputError: an item is no pair of a string and a document; the message names its position.
            CrossrankError: otherwise as `score`.

        Warns:
            TruncationWarning: something was longer than the model takes.
        """
        call = pairs_call(self._caller(deadline_ms, priority), pairs, instruction)
        return call.complete_scores(wait_in_thread(call.scores(), call.encoders), name_in("pairs"))

    def score_many(
        self,
        queries: Iterable[str],
        documents_per_query: Iterable[Iterable[Document]],
        *,
        deadline_ms: float | None = None,
        priority: int = 0,
        instruction: str | None = None,
    ) -> list[npt.NDArray[np.float32]]:
        """Score each query's documents, all of them planned together.

        Args:
            queries: the queries.
            documents_per_query: as many lists of documents.
            deadline_ms: as for `score`, for all of them together.
            priority: as for `score`.
            instruction: as for `score`.

        Returns:
            One float32 array a query, in its documents' order.

        Raises:
            InvalidInputError: the lists differ in length, or an item is unusable.
            CrossrankError: otherwise as `score`.

        Warns:
            TruncationWarning: something was longer than the model takes.
        """
        call, counts = many_call(self._caller(deadline_ms, priority), queries, documents_per_query, instruction)
        if not counts:
            return []
        ends = np.cumsum(counts)

        def name(index: int) -> str:
            of_query = int(np.searchsorted(ends, index, side="right"))
            return f"documents_per_query[{of_query}][{index - int(ends[of_query]) + counts[of_query]}]"

        return np.split(call.complete_scores(wait_in_thread(call.scores(), call.encoders), name), ends[:-1])

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
        instruction: str | None = None,
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
            instruction: what documents are judged by, for models that take one; None for the reranker's.

        Returns:
            The ranking, with what was cut to the model's length and what was not scored.

        Raises:
            InvalidInputError: a document is no text, or an option is outside its range.
            InferenceError: onnxruntime failed.
            Overloaded: more tokens wait than `max_queue_tokens`.
            ClosedError: `close` was called.
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
        return call.ranking(wait_in_thread(call.scores(), call.encoders))

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
        instruction: str | None = None,
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
            instruction: as for `score`.

        Returns:
            An iterator over at least one ranking; the arguments are checked before it is returned.

        Raises:
            InvalidInputError: a document is no text, or an option is outside its range.
            InferenceError: onnxruntime failed; while iterating.
            Overloaded: more tokens wait than `max_queue_tokens`; while iterating, before the first ranking.
            ClosedError: `close` was called.
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
        return _rankings(call)

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
        caller = self._caller()
        return wait_in_thread(prepare_steps(caller, documents), caller.scheduler.encoders)

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
            InvalidInputError: the documents were prepared for another reranker, an index is of none of them, or
                `max_length` is outside its range.
            InferenceError: all runs failed.
            ClosedError: `close` was called.
        """
        call = indices_call(self._caller(), query, documents, indices, max_length)
        return wait_in_thread(call.scores(), call.encoders)

    def activated(self, logits: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Scores of logits, float32 (n,) to float32 (n,), as `score` gives them."""
        return self._loaded.activated(logits)

    def warmup(self) -> None:
        """Load all sessions and run short and full-length pairs, so that the first call is as fast as the next.

        Raises:
            InferenceError: onnxruntime failed.
            ClosedError: `close` was called.
        """
        self._loaded.load_all()
        word, longest = "warm", " ".join(["warm"] * self._loaded.encoder.max_length)
        # Short and long on all cores, then a long one on every core at once, as much as a run holds.
        for text, times in ((word, 1), (longest, 1), (longest, 2 * self.info().threads)):
            call = repeated_call(self._caller(), word, text, times)
            scores = wait_in_thread(call.scores(), call.encoders)
            if scores.failed:
                raise next(iter(scores.failed.values())).error

    def _caller(self, deadline_ms: float | None = None, priority: int = 0) -> Caller:
        return Caller(self._loaded, self._loaded.scheduler(), self._loaded.time_limit(deadline_ms, priority))


def _rankings(call: Call[RankArguments]) -> Iterator[RankResult]:
    try:
        while (ranking := wait_in_thread(call.next_ranking(), call.encoders)) is not None:
            yield ranking
    finally:
        call.cancel()
