"""How far two lists of logits are apart, and how far they may be."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

    from crossrank.models.manifest import Precision

COMPANY: dict[Precision, float] = {"fp32": 1e-5, "fp16": 1e-2, "int8": 0.0}
"""Largest difference of a pair's logit, relative to max(1, |logit|), that other company in its run may make.

What the documentation promises for fp32 and int8. For fp16 it is what we expect: half precision has 11 bits, and a
kernel that sums in another order moves the last of them. Not measured on a GPU yet.
"""


def relative_difference(found: npt.NDArray[np.floating], expected: npt.NDArray[np.floating]) -> float:
    """Largest |found - expected| / max(1, |expected|); infinite where one is no number or the lists differ in length.

    Args:
        found: logits (n,).
        expected: logits (n,).
    """
    if np.shape(found) != np.shape(expected):
        return math.inf
    if not len(expected):
        return 0.0
    left, right = np.asarray(found, dtype=np.float64), np.asarray(expected, dtype=np.float64)
    largest = float(np.max(np.abs(left - right) / np.maximum(1.0, np.abs(right))))
    return largest if math.isfinite(largest) else math.inf


def spread(logits: npt.NDArray[np.floating]) -> float:
    """Largest minus smallest logit: what rows in a wrong order would show as."""
    return float(np.max(logits) - np.min(logits)) if len(logits) else 0.0
