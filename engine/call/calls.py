"""Calls from the caller's arguments to what is found of them: what both rerankers need before and after the waiting.

A call is checked and its candidates found (`start_...`), then scored: whole, or chunk by chunk where it has a deadline
or shows early rankings.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from crossrank.engine.call.chunked_scoring import ChunkedScoring, run_chunks
from crossrank.engine.call.encoded_candidates import candidate_pieces, known_scores
from crossrank.engine.call.ranking import first_stage_order, ranking
from crossrank.engine.schedule.admitted_call import AdmittedCall
from crossrank.engine.schedule.request import wait_for
from crossrank.engine.text.documents import as_list, checked_top_k, document_texts, query_text
from crossrank.engine.text.encoding import EncodedDocuments
from crossrank.engine.text.prepared import PreparedDocuments
from crossrank.errors import DeadlineExceeded, InferenceError, InvalidInputError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from concurrent.futures import Future

    import numpy.typing as npt

    from crossrank.engine.call.candidates import Candidates
    from crossrank.engine.call.encoded_candidates import DocumentScores
    from crossrank.engine.call.model import ScoringModel
    from crossrank.engine.call.results import RankResult
    from crossrank.engine.schedule.request import Outcome, Terms
    from crossrank.engine.schedule.scheduler import Scheduler
    from crossrank.engine.schedule.time_limit import TimeLimit
    from crossrank.engine.text.documents import Document
    from crossrank.engine.text.encoding import EncodedPairs
    from crossrank.engine.text.prepared import Documents


_RANKING_SECONDS = 3e-6
"""To put one document into a ranking, scored or not: 3.1 ms for 1000 of them were measured."""

_NAMED_PAIRS = 10
"""Pairs without a score that an error names after the first."""


@dataclass(frozen=True)
class ScoreCall:
    """Pairs to score.

    Attributes:
        candidates: the distinct ones among the caller's n pairs.
        order: the caller's pairs, most promising first, int64 (n,).
    """

    candidates: Candidates
    order: npt.NDArray[np.int64]

    def in_chunks(self, model: ScoringModel, scheduler: Scheduler, limit: TimeLimit) -> ChunkedScoring:
        """What scores it chunk by chunk: in vain, once a pair could not be scored in time."""
        return ChunkedScoring(model, scheduler, self.candidates, self.order, limit, needs_all=True)

    def while_encoding(self, model: ScoringModel, scheduler: Scheduler, limit: TimeLimit) -> ChunkedScoring:
        """What scores all of it, a part while the next is encoded."""
        return ChunkedScoring(
            model, scheduler, self.candidates, self.order, limit, documents_at_once=model.documents_at_once
        )


@dataclass(frozen=True)
class RankCall(ScoreCall):
    """A ranking in the making.

    Attributes:
        items: the caller's documents.
        top_k: how many to return at most.
        return_documents: whether the results carry the caller's documents.
        model: whose activation counts.
    """

    items: Sequence[Document]
    top_k: int
    return_documents: bool
    model: ScoringModel

    def in_chunks(self, model: ScoringModel, scheduler: Scheduler, limit: TimeLimit) -> ChunkedScoring:
        """What scores it chunk by chunk, as far as time allows; the ranking has to be made in time as well."""
        in_time = limit.earlier(len(self.items) * _RANKING_SECONDS)
        return ChunkedScoring(model, scheduler, self.candidates, self.order, in_time)

    def ranking(self, document_scores: DocumentScores, *, final: bool = True) -> RankResult:
        """The ranking of what was found; `final` where nothing more will be."""
        return ranking(
            document_scores,
            self.model.activated,
            self.items,
            self.order,
            top_k=self.top_k,
            return_documents=self.return_documents,
            out_of_time="deadline" if final else "pending",
        )


def start_rank(
    model: ScoringModel,
    query: str,
    documents: Documents,
    *,
    top_k: int | None,
    return_documents: bool,
    first_stage_scores: Sequence[float] | npt.NDArray[np.floating] | None,
) -> RankCall:
    """Check a call's arguments and find its candidates; texts are not encoded yet.

    Raises:
        InvalidInputError: an argument cannot be used.
    """
    items, candidates = _candidates(model, query, documents)
    order = first_stage_order(first_stage_scores, len(items))  # a mistake shows without a deadline, too
    return RankCall(candidates, order, items, checked_top_k(top_k, len(items)), return_documents, model)


def start_score(model: ScoringModel, query: str, documents: Documents) -> ScoreCall:
    """As `start_rank`, for scores in the documents' order."""
    items, candidates = _candidates(model, query, documents)
    return ScoreCall(candidates, np.arange(len(items)))


def start_score_pairs(model: ScoringModel, queries: Sequence[str], texts: Sequence[str]) -> ScoreCall:
    """As `start_score`, for pairs whose texts were checked: n queries, n documents."""
    return ScoreCall(model.finder.of_texts(queries, np.arange(len(queries)), texts), np.arange(len(queries)))


def start_score_many(
    model: ScoringModel, queries: Iterable[str], documents_per_query: Iterable[Iterable[Document]]
) -> tuple[ScoreCall, list[int]]:
    """As `start_score`, for several queries, each with documents of its own; also how many each has.

    Raises:
        InvalidInputError: the lists differ in length, or an item is unusable.
    """
    queries = as_list(queries, "queries", "strings")
    queries = [query_text(query, f"queries[{index}]") for index, query in enumerate(queries)]
    lists = as_list(documents_per_query, "documents_per_query", "lists of documents")
    if len(queries) != len(lists):
        raise InvalidInputError(f"{len(queries)} queries, {len(lists)} lists of documents: as many of each expected")
    names = [f"documents_per_query[{index}]" for index in range(len(lists))]
    texts = [document_texts(as_list(item, name), name) for item, name in zip(lists, names, strict=True)]
    counts = [len(item) for item in texts]
    query_of = np.repeat(np.arange(len(queries)), counts)
    candidates = model.finder.of_texts(queries, query_of, [text for item in texts for text in item])
    return ScoreCall(candidates, np.arange(len(query_of))), counts


