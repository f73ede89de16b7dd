"""The ASGI application: its routes, and what they share."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import TYPE_CHECKING, Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from crossrank.errors import CrossrankError
from crossrank.server.answers import info_answer, models_answer
from crossrank.server.failures import Refusal, refusal_of
from crossrank.server.openapi import openapi_document
from crossrank.server.page import PAGE, PAGE_HEADERS
from crossrank.server.reading import ClientGone
from crossrank.server.request_records import Recorder, record_of
from crossrank.server.rerank_routes import RerankRoutes
from crossrank.server.served_models import open_model
from crossrank.server.service import Service

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from starlette.requests import Request
    from starlette.types import ASGIApp

    from crossrank.async_reranker import AsyncReranker
    from crossrank.server.settings import ModelSettings, ServerSettings

logger = logging.getLogger("crossrank.server")

_ENGINE_EVERY = 1.0
"""Seconds between two readings of the engine's counts, for the metrics of several workers."""


def create_app(
    settings: ServerSettings,
    *,
    opener: Callable[[ModelSettings, int], AsyncReranker] = open_model,
    on_start: Callable[[Service], None] = lambda _: None,
) -> ASGIApp:
    """The service as an ASGI application. Models are loaded when it starts, while it already answers its probes.

    Args:
        settings: of the service.
        opener: loads a model; it must give logits.
        on_start: called in the event loop when it starts.

    Raises:
        InvalidInputError: the file of keys cannot be used.
    """
    service = Service(settings, opener)
    routes = RerankRoutes(service)

    @contextlib.asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        on_start(service)
        background = [asyncio.create_task(service.load()), asyncio.create_task(_read_engine(service))]
        try:
            yield
        finally:
            for task in background:
                task.cancel()
            await asyncio.gather(*background, return_exceptions=True)
            await service.models.close()

    app = Starlette(
        routes=[*_probe_routes(service), *routes.routes()],
        lifespan=lifespan,
        exception_handlers={
            Refusal: _refused,
            CrossrankError: _failed,
            ClientGone: _gone,
            HTTPException: _no_route,
            Exception: _unexpected,
        },
    )
    app.state.service = service
    return Recorder(app, settings, service.metrics)


async def _read_engine(service: Service) -> None:
    while True:
        service.metrics.read_engine(service.models.rerankers)
        service.metrics.bodies.set(service.bodies.bodies)
        await asyncio.sleep(_ENGINE_EVERY)


def _probe_routes(service: Service) -> list[Route]:
    settings = service.settings
    names = list(settings.models)

    async def health(_: Request) -> Response:
        """Whether the process can go on."""
        healthy = service.models.healthy()
        reports = {
            name: {"ok": report.ok, "last_error": report.last_error}
            for name, served in service.models.loaded.items()
            for report in [served.reranker.health()]
        }
        error = service.models.error
        return JSONResponse(
            {"status": "ok" if healthy else "failed", "error": error and str(error), "models": reports},
            200 if healthy else 503,
        )

    async def ready(_: Request) -> Response:
        """Whether requests are accepted."""
        if service.draining or not service.models.ready or not service.models.healthy():
            status = "draining" if service.draining else "failed" if service.models.error else "loading"
            return JSONResponse({"status": status}, 503, {"Retry-After": "1"})
        return JSONResponse({"status": "ready"})

    async def info(request: Request) -> Response:
        return JSONResponse(info_answer(service.models.find(request.query_params.get("model")), names, settings))

    async def models(_: Request) -> Response:
        return JSONResponse(models_answer(names, service.started))

    async def metrics(_: Request) -> Response:
        service.metrics.read_engine(service.models.rerankers)
        body, content_type = service.metrics.exposition()
        return Response(body, headers={"Content-Type": content_type})

    async def stats(_: Request) -> Response:
        service.metrics.read_engine(service.models.rerankers)
        state = "draining" if service.draining else "ready" if service.models.ready else "loading"
        served = [
            {"name": name, **info_answer(model, names, settings)} for name, model in service.models.loaded.items()
        ]
        summary: dict[str, Any] = {
            "status": state,
            "needs_key": service.keys is not None,
            "workers": settings.workers,
            "served": served,
            **service.metrics.summary(),
        }
        return JSONResponse(summary)

    async def openapi(_: Request) -> Response:
        return JSONResponse(openapi_document(settings))

    async def page(_: Request) -> Response:
        return HTMLResponse(PAGE, headers=PAGE_HEADERS)

    return [
        Route("/", page),
        Route("/health", health),
        Route("/ready", ready),
        Route("/info", info),
        Route("/models", models),
        Route("/v1/models", models),
        Route("/metrics", metrics),
        Route("/stats", stats),
        Route("/openapi.json", openapi),
    ]


async def _refused(request: Request, refusal: Exception) -> Response:
    assert isinstance(refusal, Refusal)  # noqa: S101  Starlette's handlers are typed for any exception
    return refusal.response(record_of(request.scope).id)


async def _failed(request: Request, error: Exception) -> Response:
    assert isinstance(error, CrossrankError)  # noqa: S101
    return refusal_of(error).response(record_of(request.scope).id)


async def _gone(_: Request, __: Exception) -> Response:
    return Response(status_code=499)  # nobody reads it; the log has it


async def _no_route(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101
    message = {404: f"no route {request.url.path}; /openapi.json lists them", 405: "this route takes another method"}
    refusal = Refusal(
        error.status_code,
        message.get(error.status_code, str(error.detail)),
        "not_found" if error.status_code == 404 else "method_not_allowed",  # noqa: PLR2004
        headers=dict(error.headers or {}),
    )
    return refusal.response(record_of(request.scope).id)


async def _unexpected(request: Request, _: Exception) -> Response:
    return Refusal(500, "the service failed; its log has the reason", "internal_error").response(
        record_of(request.scope).id
    )
