"""infinity's engine in process, without its server; it batches across callers itself and refuses no request."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

PACKAGES = ("infinity-emb", "sentence-transformers", "tokenizers")
SCALE = "probability"


async def load(*, checkpoint: str, device: str) -> Callable[[str, list[str]], Awaitable[Iterable[float]]]:
    """Load a checkpoint folder on the torch engine, on cpu or cuda; on CUDA it uses fp16 by default."""
    from infinity_emb import AsyncEmbeddingEngine, EngineArgs

    engine = AsyncEmbeddingEngine.from_args(
        EngineArgs(model_name_or_path=checkpoint, engine="torch", device=device, model_warmup=False)
    )
    await engine.astart()

    async def score(query: str, documents: list[str]) -> Iterable[float]:
        ranked, _ = await engine.rerank(query=query, docs=documents)
        scores = [0.0] * len(documents)
        for item in ranked:
            scores[item.index] = item.relevance_score
        return scores

    return score
