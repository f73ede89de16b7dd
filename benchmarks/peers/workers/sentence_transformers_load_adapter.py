"""sentence-transformers' CrossEncoder behind a pool of threads, the usual way to serve it from an event loop."""

from __future__ import annotations

import asyncio
import os
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable


async def load(options: dict[str, Any]) -> tuple[Callable[[str, list[str]], Awaitable[object]], tuple[type, ...]]:
    """Load a checkpoint folder on torch: options `checkpoint`, `device` (cpu or cuda).

    On the CPU as many calls at once as there are cores; on CUDA one, as a device does one thing at a time.
    """
    from sentence_transformers import CrossEncoder

    model = CrossEncoder(options["checkpoint"], max_length=512, device=options["device"])
    pool = ThreadPoolExecutor(1 if options["device"] == "cuda" else len(os.sched_getaffinity(0)))

    def predict(query: str, documents: list[str]) -> object:
        return model.predict([(query, document) for document in documents], show_progress_bar=False)

    async def rerank(query: str, documents: list[str]) -> object:
        return await asyncio.get_running_loop().run_in_executor(pool, predict, query, documents)

    return rerank, ()
