"""The engine's options for a provider, as benchmarks and self-check open it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from crossrank.models.manifest import Precision, Provider

DEFAULT_PRECISIONS: dict[Provider, tuple[Precision, ...]] = {"cpu": ("fp32", "int8"), "cuda": ("fp16", "fp32")}
"""The precisions that are measured unless others are named."""
FASTEST_PRECISION: dict[Provider, Precision] = {"cpu": "int8", "cuda": "fp16"}
"""The one that is measured where one precision is enough."""


def engine_options(provider: Provider, *, device: int = 0, cuda_graphs: bool = True) -> dict[str, Any]:
    """Options of `Reranker` and `AsyncReranker` that say where to run.

    Args:
        provider: execution provider.
        device: CUDA device id.
        cuda_graphs: whether runs are captured as CUDA graphs.
    """
    if provider == "cpu":
        return {"provider": "cpu"}
    return {"provider": "cuda", "devices": [device], "cuda_graphs": cuda_graphs}
