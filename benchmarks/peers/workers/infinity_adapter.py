"""infinity's engine in process, without its server."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

PACKAGES = ("infinity-emb", "sentence-transformers", "tokenizers")
SCALE = "probability"


def load(options: dict[str, Any]) -> Callable[[str, list[str]], Iterable[float]]:
    """Load the checkpoint folder `options["checkpoint"]` on the torch engine; `device` is cpu or cuda.

    On CUDA it takes half precision by itself.
    """
    from infinity_emb import AsyncEmbeddingEngine, EngineArgs

    loop = asyncio.new_event_loop()
    engine = AsyncEmbeddingEngine.from_args(
        EngineArgs(
            model_name_or_path=options["checkpoint"], engine="torch", device=options["device"], model_warmup=False
        )
    )
    loop.run_until_complete(engine.astart())

    def score(query: str, documents: list[str]) -> Iterable[float]:
        ranked, _ = loop.run_until_complete(engine.rerank(query=query, docs=documents))
        scores = [0.0] * len(documents)
        for item in ranked:
            scores[item.index] = item.relevance_score
        return scores

    return score
