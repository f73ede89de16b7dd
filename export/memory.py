"""Giving memory back between the steps of an export, whose graphs are as large as the model."""

from __future__ import annotations

import ctypes
import gc

WORTH_IT = 200_000_000
"""Bytes of weights from which a collection, which takes a moment in a process with torch, is worth its time."""


def release(size: int) -> None:
    """Collect what only reference cycles keep alive, and hand freed pages back to the system.

    onnxruntime's optimizer leaves whole graphs in reference cycles, and glibc keeps what was freed in small pieces:
    together several times the model's size.

    Args:
        size: bytes of the weights at hand; below `WORTH_IT` nothing is done.
    """
    if size < WORTH_IT:
        return
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
