"""crossrank itself, as users call it: `Reranker`, and `AsyncReranker` for the benchmark under load."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

PACKAGES = ("crossrank", "tokenizers")
SCALE = "logit"


def load(options: dict[str, Any]) -> Callable[[str, list[str]], Iterable[float]]:
    """Open a model: options `model`, `precision`, `device` (cpu or cuda)."""
    from crossrank import Reranker
    from crossrank.benchmarks.harness.engine_options import engine_options

    on_device = engine_options(options["device"])
    reranker = Reranker(options["model"], precision=options["precision"], activation="identity", **on_device)
    reranker.warmup()
    return reranker.score


async def load_async(options: dict[str, Any]) -> tuple[Callable[[str, list[str]], Awaitable[object]], tuple[type, ...]]:
    """Open a model as a service would: options `model`, `precision`, `device` (cpu or cuda).

    Returns:
        The function that reranks, and the errors by which it refuses a request.
    """
    from crossrank import AsyncReranker, Overloaded
    from crossrank.benchmarks.harness.engine_options import engine_options

    on_device = engine_options(options["device"])
    reranker = AsyncReranker(options["model"], precision=options["precision"], **on_device)
    await reranker.warmup()
    return reranker.rank, (Overloaded,)
