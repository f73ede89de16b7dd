"""crossrank's asynchronous reranker, as a service would use it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable


async def load(options: dict[str, Any]) -> tuple[Callable[[str, list[str]], Awaitable[object]], tuple[type, ...]]:
    """Open a model: options `model`, `precision`, `device` (cpu or cuda).

    Returns:
        How to rerank, and the errors that refuse a request.
    """
    from crossrank import AsyncReranker, Overloaded
    from crossrank.benchmarks.harness.engine_options import engine_options

    where = engine_options(options["device"])
    reranker = AsyncReranker(options["model"], precision=options["precision"], **where)
    await reranker.warmup()
    return reranker.rank, (Overloaded,)
