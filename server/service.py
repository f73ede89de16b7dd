"""What the routes of one process share: models, keys, counts, and whether it is about to end."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING

from crossrank.errors import CrossrankError
from crossrank.server.failures import Refusal
from crossrank.server.keys import Keys
from crossrank.server.metrics import Metrics
from crossrank.server.reading import BodyReader
from crossrank.server.served_models import ServedModels

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.requests import Request

    from crossrank.async_reranker import AsyncReranker
    from crossrank.server.settings import ModelSettings, ServerSettings

logger = logging.getLogger("crossrank.server")


class Service:
    """What the routes of one process share.

    Attributes:
        settings: as given.
        models: what is served.
        keys: who may score; None where everybody may.
        metrics: what is counted.
        bodies: reads requests.
        draining: whether new requests are refused because the process is to end.
        in_progress: scoring requests that were accepted and have no answer yet.
    """

    def __init__(self, settings: ServerSettings, opener: Callable[[ModelSettings, int], AsyncReranker]) -> None:
        """Load nothing yet.

        Raises:
            InvalidInputError: the file of keys cannot be used.
        """
        self.settings = settings
        self.models = ServedModels(settings, opener)
        self.keys = None if settings.keys_file is None else Keys.read(settings.keys_file)
        self.metrics = Metrics()
        self.bodies = BodyReader(settings)
        self.draining = False
        self.in_progress = 0
        self.started = time.time()
        self._when_ready: Callable[[], object] = lambda: None
        self._when_failed: Callable[[], object] = lambda: None

    def on_ready(self, call: Callable[[], object]) -> None:
        """Call a function when all models are loaded."""
        self._when_ready = call

    def on_failure(self, call: Callable[[], object]) -> None:
        """Call a function when a model cannot be loaded."""
        self._when_failed = call

    async def load(self) -> None:
        """Load the models, and say how that went."""
        began = time.monotonic()
        try:
            await self.models.load()
        except Exception as error:
            # The messages of expected errors say what to do; of others only the traceback does.
            unexpected = not isinstance(error, CrossrankError | OSError)
            logger.error("the models could not be loaded: %s", error, exc_info=unexpected)  # noqa: TRY400
            self._when_failed()
            return
        for reranker in self.models.rerankers:
            reranker.observe_batches(self.metrics.observe_batch)
        logger.info("ready: models loaded in %.2f s", time.monotonic() - began)
        self._when_ready()

    def check_open(self) -> None:
        """Refuse what comes when the process is to end, or where nothing can be scored.

        Raises:
            Refusal: 503.
        """
        if self.draining:
            raise Refusal(
                503,
                "this process finishes what it accepted and takes no more",
                "draining",
                retry_after=1.0,
                headers={"Connection": "close"},
            )
        if self.models.error is not None:
            raise Refusal(503, f"the models could not be loaded: {self.models.error}", "not_ready")

    def check_key(self, request: Request) -> None:
        """Refuse a request without a valid key, before its body is read.

        Raises:
            Refusal: 401.
        """
        if self.keys is not None and not self.keys.accept(request.headers.get("authorization")):
            raise Refusal(
                401,
                "no valid key: send 'Authorization: Bearer KEY' with one of the service's keys",
                "invalid_api_key",
                headers={"WWW-Authenticate": "Bearer"},
            )

    async def drained(self) -> None:
        """Take no more requests, and return when those that were accepted have their answers."""
        self.draining = True
        while self.in_progress:
            await asyncio.sleep(0.02)
