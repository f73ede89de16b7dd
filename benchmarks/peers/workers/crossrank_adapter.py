"""crossrank itself, as users call it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

PACKAGES = ("crossrank", "tokenizers")
SCALE = "logit"


def load(options: dict[str, Any]) -> Callable[[str, list[str]], Iterable[float]]:
    """Open a model: options `model`, `precision`, `device` (cpu or cuda)."""
    from crossrank import Reranker
    from crossrank.benchmarks.harness.engine_options import engine_options

    where = engine_options(options["device"])
    reranker = Reranker(options["model"], precision=options["precision"], activation="identity", **where)
    reranker.warmup()
    return reranker.score
