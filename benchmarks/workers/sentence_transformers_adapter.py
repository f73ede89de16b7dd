"""sentence-transformers' CrossEncoder, on the backend that the options name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

PACKAGES = ("sentence-transformers", "optimum", "optimum-onnx", "optimum-intel", "openvino", "tokenizers")
SCALE = "probability"


def load(options: dict[str, Any]) -> Callable[[str, list[str]], Iterable[float]]:
    """Load a checkpoint folder: options `checkpoint`, `backend` (torch, onnx or openvino)."""
    import torch
    from sentence_transformers import CrossEncoder

    backend = options["backend"]
    # onnxruntime's first provider is taken by default; on a CPU-only machine some builds list others before it.
    model_options = {"provider": "CPUExecutionProvider"} if backend == "onnx" else {}
    model = CrossEncoder(
        options["checkpoint"], max_length=512, device="cpu", backend=backend, model_kwargs=model_options
    )
    sigmoid = torch.nn.Sigmoid()

    def score(query: str, documents: list[str]) -> Iterable[float]:
        scores: Iterable[float] = model.predict(
            [(query, document) for document in documents], activation_fn=sigmoid, show_progress_bar=False
        )
        return scores

    return score
