"""`AsyncReranker`: finds a model by name, and scores for the callers of an event loop."""

from __future__ import annotations

from typing import Any

from crossrank.engine.async_artifact_reranker import AsyncArtifactReranker
from crossrank.engine.config import with_parameters_of
from crossrank.reranker import Reranker


class AsyncReranker(AsyncArtifactReranker):
    """Scores and ranks documents for the callers of an event loop, who share its batches.

    Examples:
        >>> from crossrank import AsyncReranker
        >>> async def answer() -> int:
        ...     async with AsyncReranker() as reranker:
        ...         ranking = await reranker.rank("how do vaccines work", ["They train immune cells.", "Stocks fell."])
        ...     return ranking[0].index
    """

    @with_parameters_of(Reranker.__init__)
    def __init__(self, *arguments: Any, **options: Any) -> None:
        """Find the model and load it. This blocks, so do it before the event loop serves callers.

        Takes what `Reranker` takes. Beside an event loop, calls that would wait for more than about four seconds of
        work, at the observed speed, are refused as well, and `max_queue_tokens=None` means ten million.

        Raises:
            CrossrankError: as `Reranker`.
        """
        super().__init__(Reranker(*arguments, **options))
