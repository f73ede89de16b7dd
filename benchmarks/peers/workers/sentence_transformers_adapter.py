"""sentence-transformers' CrossEncoder, on the backend that the options name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

PACKAGES = ("sentence-transformers", "optimum", "optimum-onnx", "optimum-intel", "openvino", "tokenizers")
SCALE = "probability"
_PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}


def load(options: dict[str, Any]) -> Callable[[str, list[str]], Iterable[float]]:
    """Load a checkpoint folder.

    Args:
        options: `checkpoint`, `backend` (torch, onnx or openvino), `device` (cpu or cuda), and `half` for torch in half
            precision.
    """
    import torch
    from sentence_transformers import CrossEncoder

    backend = options["backend"]
    model_options: dict[str, Any] = {}
    if backend == "onnx":
        # onnxruntime's first provider is taken by default; on a CPU-only machine some builds list others before it.
        model_options["provider"] = _PROVIDERS[options["device"]]
    if options.get("half"):
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
