"""The models that are served, by name: loaded in a thread while the service already answers its probes."""

from __future__ import annotations

import asyncio
import logging
import threading
from typing import TYPE_CHECKING

from crossrank.async_reranker import AsyncReranker
from crossrank.engine.runtime.cores import available_cores
from crossrank.server.failures import Refusal

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from crossrank.server.settings import ModelSettings, ServerSettings

logger = logging.getLogger("crossrank.server")

_RETRY_LOADING = 2.0
_UNNAMED = "default/not-specified"
"""What infinity's client sends as the model where its user names none."""


class ServedModel:
    """One model under one name."""

    def __init__(self, name: str, settings: ModelSettings, reranker: AsyncReranker) -> None:
        """Serve a reranker, which may stand under several names.

        Args:
            name: what requests call it.
            settings: as it was loaded.
            reranker: gives logits, whatever the model's activation.
        """
        self.name = name
        self.settings = settings
        self.reranker = reranker


def open_model(settings: ModelSettings, threads: int) -> AsyncReranker:
    """Load a model as it is served: with its logits, so that every request can ask for them.

    Args:
        settings: which, and how.
        threads: processor threads where the settings do not say.
    """
    return AsyncReranker(
        settings.source,
        provider=settings.provider,
        precision=settings.precision,
        threads=settings.threads or threads,
        max_length=settings.max_length,
        activation="identity",
        max_batch_tokens=settings.max_batch_tokens,
        max_queue_tokens=settings.max_queue_tokens,
        long_documents=settings.long_documents,
        score_cache_bytes=settings.score_cache_bytes,
        revision=settings.revision,
        trust_remote_code=settings.trust_remote_code,
        instruction=settings.instruction,
        positive_label=settings.positive_label,
    )


class ServedModels:
    """All models of a process. Names with equal settings share one reranker."""

    def __init__(
        self, settings: ServerSettings, opener: Callable[[ModelSettings, int], AsyncReranker] = open_model
    ) -> None:
        """Load nothing yet.

        Args:
            settings: names the models.
            opener: loads one.
        """
        self._settings = settings
        self._opener = opener
        self._served: dict[str, ServedModel] = {}
        self._rerankers: dict[ModelSettings, AsyncReranker] = {}
        self.error: Exception | None = None
        self.ready = False
        self._closing = threading.Event()

    async def load(self) -> None:
        """Load all of them in a thread; `ready` or `error` says how it went."""
        try:
            await asyncio.to_thread(self._load)
        except Exception as error:  # whatever it is: who waits for `ready` must not wait for ever
            self.error = error
            raise
        self.ready = not self._closing.is_set()

    def _load(self) -> None:
        threads = max(1, available_cores() // self._settings.workers)
        for name, settings in self._settings.models.items():
            if self._closing.is_set():
                return
            # raw_scores is about answers, not about what is loaded.
            loaded_as = settings.model_copy(update={"raw_scores": False})
            if loaded_as not in self._rerankers:
                self._rerankers[loaded_as] = self._opener(settings, threads)
            self._served[name] = ServedModel(name, settings, self._rerankers[loaded_as])
            info = self._rerankers[loaded_as].info()
            logger.info(
                "model %s: %s, %s on %s, %d threads", name, info.model, info.precision, info.provider, info.threads
            )

    def find(self, name: str | None) -> ServedModel:
        """A model by the name a request gives; the first where it gives none.

        Raises:
            Refusal: no model has that name (404), or models are still loaded (503).
        """
        if name == _UNNAMED and name not in self._settings.models:
            name = None
        if name is not None and name not in self._settings.models:
            names = ", ".join(self._settings.models)
            raise Refusal(
                404,
                f"model {name!r} is not served here; served: {names}. 'crossrank serve -m {name}=SOURCE' serves it",
                "model_not_found",
                param="model",
            )
        if not self.ready:
            raise Refusal(503, "models are still being loaded", "not_ready", retry_after=_RETRY_LOADING)
        return self._served[name if name is not None else next(iter(self._settings.models))]

    @property
    def loaded(self) -> Mapping[str, ServedModel]:
        """Those that are loaded by now, by name."""
        return self._served

    @property
    def rerankers(self) -> list[AsyncReranker]:
        """Each of the loaded rerankers once."""
        return list(self._rerankers.values())

    def healthy(self) -> bool:
        """Whether nothing failed to load and all threads live."""
        return self.error is None and all(reranker.health().ok for reranker in self.rerankers)

    async def close(self) -> None:
        """Let calls in progress end, and free the models."""
        self._closing.set()
        self.ready = False
        for reranker in self.rerankers:
            await reranker.aclose(drain=True)