def score_call(
    model: ScoringModel, call: ScoreCall, limit: TimeLimit, warn: Callable[[], None] | None = None
) -> DocumentScores:
    """Score a call in the calling thread: whole, or as much of it as its deadline allows.

    Args:
        model: scores.
        call: what.
        limit: the call's time.
        warn: called where a text is not read to its end, before anything is scored where that is known by then.

    Raises:
        InferenceError: onnxruntime failed.
        Overloaded: more tokens wait than may.
        ClosedError: the scorer was closed.
    """
    if (known := known_scores(call.candidates)) is not None:
        if warn is not None and known.anything_truncated:
            warn()
        return known
    scheduler = model.scheduler()
    if limit.seconds is None and not scores_while_encoding(model, call):
        seconds = scheduler.expected_seconds(call.candidates.estimated_tokens(), len(call.candidates))
        terms = limit.terms()
        # Before anything is encoded: from here on `close` waits for it.
        with AdmittedCall(scheduler, seconds=seconds, terms=terms) as admitted:
            encoders = scheduler.encoders
            request = encoders.run(candidate_pieces(call.candidates, encoders.speed), terms, seconds)
            if warn is not None and request.anything_truncated:
                warn()
            admitted.announce(int(request.rows.lengths.sum()))
            outcome = wait_for(admitted.submit(request.rows, limit.terms(partial=True, expected=seconds)))
        scores = request.resolve(model.relevance(outcome.outputs), outcome.scored, outcome.failed)
        scores.check_any_run()
        return scores
    in_chunks = call.while_encoding if limit.seconds is None else call.in_chunks
    scoring = in_chunks(model, scheduler, limit)
    with AdmittedCall(
        scheduler, scoring.estimated_tokens, seconds=scoring.expected_seconds, terms=scoring.terms
    ) as admitted:
        for _ in run_chunks(scoring, admitted.submit):
            pass
    document_scores = scoring.document_scores()
    if warn is not None and document_scores.anything_truncated:
        warn()
    return document_scores


def scores_while_encoding(model: ScoringModel, call: ScoreCall) -> bool:
    """Whether a call without a deadline is scored in parts: where encoding all of it would leave a GPU idle."""
    at_once = model.documents_at_once
    return (
        at_once is not None
        and len(call.candidates) > at_once
        and not isinstance(call.candidates.documents, EncodedDocuments)
    )


def check_complete(document_scores: DocumentScores, limit: TimeLimit, name: Callable[[int], str]) -> None:
    """Refuse what failed, or what a deadline left incomplete.

    Args:
        document_scores: what is known of the caller's pairs.
        limit: the call's time.
        name: how the caller calls its pair of an index, such as 'documents[3]'.

    Raises:
        InferenceError: some pairs have no score whatever time they are given; the message names them.
        DeadlineExceeded: not all pairs were scored.
    """
    if document_scores.failed:
        first, *others = sorted(document_scores.failed)
        error = document_scores.failed[first].error
        also = f"; so {'has' if len(others) == 1 else 'have'} {listed(others, name)}" if others else ""
        raise InferenceError(f"{name(first)} has no score: {error}{also}. rank() scores the others") from error
    if not document_scores.scored.all():
        raise DeadlineExceeded(
            f"{int(document_scores.scored.sum())} of {len(document_scores.scored)} pairs were scored within "
            f"{(limit.seconds or 0) * 1000:.0f} ms; rank(deadline_ms=...) gives what there is"
        )


def name_in(argument: str) -> Callable[[int], str]:
    """How a caller calls the items of an argument of its call."""
    return lambda index: f"{argument}[{index}]"


def listed(indices: Sequence[int], name: Callable[[int], str]) -> str:
    """What a caller calls some items of its call; of many the first, and how many more there are."""
    more = f" and {len(indices) - _NAMED_PAIRS} more" if len(indices) > _NAMED_PAIRS else ""
    return ", ".join(map(name, indices[:_NAMED_PAIRS])) + more


def improving_rankings(call: RankCall, scheduler: Scheduler, scoring: ChunkedScoring) -> Iterator[RankResult]:
    """A ranking after each chunk, the last one final; at least one, also of no documents."""
    started = False

    def submit(pairs: EncodedPairs, terms: Terms) -> Future[Outcome]:
        # Each chunk is a call of its own: an iterator that nobody continues must not keep the reranker from closing.
        nonlocal started
        tokens, seconds = (0, 0.0) if started else (scoring.estimated_tokens, scoring.expected_seconds)
        with AdmittedCall(scheduler, tokens, seconds=seconds, terms=scoring.terms, continues=started) as admitted:
            started = True
            return admitted.submit(pairs, terms)

    with contextlib.closing(run_chunks(scoring, submit)) as chunks:
        for _ in chunks:
            yield call.ranking(scoring.document_scores(), final=scoring.complete)
    if not started or not scoring.complete:
        yield call.ranking(scoring.document_scores())


def _candidates(model: ScoringModel, query: str, documents: Documents) -> tuple[Sequence[Document], Candidates]:
    query = query_text(query)
    if isinstance(documents, PreparedDocuments):
        return documents.items, model.finder.of_prepared(query, documents)
    items = tuple(as_list(documents))
    return items, model.finder.of_texts([query], np.zeros(len(items), dtype=np.int64), document_texts(items))
