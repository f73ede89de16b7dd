"""crossrank itself, as users call it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

PACKAGES = ("crossrank", "tokenizers")
SCALE = "logit"


def load(options: dict[str, Any]) -> Callable[[str, list[str]], Iterable[float]]:
    """Open a model: options `model`, `precision`."""
    from crossrank import Reranker

    reranker = Reranker(options["model"], provider="cpu", precision=options["precision"], activation="identity")
    reranker.warmup()
    return reranker.score
