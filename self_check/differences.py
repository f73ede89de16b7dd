"""How far two lists of logits are apart, and how far the batch that a pair is in may move its logit."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

    from crossrank.models.manifest import Precision

BATCH_TOLERANCE: dict[Precision, float] = {"fp32": 1e-5, "fp16": 1e-2, "int8": 0.0}
"""Largest difference of a pair's logit, relative to max(1, |logit|), that the other pairs of its batch may cause.

For fp32 and int8 this is what the documentation promises. For fp16 it is what we expect: float16 has 11 significant
bits, and a kernel that sums in another order changes the last of them. Not measured on a GPU yet.
"""


def relative_difference(logits: npt.NDArray[np.floating], expected: npt.NDArray[np.floating]) -> float:
    """Largest |logit - expected| / max(1, |expected|); infinite if one is not a number or the lengths differ.

    Args:
        logits: of the engine, (n,).
        expected: reference logits (n,).
    """
    if np.shape(logits) != np.shape(expected):
        return math.inf
    if not len(expected):
        return 0.0
    actual, reference = np.asarray(logits, dtype=np.float64), np.asarray(expected, dtype=np.float64)
    largest = float(np.max(np.abs(actual - reference) / np.maximum(1.0, np.abs(reference))))
    return largest if math.isfinite(largest) else math.inf


def spread(logits: npt.NDArray[np.floating]) -> float:
    """Largest minus smallest logit; rows in a wrong order cannot differ by more than this."""
    return float(np.max(logits) - np.min(logits)) if len(logits) else 0.0
