"""A request's way through `AsyncReranker`: its deadline, and the end of its work when its client goes away."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from crossrank.engine.call.ranking import first_stage_order
from crossrank.engine.call.results import RankedDocument, RankResult
from crossrank.engine.text.documents import document_texts
from crossrank.server.failures import Refusal
from crossrank.server.reading import ClientGone

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence

    from starlette.requests import Request

    from crossrank.async_reranker import AsyncReranker
    from crossrank.engine.call.encoded_candidates import DocumentScores
    from crossrank.engine.text.prepared import Documents

_Result = TypeVar("_Result")

_MOST_TOKENS = 2**31 - 1
"""More than any text has that is read; JSON's numbers have no end."""


@dataclass(frozen=True)
class Job:
    """A query and its documents, of whichever API.

    Attributes:
        query: the query.
        documents: as the engine takes them.
        time_left: gives the milliseconds until the deadline at the moment; None where there is no deadline.
        all_or_nothing: whether a document without a score is worth no answer.
        priority: the engine's.
        first_stage_scores: a number for each document; None where their order says it.
        max_tokens_per_document: tokens that are read of each; None reads what the model takes.
        may_cut: whether texts longer than the model takes may be cut.
        tei: whether refusals are text-embeddings-inference's.
        items: what the documents are called in messages.
        instruction: what documents are judged by; None for the model's.
    """

    query: str
    documents: Sequence[str | dict[str, Any]]
    time_left: Callable[[], float] | None
    all_or_nothing: bool = False
    priority: int = 0
    first_stage_scores: Sequence[float] | None = None
    max_tokens_per_document: int | None = None
    may_cut: bool = True
    tei: bool = False
    items: str = "documents"
    instruction: str | None = None


async def rank(reranker: AsyncReranker, job: Job) -> RankResult:
    """Rank a job's documents.

    Raises:
        Refusal: a document has no score and the job wants all, or was cut and must not be.
        CrossrankError: as `AsyncReranker.rank`.
    """
    documents = await _documents(reranker, job)
    if documents is None:
        ranking = _nothing_scored(job)
        check(ranking, job)
        return ranking
    ranking = await reranker.rank(
        job.query,
        documents,
        return_documents=False,
        deadline_ms=None if job.time_left is None else job.time_left(),
        first_stage_scores=job.first_stage_scores,
        priority=job.priority,
        instruction=job.instruction,
    )
    check(ranking, job)
    return ranking


async def improving_ranks(reranker: AsyncReranker, job: Job) -> AsyncGenerator[RankResult, None]:
    """Rankings that improve; the last is what `rank` gives.

    Raises:
        Refusal: as for `rank`.
        CrossrankError: as for `rank`.
    """
    documents = await _documents(reranker, job)
    if documents is None:
        ranking = _nothing_scored(job)
        check(ranking, job)
        yield ranking
        return
    rankings = reranker.aiter_rank(
        job.query,
        documents,
        return_documents=False,
        deadline_ms=None if job.time_left is None else job.time_left(),
        first_stage_scores=job.first_stage_scores,
        priority=job.priority,
        instruction=job.instruction,
    )
    try:
        async for ranking in rankings:
            if ranking.unscored_because != "pending":
                check(ranking, job)
            yield ranking
    finally:
        await rankings.aclose()


async def score_pairs(
    reranker: AsyncReranker,
    queries: Sequence[str],
    documents: Sequence[str],
    time_left: Callable[[], float] | None,
    instruction: str | None = None,
) -> DocumentScores:
    """Logits of pairs in their order, all of them there.

    Raises:
        Refusal: a pair has no score.
        CrossrankError: as `AsyncReranker.score_pairs`.
    """
    scores = await reranker.pair_scores(
        zip(queries, documents, strict=True),
        deadline_ms=None if time_left is None else time_left(),
        instruction=instruction,
    )
    _check_complete(
        {index: str(failure.error) for index, failure in scores.failed.items()},
        scored=int(scores.scored.sum()),
        count=len(scores.scored),
        items="text_2",
        tei=False,
    )
    return scores


def check(ranking: RankResult, job: Job) -> None:
    """Refuse a final ranking that is not what its job allows.

    Raises:
        Refusal: see there.
    """
    if job.all_or_nothing:
        _check_complete(
            ranking.failures,
            scored=ranking.scored,
            count=ranking.scored + len(ranking.unscored),
            items=job.items,
            tei=job.tei,
        )
    if not job.may_cut and (ranking.truncated_documents or ranking.query_truncated):
        cut = min((item.index for item in ranking if item.truncated), default=None)
        name = "query" if cut is None else f"{job.items}[{cut}]"
        raise Refusal(
            422,
            f"{name} is longer than the model takes; allow its end to be cut (truncate=true, truncation_direction="
            "'right') or send less",
            "too_long",
            param=name,
            tei=job.tei,
        )


def _check_complete(failures: Mapping[int, str], *, scored: int, count: int, items: str, tei: bool) -> None:
    if failures:
        place = min(failures)
        name = f"{items}[{place}]"
        raise Refusal(424 if tei else 500, f"{name}: {failures[place]}", "inference_failed", param=name, tei=tei)
    if scored < count:
        raise Refusal(
            504,
            f"{scored} of {count} documents were scored by the deadline, and all were asked for",
            "deadline_exceeded",
            tei=tei,
        )


async def unless_gone(request: Request, work: Awaitable[_Result]) -> _Result:
    """The result of some work, which is cancelled when the client closes its connection.

    Args:
        request: its body was read to the end.
        work: what is waited for.

    Raises:
        ClientGone: the client went away.
    """
    task = asyncio.ensure_future(work)
    gone = asyncio.ensure_future(_gone(request))
    try:
        await asyncio.wait((task, gone), return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise ClientGone
        return task.result()
    finally:
        gone.cancel()
        if not task.done():
            task.cancel()
            await asyncio.wait((task,))


async def _gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def _documents(reranker: AsyncReranker, job: Job) -> Documents | None:
    """The documents, encoded and shortened where a request wants less of them read than the model takes.

    None where the deadline came before they were encoded.
    """
    if job.max_tokens_per_document is None:
        return job.documents
    most = min(job.max_tokens_per_document, _MOST_TOKENS)
    info = reranker.info()
    if most >= info.max_length and info.long_documents == "truncate":
        return job.documents
    try:
        async with asyncio.timeout(None if job.time_left is None else job.time_left() / 1000):
            return (await reranker.prepare(job.documents)).shortened(most)
    except TimeoutError:
        return None


def _nothing_scored(job: Job) -> RankResult:
    """What the engine answers at a deadline that comes before the first score; mistakes are refused then, too."""
    count = len(job.documents)
    document_texts(job.documents)
    order = first_stage_order(job.first_stage_scores, count).tolist()
    documents = [
        RankedDocument(
            index,
            None,
            None,
            truncated=False,
            unscored_because="deadline",
        )
        for index in order
    ]
    return RankResult(
        tuple(documents),
        scored=0,
        truncated_documents=0,
        query_truncated=False,
        unscored=tuple(order),
        unscored_because="deadline" if count else None,
    )
