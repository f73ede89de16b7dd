"""The routes that score: `/rerank` and `/score` in their versions."""

from __future__ import annotations

import asyncio
import logging
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from pydantic_core import from_json
from starlette.responses import JSONResponse
from starlette.routing import Route

from crossrank.errors import CrossrankError
from crossrank.server.answer_headers import ranking_headers, truncated_header
from crossrank.server.answers import rerank_answer, score_answer, texts_answer
from crossrank.server.event_stream import EVENTS, EventStream, event
from crossrank.server.failures import Refusal, refusal_of
from crossrank.server.reading import ClientGone
from crossrank.server.request_checks import (
    DEADLINE_HEADER,
    check_count,
    check_finite,
    check_scores_servable,
    check_servable,
    check_size,
    checked,
    header_number,
)
from crossrank.server.request_records import record_of
from crossrank.server.requests import RerankRequest, ScoreRequest, TextsRequest
from crossrank.server.scoring import Job, improving_ranks, rank, score_pairs, unless_gone

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator, Sequence

    from starlette.requests import Request
    from starlette.responses import Response

    from crossrank.engine.call.results import RankResult
    from crossrank.server.request_records import Record
    from crossrank.server.served_models import ServedModel
    from crossrank.server.service import Service

logger = logging.getLogger("crossrank.server")

_LARGE_BODY = 1 << 18
"""Bytes from which on a body's values are looked through beside the event loop: ten megabytes may be five million."""


