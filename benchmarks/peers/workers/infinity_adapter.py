"""infinity's engine in process, without its server; it batches across callers itself and refuses no request."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

PACKAGES = ("infinity-emb", "sentence-transformers", "tokenizers")
SCALE = "probability"


def load(options: dict[str, Any]) -> Callable[[str, list[str]], Iterable[float]]:
    """Load the checkpoint folder `options["checkpoint"]` on the torch engine; `device` is cpu or cuda.

    On CUDA it uses fp16 by default.
    """
    loop = asyncio.new_event_loop()
    engine = _engine(options)
    loop.run_until_complete(engine.astart())

    def score(query: str, documents: list[str]) -> Iterable[float]:
        ranked, _ = loop.run_until_complete(engine.rerank(query=query, docs=documents))
        scores = [0.0] * len(documents)
        for item in ranked:
            scores[item.index] = item.relevance_score
        return scores

    return score


async def load_async(options: dict[str, Any]) -> tuple[Callable[[str, list[str]], Awaitable[object]], tuple[type, ...]]:
    """Load the checkpoint folder `options["checkpoint"]` on the torch engine; `device` is cpu or cuda.

    Returns:
        The function that reranks, and the errors by which it refuses a request: none.
    """
    engine = _engine(options)
    await engine.astart()

    async def rerank(query: str, documents: list[str]) -> object:
        return await engine.rerank(query=query, docs=documents)

    return rerank, ()


def _engine(options: dict[str, Any]) -> Any:
    from infinity_emb import AsyncEmbeddingEngine, EngineArgs

    return AsyncEmbeddingEngine.from_args(
        EngineArgs(
            model_name_or_path=options["checkpoint"], engine="torch", device=options["device"], model_warmup=False
        )
    )
