"""sentence-transformers' CrossEncoder, on the backend that the options name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

PACKAGES = ("sentence-transformers", "optimum", "optimum-onnx", "optimum-intel", "openvino", "tokenizers")
SCALE = "probability"
_PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}


def load(
    *, checkpoint: str, device: str, backend: str, fp16: bool = False
) -> Callable[[str, list[str]], Iterable[float]]:
    """Load a checkpoint folder.

    Args:
        checkpoint: the folder.
        device: cpu or cuda.
        backend: torch, onnx or openvino.
        fp16: whether torch computes in fp16.
    """
    import torch
    from sentence_transformers import CrossEncoder

    model_options: dict[str, Any] = {}
    if backend == "onnx":
        # The default is onnxruntime's first provider, which in some builds is not the CPU's even without a GPU.
        model_options["provider"] = _PROVIDERS[device]
    if fp16:
        model_options["torch_dtype"] = torch.float16
    model = CrossEncoder(checkpoint, max_length=512, device=device, backend=backend, model_kwargs=model_options)
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
