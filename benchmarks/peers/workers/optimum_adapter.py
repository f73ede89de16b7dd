"""optimum's ORTModelForSequenceClassification, the way its documentation shows: one padded batch a call."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

PACKAGES = ("optimum", "optimum-onnx", "tokenizers")
SCALE = "logit"
_PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}
_BATCH = 32
"""optimum leaves batching to its user; 32 is sentence-transformers' default."""


def load(*, checkpoint: str, device: str) -> Callable[[str, list[str]], Iterable[float]]:
    """Export a checkpoint folder with optimum itself, and load it on cpu or cuda."""
    from optimum.onnxruntime import ORTModelForSequenceClassification
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(checkpoint)
    model = ORTModelForSequenceClassification.from_pretrained(checkpoint, export=True, provider=_PROVIDERS[device])
    if model.provider != _PROVIDERS[device]:
        # onnxruntime falls back to the CPU with no more than a warning.
        raise RuntimeError(f"asked for {_PROVIDERS[device]}, it runs on {model.provider}")
    # On CUDA optimum binds inputs and outputs itself and accepts torch tensors only.
    tensors = "pt" if device == "cuda" else "np"

    def score(query: str, documents: list[str]) -> Iterable[float]:
        scores: list[float] = []
        for start in range(0, len(documents), _BATCH):
            batch = documents[start : start + _BATCH]
            features = tokenizer(
                [query] * len(batch), batch, padding=True, truncation=True, max_length=512, return_tensors=tensors
            )
            if tensors == "pt":
                features = features.to(device)
            scores.extend(model(**features).logits[:, 0].tolist())
        return scores

    return score
