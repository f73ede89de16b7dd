"""The routes that score: `/rerank` and `/score` in their versions."""

from __future__ import annotations

import json
import logging
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import from_json
from starlette.responses import JSONResponse, StreamingResponse
from starlette.routing import Route

from crossrank.errors import CrossrankError
from crossrank.server.answers import incomplete, rerank_answer, score_answer, texts_answer
from crossrank.server.failures import Refusal, refusal_of, refusal_of_body
from crossrank.server.reading import ClientGone
from crossrank.server.records import record_of
from crossrank.server.requests import RerankRequest, ScoreRequest, TextsRequest
from crossrank.server.scoring import Job, improving_ranks, rank, score_pairs, unless_gone

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator, Sequence

    from starlette.requests import Request
    from starlette.responses import Response

    from crossrank.engine.call.results import RankResult
    from crossrank.server.records import Record
    from crossrank.server.served import ServedModel
    from crossrank.server.service import Service

logger = logging.getLogger("crossrank.server")

DEADLINE_HEADER = "X-Deadline-Ms"
_EVENTS = "text/event-stream"

_Model = TypeVar("_Model", bound=BaseModel)


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
            return await self._rerank(request, await self._body(request))

    async def rerank_or_texts(self, request: Request) -> Response:
        """The same, and text-embeddings-inference's request where the body has `texts`."""
        with self._accepted(request, "rerank"):
            body = await self._body(request)
            if "texts" in body and "documents" not in body:
                with self._as_tei():
                    return await self._texts(request, body)
            return await self._rerank(request, body)

    async def score(self, request: Request) -> Response:
        """VLLM's scores in the texts' order."""
        with self._accepted(request, "score"):
            asked = _checked(ScoreRequest, await self._body(request))
            served = self._service.models.find(asked.model)
            _check_prompt_tokens(asked.truncate_prompt_tokens, served)
            queries, documents = asked.pairs()
            record = record_of(request.scope)
            self._check_size(documents, sum(map(len, set(queries))), "text_2")
            self._note(record, served, queries, documents)
            logits, tokens = await unless_gone(
                request,
                score_pairs(served.reranker, queries, documents, self._time_left(request, asked.deadline_ms)),
            )
            self._count(len(logits), tokens)
            raw = _raw(asked.raw_scores, served)
            return JSONResponse(score_answer(logits, tokens, request_id=record.id, model=served.name, raw=raw))

    async def _rerank(self, request: Request, body: dict[str, Any]) -> Response:
        asked = _checked(RerankRequest, body)
        served = self._service.models.find(asked.model)
        _check_servable(asked, served)
        documents = asked.texts()
        record = record_of(request.scope)
        self._check_size(documents, len(asked.query), "documents")
        self._note(record, served, [asked.query], documents)
        job = Job(
            asked.query,
            documents,
            self._time_left(request, asked.deadline_ms),
            all_or_nothing=asked.all_or_nothing,
            return_documents=asked.return_documents,
            priority=asked.engine_priority,
            first_stage_scores=asked.first_stage_scores,
            max_tokens_per_document=asked.max_tokens_per_doc,
        )
        raw = _raw(asked.raw_scores, served)

        def answer(ranking: RankResult) -> dict[str, Any]:
            return rerank_answer(
                ranking,
                request_id=record.id,
                model=served.name,
                raw=raw,
                top_n=asked.top_n,
                return_documents=asked.return_documents,
            )

        if asked.stream or _EVENTS in request.headers.get("accept", ""):
            return await self._stream(served, job, answer, record)
        ranking = await unless_gone(request, rank(served.reranker, job))
        self._ranked(ranking, record)
        return JSONResponse(answer(ranking), headers=_incomplete_headers(ranking))

    async def _texts(self, request: Request, body: dict[str, Any]) -> Response:
        asked = _checked(TextsRequest, body)
        served = self._service.models.find(None)
        record = record_of(request.scope)
        self._check_size(asked.texts, len(asked.query), "texts")
        self._note(record, served, [asked.query], asked.texts)
        job = Job(
            asked.query,
            asked.texts,
            self._time_left(request, asked.deadline_ms),
            all_or_nothing=asked.all_or_nothing,
            may_cut=asked.may_cut,
            tei=True,
            items="texts",
        )
        ranking = await unless_gone(request, rank(served.reranker, job))
        self._ranked(ranking, record)
        answer = texts_answer(ranking, asked.texts, raw=_raw(asked.raw_scores, served), return_text=asked.return_text)
        return JSONResponse(answer, headers=_incomplete_headers(ranking))

    async def _stream(
        self, served: ServedModel, job: Job, answer: Callable[[RankResult], dict[str, Any]], record: Record
    ) -> Response:
        """Improving rankings; a refusal before the first of them is an ordinary answer."""
        rankings = improving_ranks(served.reranker, job)
        first = await anext(rankings)
        self._service.in_progress += 1  # until the stream has ended, which is after its handler

        async def events() -> AsyncIterator[bytes]:
            ranking = first
            try:
                yield _event("ranking", answer(ranking))
                async for ranking in rankings:
                    yield _event("ranking", answer(ranking))
                self._ranked(ranking, record)
                yield b"event: done\ndata: [DONE]\n\n"
            except (CrossrankError, Refusal) as error:
                refusal = error if isinstance(error, Refusal) else refusal_of(error)
                yield _event("error", refusal.body())
            finally:
                # Also where the client went away: what has not started is dropped.
                self._service.in_progress -= 1
                await rankings.aclose()

        return StreamingResponse(events(), media_type=_EVENTS, headers={"Cache-Control": "no-store"})

    @contextmanager
    def _accepted(self, request: Request, method: str) -> Iterator[None]:
        """Count a request that scores from its head to its answer, and refuse those that may not score."""
        service, record = self._service, record_of(request.scope)
        metrics = service.metrics
        metrics.requests.labels(method).inc()
        service.check_key(request)
        service.in_progress += 1
        metrics.in_progress.inc()
        try:
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
        else:
            metrics.successes.labels(method).inc()
        finally:
            service.in_progress -= 1
            metrics.in_progress.dec()
            metrics.durations.observe(record.milliseconds / 1000)

    @contextmanager
    def _as_tei(self) -> Iterator[None]:
        """Errors as text-embeddings-inference's clients read them."""
        try:
            yield
        except Refusal as refusal:
            refusal.tei = True
            raise
        except CrossrankError as error:
            raise refusal_of(error, tei=True) from error

    async def _body(self, request: Request) -> dict[str, Any]:
        body = await self._service.bodies.read(request)
        try:
            value = from_json(body)
        except ValueError as error:
            raise Refusal(422, f"the body is no JSON: {error}", "invalid_json") from None
        if not isinstance(value, dict):
            raise Refusal(422, f"the body is a JSON {type(value).__name__}: an object expected", "invalid_input")
        return value

    def _time_left(self, request: Request, deadline_ms: float | None) -> Callable[[], float] | None:
        """Milliseconds until the deadline: from the request's head on, reading its body included."""
        header = request.headers.get(DEADLINE_HEADER)
        limits = [limit for limit in (deadline_ms, _header_number(header)) if limit is not None]
        if not limits and self._service.settings.default_deadline_ms is not None:
            limits = [self._service.settings.default_deadline_ms]
        if not limits:
            return None
        record = record_of(request.scope)
        return lambda: max(0.0, min(limits) - record.milliseconds)

    def _check_size(self, documents: Sequence[str | dict[str, Any]], query_characters: int, name: str) -> None:
        settings = self._service.settings
        if len(documents) > settings.max_documents:
            raise Refusal(
                422,
                f"{name}: {len(documents)} given, at most {settings.max_documents} expected (max_documents)",
                "too_many_documents",
                param=f"{name}[{settings.max_documents}]",
            )
        characters = query_characters
        for place, document in enumerate(documents):
            text = document if isinstance(document, str) else document.get("text")
            characters += len(text) if isinstance(text, str) else 0
            if characters > settings.max_characters:
                raise Refusal(
                    422,
                    f"with {name}[{place}] the request has more than {settings.max_characters} characters, the most "
                    "that are read (max_characters)",
                    "too_many_characters",
                    param=f"{name}[{place}]",
                )

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


