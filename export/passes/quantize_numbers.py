"""Rounding of constant matrices to eight bits. Pure numpy; knows nothing of graphs."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Int8s = NDArray[np.int8]

WEIGHT_LIMIT = 63
"""Largest weight in magnitude. AVX2 kernels without VNNI add two products of an unsigned byte with a signed
byte in sixteen saturating bits: 2 * 255 * 63 = 32130 fits, 2 * 255 * 127 does not."""

ROW_LIMIT = 127


def quantize_columns(weight: Floats, limit: int = WEIGHT_LIMIT) -> tuple[Int8s, Floats]:
    """Round a matrix to symmetric int8 with one scale a column.

    Args:
        weight: float32 [rows, columns].
        limit: largest magnitude of the integers.

    Returns:
        The integers, int8 [rows, columns], and the scales, float32 [columns].
    """
    scale = _scale(np.abs(weight).max(axis=0), limit)
    return _round(weight / scale, limit), scale


def quantize_rows(table: Floats) -> tuple[Int8s, Floats]:
    """Round an embedding table to symmetric int8 with one scale a row.

    Args:
        table: float32 [rows, columns].

    Returns:
        The integers, int8 [rows, columns], and the scales, float32 [rows, 1].
    """
    scale = _scale(np.abs(table).max(axis=1, keepdims=True), ROW_LIMIT)
    return _round(table / scale, ROW_LIMIT), scale


def _scale(largest: Floats, limit: int) -> Floats:
    # A row or column of zeros may have any scale; tiny ones must not underflow to a zero divisor.
    scale = (largest / np.float32(limit)).astype(np.float32)
    return np.where(scale > np.finfo(np.float32).tiny, scale, np.float32(1.0)).astype(np.float32)


def _round(values: NDArray[np.floating], limit: int) -> Int8s:
    return np.clip(np.rint(values), -limit, limit).astype(np.int8)
