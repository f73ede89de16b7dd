"""fastembed's TextCrossEncoder with our weights as a custom model."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

PACKAGES = ("fastembed", "tokenizers")
SCALE = "logit"
_NAME = "benchmark/same-weights"


def load(*, graph: str, device: str) -> Callable[[str, list[str]], Iterable[float]]:
    """Load an ONNX file with the tokenizer's files beside it, on cpu or cuda."""
    from fastembed.common.model_description import ModelSource
    from fastembed.rerank.cross_encoder import TextCrossEncoder

    file = Path(graph)
    TextCrossEncoder.add_custom_model(_NAME, sources=ModelSource(hf=_NAME), model_file=file.name)
    model = TextCrossEncoder(_NAME, specific_model_path=str(file.parent), cuda=device == "cuda")
    if device == "cuda" and model.model.model.get_providers()[0] != "CUDAExecutionProvider":
        # onnxruntime falls back to the CPU with no more than a warning.
        raise RuntimeError(f"asked for CUDA, it runs on {model.model.model.get_providers()[0]}")

    def score(query: str, documents: list[str]) -> Iterable[float]:
        return list(model.rerank(query, documents))

    return score