def _checked(kind: type[_Model], body: dict[str, Any]) -> _Model:
    try:
        return kind.model_validate(body)
    except ValidationError as error:
        raise refusal_of_body(error) from None


def _check_servable(asked: RerankRequest, served: ServedModel) -> None:
    """Refuse what would change scores and is not served."""
    if asked.relevant_spans is not None:
        raise Refusal(422, "relevant_spans is not served here; leave it out", "not_supported", param="relevant_spans")
    _check_prompt_tokens(asked.truncate_prompt_tokens, served)
    if asked.max_chunks_per_doc is None:
        return
    windows = served.reranker.info().long_documents
    most = 1 if isinstance(windows, str) else windows.max_windows_per_document
    if most is None or asked.max_chunks_per_doc < most:
        raise Refusal(
            422,
            f"max_chunks_per_doc={asked.max_chunks_per_doc}: this model is served with up to {most} windows of a "
            "document; leave the field out",
            "not_supported",
            param="max_chunks_per_doc",
        )


def _check_prompt_tokens(given: int | None, served: ServedModel) -> None:
    if given is None or given == -1 or given >= served.reranker.info().max_length:
        return
    raise Refusal(
        422,
        f"truncate_prompt_tokens={given}: the model reads up to {served.reranker.info().max_length} tokens of a pair, "
        "and requests cannot lower that; max_tokens_per_doc cuts documents",
        "not_supported",
        param="truncate_prompt_tokens",
    )


def _raw(asked: bool | None, served: ServedModel) -> bool:
    return served.settings.raw_scores if asked is None else asked


def _header_number(text: str | None) -> float | None:
    if text is None:
        return None
    try:
        number = float(text)
    except ValueError:
        number = -1.0
    if not 0 <= number < float("inf"):
        raise Refusal(
            422,
            f"{DEADLINE_HEADER}: {text!r}: milliseconds of at least 0 expected",
            "invalid_input",
            param=DEADLINE_HEADER,
        )
    return number


def _incomplete_headers(ranking: RankResult) -> dict[str, str]:
    """The same flag for clients whose answer has no place for it, such as text-embeddings-inference's array."""
    missing = incomplete(ranking)
    return {} if missing is None else {"X-Incomplete": f"{missing['because']}; unscored={len(ranking.unscored)}"}


def _event(name: str, data: dict[str, Any]) -> bytes:
    return f"event: {name}\ndata: {json.dumps(data, separators=(',', ':'))}\n\n".encode()
