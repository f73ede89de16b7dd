"""Calls that score their candidates chunk by chunk: with a deadline, or as a stream of rankings.

What both the synchronous and the asynchronous reranker need before and after the waiting.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from crossrank.engine.documents import as_list, checked_top_k, document_texts, query_text
from crossrank.engine.prepared import PreparedDocuments
from crossrank.engine.progressive import ChunkedScoring, run_chunks
from crossrank.engine.ranking import order_of_promise, ranking_so_far

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from concurrent.futures import Future

    import numpy.typing as npt

    from crossrank.engine.documents import Document
    from crossrank.engine.encoding import EncodedDocuments, EncodedPairs
    from crossrank.engine.prepared import Documents
    from crossrank.engine.request import Outcome, Terms
    from crossrank.engine.results import RankResult
    from crossrank.engine.scorer import PairScorer
    from crossrank.engine.time_limit import TimeLimit


@dataclass(frozen=True)
class RankCall:
    """A ranking in the making.

    Attributes:
        scoring: the candidates and their scores so far.
        items: the caller's documents.
        order: most promising first, int64 (n,).
        top_k: how many to return at most.
        return_documents: whether the results carry the caller's documents.
        scorer: whose activation counts.
    """

    scoring: ChunkedScoring
    items: Sequence[Document]
    order: npt.NDArray[np.int64]
    top_k: int
    return_documents: bool
    scorer: PairScorer

    def result(self, *, final: bool) -> RankResult:
        """The ranking as it stands; `final` where no more chunks follow."""
        return ranking_so_far(
            self.scoring,
            self.scorer.activated,
            self.items,
            self.order,
            top_k=self.top_k,
            return_documents=self.return_documents,
            unscored_because="deadline" if final else "pending",
        )


def start_rank(
    scorer: PairScorer,
    query: str,
    documents: Documents,
    *,
    top_k: int | None,
    return_documents: bool,
    first_stage_scores: Sequence[float] | npt.NDArray[np.floating] | None,
    limit: TimeLimit,
) -> RankCall:
    """Check a call's arguments; nothing is encoded yet.

    Raises:
        InvalidInputError: an argument cannot be used.
        ClosedError: the scorer was closed.
    """
    query = query_text(query)
    items, texts = _texts(scorer, documents)
    order = order_of_promise(first_stage_scores, len(items))
    scoring = ChunkedScoring(scorer, [query], np.zeros(len(items), dtype=np.int64), texts, order, limit)
    return RankCall(scoring, items, order, checked_top_k(top_k, len(items)), return_documents, scorer)


def improving_rankings(call: RankCall) -> Iterator[RankResult]:
    """A ranking after each chunk, the last one final; at least one, also of no documents."""
    scheduler = call.scorer.scheduler()
    started = False

    def submit(pairs: EncodedPairs, terms: Terms) -> Future[Outcome]:
        # Each chunk is a call of its own: an iterator that nobody continues must not keep the reranker from closing.
        nonlocal started
        tokens = 0 if started else call.scoring.estimated_tokens
        with scheduler.call(tokens, goes_on=started) as admitted:
            started = True
            return admitted.submit(pairs, terms)

    with contextlib.closing(run_chunks(call.scoring, submit)) as chunks:
        for _ in chunks:
            yield call.result(final=call.scoring.complete)
    if not started or not call.scoring.complete:
        yield call.result(final=True)


def start_score(scorer: PairScorer, query: str, documents: Documents, limit: TimeLimit) -> ChunkedScoring:
    """Check a call's arguments; nothing is encoded yet.

    Raises:
        InvalidInputError: an argument cannot be used.
        ClosedError: the scorer was closed.
    """
    query = query_text(query)
    items, texts = _texts(scorer, documents)
    count = len(items)
    return ChunkedScoring(
        scorer, [query], np.zeros(count, dtype=np.int64), texts, np.arange(count), limit, needs_all=True
    )


def start_score_pairs(
    scorer: PairScorer, queries: Sequence[str], documents: Sequence[str], limit: TimeLimit
) -> ChunkedScoring:
    """As `start_score` for pairs whose texts were checked: n queries, n documents."""
    scorer.check_open()
    distinct, query_of = distinct_queries(queries)
    return ChunkedScoring(scorer, distinct, query_of, documents, np.arange(len(documents)), limit, needs_all=True)


def distinct_queries(queries: Sequence[str]) -> tuple[list[str], npt.NDArray[np.int64]]:
    """The distinct queries, and for each given one its place among them, int64 (n,)."""
    number = {query: place for place, query in enumerate(dict.fromkeys(queries))}
    return list(number), np.asarray([number[query] for query in queries], dtype=np.int64)


def _texts(scorer: PairScorer, documents: Documents) -> tuple[Sequence[Document], Sequence[str] | EncodedDocuments]:
    scorer.check_open()
    if isinstance(documents, PreparedDocuments):
        documents.check_encoder(scorer.encoder_key)
        return documents.items, documents.encoded
    items = tuple(as_list(documents))
    return items, document_texts(items)
