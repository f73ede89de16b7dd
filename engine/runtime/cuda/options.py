"""Options of onnxruntime's CUDA provider, and those of a run. Names and values are as onnxruntime spells them.

onnxruntime ignores unknown session and run keys silently, so all keys in use are defined here. Not run on a GPU yet.
"""

from __future__ import annotations

GRAPH_ID = "gpu_graph_id"
"""Run option: which captured graph to replay. Unset means 0, which captures the run as well, so every run sets it."""
NOT_CAPTURED = -1
FIRST_GRAPH_ID = 1


def cuda_provider_options(device: int, *, memory_limit: int | None, capture: bool) -> dict[str, str]:
    """Options of the CUDA provider.

    Args:
        device: number of the GPU.
        memory_limit: bytes of the arena at most; None for no limit. CUDA's libraries and graphs need more besides.
        capture: whether runs may be captured as CUDA graphs.
    """
    options = {
        "device_id": str(device),
        # TF32 would round float32 products to 10 bits of mantissa.
        "use_tf32": "0",
        # Doubling the arena would claim up to twice the memory that runs need.
        "arena_extend_strategy": "kSameAsRequested",
        "enable_cuda_graph": "1" if capture else "0",
    }
    if memory_limit is not None:
        options["gpu_mem_limit"] = str(memory_limit)
    return options