class RerankRoutes:
    """Handlers of the routes that score."""

    def __init__(self, service: Service) -> None:
        """Serve with what the process shares."""
        self._service = service

    def routes(self) -> list[Route]:
        """The routes."""
        handlers = {
            "/rerank": self.rerank_or_texts,
            "/v1/rerank": self.rerank,
            "/v2/rerank": self.rerank,
            "/score": self.score,
            "/v1/score": self.score,
        }
        return [Route(path, handler, methods=["POST"]) for path, handler in handlers.items()]

    async def rerank(self, request: Request) -> Response:
        """Cohere, Jina, vLLM, infinity."""
        with self._accepted(request, "rerank"):
            return await self._documents(request, await self._body(request))

    async def rerank_or_texts(self, request: Request) -> Response:
        """The same, and text-embeddings-inference's request where the body has `texts`."""
        with self._accepted(request, "rerank"):
            body = await self._body(request)
            if "texts" in body and "documents" not in body:
                with _refused_as(tei=True):
                    return await self._texts(request, body)
            return await self._documents(request, body)

    async def score(self, request: Request) -> Response:
        """Scores in the texts' order, as vLLM gives them."""
        with self._accepted(request, "score"):
            asked = checked(ScoreRequest, await self._body(request))
            served = self._service.models.find(asked.model)
            check_scores_servable(asked, served)
            queries, documents = asked.pairs()
            record = record_of(request.scope)
            check_size(self._service.settings, documents, set(queries), ("text_1", "text_2"), asked.instruction)
            self._note(record, served, queries, documents)
            time_left = self._time_left(request, asked.deadline_ms)
            work = score_pairs(served.reranker, queries, documents, time_left, asked.instruction)
            scores = await unless_gone(request, work)
            self._count(len(documents), int(scores.tokens.sum()))
            raw = _raw(asked.raw, served)
            answer = score_answer(scores, request_id=record.id, model=served.name, raw=raw)
            cut = truncated_header(int(scores.truncated.sum()), query=scores.query_truncated)
            return JSONResponse(answer, headers=cut)

    async def _documents(self, request: Request, body: dict[str, Any]) -> Response:
        with _refused_as(infinity=body.get("raw_scores") is not None):
            return await self._rerank(request, checked(RerankRequest, body))

    async def _rerank(self, request: Request, asked: RerankRequest) -> Response:
        served = self._service.models.find(asked.model)
        check_servable(asked, served)
        check_count(self._service.settings, len(asked.documents), "documents")
        documents = asked.texts()
        record = record_of(request.scope)
        check_size(self._service.settings, documents, [asked.query], ("query", "documents"), asked.instruction)
        self._note(record, served, [asked.query], documents)
        job = Job(
            asked.query,
            documents,
            self._time_left(request, asked.deadline_ms),
            all_or_nothing=asked.all_or_nothing,
            priority=asked.engine_priority,
            first_stage_scores=asked.first_stage_scores,
            max_tokens_per_document=asked.max_tokens_per_doc,
            instruction=asked.instruction,
        )
        raw = _raw(asked.raw, served)

        def answer(ranking: RankResult) -> dict[str, Any]:
            return rerank_answer(
                ranking,
                request_id=record.id,
                model=served.name,
                raw=raw,
                top_n=asked.top_n,
                documents=asked.documents if asked.return_documents else None,
                infinity=asked.of_infinity,
            )

        if asked.stream or EVENTS in request.headers.get("accept", ""):
            return await self._stream(request, served, job, answer)
        ranking = await unless_gone(request, rank(served.reranker, job))
        self._ranked(ranking, record)
        return JSONResponse(answer(ranking), headers=ranking_headers(ranking))

    async def _texts(self, request: Request, body: dict[str, Any]) -> Response:
        asked = checked(TextsRequest, body)
        served = self._service.models.find(None)
        record = record_of(request.scope)
        check_size(self._service.settings, asked.texts, [asked.query], ("query", "texts"), asked.instruction)
        self._note(record, served, [asked.query], asked.texts)
        job = Job(
            asked.query,
            asked.texts,
            self._time_left(request, asked.deadline_ms),
            all_or_nothing=asked.all_or_nothing,
            may_cut=asked.may_cut,
            tei=True,
            items="texts",
            instruction=asked.instruction,
        )
        ranking = await unless_gone(request, rank(served.reranker, job))
        self._ranked(ranking, record)
        answer = texts_answer(ranking, asked.texts, raw=_raw(asked.raw_scores, served), return_text=asked.return_text)
        return JSONResponse(answer, headers=ranking_headers(ranking))

    async def _stream(
        self,
        request: Request,
        served: ServedModel,
        job: Job,
        answer: Callable[[RankResult], dict[str, Any]],
    ) -> Response:
        """Improving rankings; a refusal before the first of them is an ordinary answer."""
        rankings = improving_ranks(served.reranker, job)

        async def next_ranking() -> RankResult:
            return await anext(rankings)

        try:
            first = await unless_gone(request, next_ranking())
        except BaseException:
            await rankings.aclose()
            raise

        record, metrics = record_of(request.scope), self._service.metrics
        record.streamed = True
        counted = False

        def failed(code: str) -> None:
            nonlocal counted
            counted = True
            record.details["error"] = code
            metrics.failures.labels(code).inc()

        async def events() -> AsyncIterator[bytes]:
            nonlocal counted
            ranking = first
            try:
                yield event("ranking", answer(ranking))
                async for ranking in rankings:
                    yield event("ranking", answer(ranking))
            except (CrossrankError, Refusal) as error:
                refusal = error if isinstance(error, Refusal) else refusal_of(error)
                failed(refusal.code)
                yield event("error", refusal.body())
                return
            except Exception:
                failed("internal_error")
                raise
            self._ranked(ranking, record)
            counted = True
            metrics.successes.labels("rerank").inc()
            yield b"event: done\ndata: [DONE]\n\n"

        async def ended() -> None:
            # Also where the client went away: what has not started is dropped.
            self._service.in_progress -= 1
            if not counted:
                record.details["error"] = "hung_up"
                metrics.hung_up.inc()
            await rankings.aclose()

        self._service.in_progress += 1  # until the stream has ended, which is after its handler
        return EventStream(events(), ended)

    @contextmanager
    def _accepted(self, request: Request, method: str) -> Iterator[None]:
        """Count a request that scores from its head to its answer, and refuse those that may not score."""
        service, record = self._service, record_of(request.scope)
        metrics = service.metrics
        metrics.requests.labels(method).inc()
        service.in_progress += 1
        metrics.in_progress.inc()
        try:
            service.check_key(request)
            service.check_open()
            yield
        except (Refusal, CrossrankError) as error:
            refusal = error if isinstance(error, Refusal) else refusal_of(error)
            record.details["error"] = refusal.code
            metrics.failures.labels(refusal.code).inc()
            raise refusal from error
        except ClientGone:
            record.details["error"] = "hung_up"
            metrics.hung_up.inc()
            raise
        except Exception:
            metrics.failures.labels("internal_error").inc()
            raise
        else:
            if not record.streamed:  # else it is known at its end
                metrics.successes.labels(method).inc()
        finally:
            service.in_progress -= 1
            metrics.in_progress.dec()
            metrics.durations.observe(record.milliseconds / 1000)

    async def _body(self, request: Request) -> dict[str, Any]:
        body = await self._service.bodies.read(request)
        try:
            value = from_json(body, allow_inf_nan=False)
        except ValueError as error:
            raise Refusal(422, f"the body is no JSON: {error}", "invalid_json") from None
        if not isinstance(value, dict):
            raise Refusal(422, f"the body is a JSON {type(value).__name__}: an object expected", "invalid_input")
        if len(body) > _LARGE_BODY:
            await asyncio.to_thread(check_finite, value)
        else:
            check_finite(value)
        return value

    def _time_left(self, request: Request, deadline_ms: float | None) -> Callable[[], float] | None:
        """Milliseconds until the deadline: from the request's head on, reading its body included."""
        header = request.headers.get(DEADLINE_HEADER)
        limits = [limit for limit in (deadline_ms, header_number(header)) if limit is not None]
        if not limits and self._service.settings.default_deadline_ms is not None:
            limits = [self._service.settings.default_deadline_ms]
        if not limits:
            return None
        record = record_of(request.scope)
        return lambda: max(0.0, min(limits) - record.milliseconds)

    def _note(
        self, record: Record, served: ServedModel, queries: Sequence[str], documents: Sequence[str | dict[str, Any]]
    ) -> None:
        record.details |= {"model": served.name, "documents": len(documents)}
        if self._service.settings.log_texts:
            record.texts = {"queries": list(dict.fromkeys(queries)), "texts": list(documents)}

    def _ranked(self, ranking: RankResult, record: Record) -> None:
        self._count(ranking.scored, ranking.tokens)
        if ranking.unscored_because is not None:
            self._service.metrics.incomplete.labels(ranking.unscored_because).inc()
            record.details |= {"unscored": len(ranking.unscored), "because": ranking.unscored_because}

    def _count(self, documents: int, tokens: int) -> None:
        self._service.metrics.documents.inc(documents)
        self._service.metrics.tokens.inc(tokens)


@contextmanager
def _refused_as(*, tei: bool = False, infinity: bool = False) -> Iterator[None]:
    """Errors as the clients of text-embeddings-inference or infinity read them."""
    try:
        yield
    except Refusal as refusal:
        refusal.tei, refusal.infinity = tei, infinity
        raise
    except CrossrankError as error:
        answer = refusal_of(error, tei=tei)
        answer.infinity = infinity
        raise answer from error


def _raw(asked: bool | None, served: ServedModel) -> bool:
    return served.settings.raw_scores if asked is None else asked
