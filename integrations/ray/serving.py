"""The HTTP service as a deployment of Ray Serve, which has the replicas, the sockets and the routing."""

# No `from __future__ import annotations`: Serve reads the annotation of `application` as a class, not as its name.
import asyncio
from typing import TYPE_CHECKING

from crossrank.errors import InferenceError, InvalidInputError
from crossrank.integrations.ray.assigned import assigned
from crossrank.server.settings import ModelSettings, ServerSettings

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ray import serve
    from starlette.types import ASGIApp

    from crossrank.async_reranker import AsyncReranker
    from crossrank.engine.call.results import RankResult
    from crossrank.engine.text.documents import Document
    from crossrank.server.service import Service

TARGET_ONGOING_REQUESTS = 4
"""Requests a replica has at a time, on average, before another one is started. docs/ray.md has the measurements."""

MAX_ONGOING_REQUESTS = 1000
"""Requests a replica takes at a time. More than four seconds of work are refused by the engine long before; Serve's own
five would hold back the requests that are to share runs, and the engine could neither order nor refuse them."""

_NOT_HERE = frozenset(
    {"host", "port", "workers", "max_connections", "header_timeout", "write_timeout", "keep_alive", "drain_timeout"}
)
"""Settings of `crossrank serve` about its own sockets and processes; in Serve both are Ray's."""


class RerankerReplica:
    """One replica of the HTTP service (docs/http.md) in Ray Serve, and `rank` for other deployments.

    Requests wait in the engine's queue, which orders them, lets them share runs and refuses those that would wait too
    long: with status 429, and `Overloaded` for a handle. docs/decisions.md says why that is not `serve.batch`.
    """

    def __init__(self, settings: ServerSettings | None = None) -> None:
        """Load nothing yet: Serve builds and starts the application next.

        Args:
            settings: models and limits; None serves the embedded model.

        Raises:
            InvalidInputError: a setting is about sockets or processes, which are Ray's.
        """
        self._settings = _checked(settings or ServerSettings())
        self._loaded = asyncio.Event()
        self._service: Service | None = None

    def __serve_build_asgi_app__(self) -> "ASGIApp":
        """The application of this replica; a name that Serve gives (`serve.ingress`)."""
        from crossrank.server.app import create_app

        return create_app(self._settings, opener=_open, on_start=self._start)

    def _start(self, service: "Service") -> None:
        self._service = service
        service.on_ready(self._loaded.set)
        service.on_failure(self._loaded.set)

    async def check_health(self) -> None:
        """Wait until the models are loaded, which keeps requests from a replica that starts, and see that they work.

        Raises:
            CrossrankError: a model could not be loaded, or its engine failed. Serve starts another replica.
        """
        await self._loaded.wait()
        assert self._service is not None  # noqa: S101  it set the event
        models = self._service.models
        if models.error is not None:
            raise models.error
        for name, model in models.loaded.items():
            health = model.reranker.health()
            if not health.ok:
                raise InferenceError(f"model {name!r} can score no more: {health.last_error}")

    async def rank(
        self,
        query: str,
        documents: "Sequence[Document]",
        top_k: int | None = None,
        *,
        model: str | None = None,
        deadline_ms: float | None = None,
        priority: int = 0,
    ) -> "RankResult":
        """Rank documents for another deployment: `await handle.rank.remote(query, documents)`.

        Args:
            query: the query.
            documents: strings, or mappings with a 'text' field.
            top_k: how many to return at most; None returns all.
            model: by the name it is served under; None takes the first.
            deadline_ms: as for `AsyncReranker.rank`.
            priority: as for `AsyncReranker.rank`.

        Returns:
            The ranking, without the documents. Scores are logits, as the service loads its models.

        Raises:
            InvalidInputError: a document is no text, or no model has that name.
            Overloaded: it would wait too long.
            CrossrankError: otherwise as `AsyncReranker.rank`.
        """
        from crossrank.server.failures import Refusal

        assert self._service is not None  # noqa: S101  Serve sends nothing before check_health returned
        try:
            reranker = self._service.models.find(model).reranker
        except Refusal as refusal:
            raise InvalidInputError(refusal.message) from None
        return await reranker.rank(
            query, documents, top_k, return_documents=False, deadline_ms=deadline_ms, priority=priority
        )


def _checked(settings: ServerSettings) -> ServerSettings:
    if given := sorted(settings.model_fields_set & _NOT_HERE):
        raise InvalidInputError(
            f"{', '.join(given)}: no settings of a replica. Sockets are Ray's (serve.start(http_options=...)), "
            "processes are replicas (num_replicas), draining is graceful_shutdown_timeout_s"
        )
    return settings


def _open(settings: ModelSettings, _: int) -> "AsyncReranker":
    """Load a model on what Ray assigned to the replica, whatever the machine has."""
    from crossrank.server.served_models import open_model

    share = assigned()
    return open_model(settings.model_copy(update={"provider": share.provider(settings.provider)}), share.threads)


def deployment() -> "serve.Deployment":
    """The Serve deployment 'crossrank', for `.options(...)` and `.bind(settings)`.

    Replicas have one CPU each and are started and ended by how many requests they have at a time
    (`TARGET_ONGOING_REQUESTS`). All of that is Serve's to change: `deployment().options(num_replicas=2,
    ray_actor_options={"num_cpus": 4})`; the threads follow.

    Example:
        >>> from crossrank.integrations.ray import deployment
        >>> from crossrank.server.settings import ServerSettings
        >>> app = deployment().options(ray_actor_options={"num_cpus": 4}).bind(ServerSettings())  # doctest: +SKIP
    """
    from ray import serve

    return serve.deployment(
        serve.ingress()(RerankerReplica),
        name="crossrank",
        num_replicas="auto",
        autoscaling_config={"target_ongoing_requests": TARGET_ONGOING_REQUESTS},
        ray_actor_options={"num_cpus": 1},
        max_ongoing_requests=MAX_ONGOING_REQUESTS,
        max_queued_requests=MAX_ONGOING_REQUESTS,
        # The drain timeout of `crossrank serve`: a request that was accepted has waited for four seconds at most.
        graceful_shutdown_timeout_s=30.0,
    )


def application(settings: ServerSettings) -> "serve.Application":
    """What `serve run crossrank.integrations.ray:application` and a Serve config file build.

    Args:
        settings: models and limits, in a config file under `args`.

    Raises:
        InvalidInputError: a setting is about sockets or processes, which are Ray's.
    """
    return deployment().bind(_checked(settings))
