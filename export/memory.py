"""Returns memory to the system between the steps of an export, whose graphs are as large as the model."""

from __future__ import annotations

import ctypes
import gc

WORTH_IT = 200_000_000
"""Bytes of weights from which a garbage collection, which takes long in a process with torch, is worth its time."""


def release(size: int) -> None:
    """Collect reference cycles, and return freed pages to the system.

    onnxruntime's optimizer leaves whole graphs in reference cycles, and glibc keeps freed small blocks. Together they
    take several times the model's size.

    Args:
        size: bytes of the graph's weights; below `WORTH_IT` nothing is done.
    """
    if size < WORTH_IT:
        return
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
