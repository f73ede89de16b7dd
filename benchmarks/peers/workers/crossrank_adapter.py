"""crossrank itself, as users call it: `Reranker`, and `AsyncReranker` for many callers at once."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from crossrank.models.manifest import Precision, Provider

PACKAGES = ("crossrank", "tokenizers")
SCALE = "logit"
REFUSAL = "Overloaded"


async def load(
    *, model: str, precision: Precision, device: Provider, concurrent: bool = False
) -> Callable[[str, list[str]], Iterable[float] | Awaitable[object]]:
    """Open a model; `concurrent` opens it as a service would, beside an event loop."""
    from crossrank import AsyncReranker, Reranker
    from crossrank.benchmarks.harness.engine_options import engine_options

    if concurrent:
        shared = AsyncReranker(model, precision=precision, **engine_options(device))
        await shared.warmup()
        return shared.rank
    reranker = Reranker(model, precision=precision, activation="identity", **engine_options(device))
    reranker.warmup()
    return reranker.score
