"""infinity's engine in process, without its server; it batches across callers itself and refuses nobody."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable


async def load(options: dict[str, Any]) -> tuple[Callable[[str, list[str]], Awaitable[object]], tuple[type, ...]]:
    """Load the checkpoint folder `options["checkpoint"]` on the torch engine; `device` is cpu or cuda."""
    from infinity_emb import AsyncEmbeddingEngine, EngineArgs

    engine = AsyncEmbeddingEngine.from_args(
        EngineArgs(
            model_name_or_path=options["checkpoint"], engine="torch", device=options["device"], model_warmup=False
        )
    )
    await engine.astart()

    async def rerank(query: str, documents: list[str]) -> object:
        return await engine.rerank(query=query, docs=documents)

    return rerank, ()
