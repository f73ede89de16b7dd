"""sentence-transformers' CrossEncoder, on the backend that the options name; under load, in a thread pool."""

from __future__ import annotations

import asyncio
import os
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

PACKAGES = ("sentence-transformers", "optimum", "optimum-onnx", "optimum-intel", "openvino", "tokenizers")
SCALE = "probability"
_PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}


def load(options: dict[str, Any]) -> Callable[[str, list[str]], Iterable[float]]:
    """Load a checkpoint folder.

    Args:
        options: `checkpoint`, `backend` (torch, onnx or openvino), `device` (cpu or cuda), and `fp16` for torch in
            fp16.
    """
    import torch
    from sentence_transformers import CrossEncoder

    backend = options["backend"]
    model_options: dict[str, Any] = {}
    if backend == "onnx":
        # The default is onnxruntime's first provider, which in some builds is not the CPU's even without a GPU.
        model_options["provider"] = _PROVIDERS[options["device"]]
    if options.get("fp16"):
        model_options["torch_dtype"] = torch.float16
    model = CrossEncoder(
        options["checkpoint"], max_length=512, device=options["device"], backend=backend, model_kwargs=model_options
    )
    if backend == "onnx" and model[0].auto_model.provider != model_options["provider"]:
        # onnxruntime falls back to the CPU with no more than a warning.
        raise RuntimeError(f"asked for {model_options['provider']}, it runs on {model[0].auto_model.provider}")
    sigmoid = torch.nn.Sigmoid()

    def score(query: str, documents: list[str]) -> Iterable[float]:
        scores: Iterable[float] = model.predict(
            [(query, document) for document in documents], activation_fn=sigmoid, show_progress_bar=False
        )
        return scores

    return score


async def load_async(options: dict[str, Any]) -> tuple[Callable[[str, list[str]], Awaitable[object]], tuple[type, ...]]:
    """Load a checkpoint folder on torch: options `checkpoint`, `device` (cpu or cuda).

    A thread pool is the usual way to serve it from an event loop. It has as many threads as there are cores on the CPU,
    and one on CUDA, since the device runs one call at a time.

    Returns:
        The function that reranks, and the errors by which it refuses a request: none.
    """
    from sentence_transformers import CrossEncoder

    model = CrossEncoder(options["checkpoint"], max_length=512, device=options["device"])
    pool = ThreadPoolExecutor(1 if options["device"] == "cuda" else len(os.sched_getaffinity(0)))

    def predict(query: str, documents: list[str]) -> object:
        return model.predict([(query, document) for document in documents], show_progress_bar=False)

    async def rerank(query: str, documents: list[str]) -> object:
        return await asyncio.get_running_loop().run_in_executor(pool, predict, query, documents)

    return rerank, ()
