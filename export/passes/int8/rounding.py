"""Rounds matrices and activations to eight bits, in numpy; independent of graphs."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Floats: TypeAlias = NDArray[np.floating[Any]]
Int8s: TypeAlias = NDArray[np.int8]

LIMIT = 127
PAIR_LIMIT = 128
"""Largest sum, in magnitude, of two weights of one column that an AVX2 kernel without VNNI multiplies together.

The kernel adds the products of rows 2k and 2k + 1, each of an unsigned and a signed byte, in saturating 16-bit integers
(vpmaddubsw): 255 * 128 = 32640 fits. The usual remedy is to limit each weight to 63, which loses a bit; limiting only
the sum of the two loses less, and every product stays exact."""

_CREST_STEPS = (63.5, 66, 70, 74, 78, 82, 86, 90, 95, 100, 106, 112, 120, 127)
_DAMPING = 0.01
_BLOCK = 128


def quantize_columns(weight: Floats, importance: Floats | None = None) -> tuple[Int8s, NDArray[np.float32]]:
    """Round a matrix to int8 with one scale a column, pairs of rows within `PAIR_LIMIT`.

    Args:
        weight: [rows, columns].
        importance: weight of each row's error, [rows]; None for equal weights.

    Returns:
        The integers, int8 [rows, columns], and the scales, float32 [columns].
    """
    scale = column_scales(weight, np.ones(len(weight)) if importance is None else importance)
    return _bound_seconds(np.rint(_project(weight / scale))).astype(np.int8), scale


def column_scales(weight: Floats, importance: Floats) -> NDArray[np.float32]:
    """Each column's scale of least error. Small scales round finely but put more pairs of rows over the limit.

    Args:
        weight: [rows, columns].
        importance: weight of each row's error, [rows].
    """
    largest = np.abs(weight).max(axis=0)
    largest = np.where(largest > np.finfo(np.float32).tiny, largest, 1.0)
    best, least = np.zeros(weight.shape[1]), np.full(weight.shape[1], np.inf)
    for steps in _CREST_STEPS:
        scale = largest / steps
        error = (importance[:, None] * (np.rint(_project(weight / scale)) * scale - weight) ** 2).sum(axis=0)
        better = error < least
        best, least = np.where(better, scale, best), np.where(better, error, least)
    return best.astype(np.float32)


def quantize_columns_for(weight: Floats, inputs: Floats, rounded_inputs: Floats) -> tuple[Int8s, NDArray[np.float32]]:
    """Round a matrix so that its product with the rounded inputs is close to the exact product.

    First the matrix is replaced by the least squares solution for the rounded inputs. Then rows are rounded one after
    the other, those with the largest inputs first, and the rows that follow are adjusted to compensate each row's error
    (GPTQ, Frantar et al. 2022, arXiv 2210.17323).

    Args:
        weight: [rows, columns].
        inputs: samples of the activation, [samples, rows].
        rounded_inputs: the same samples after rounding to eight bits.

    Returns:
        The integers, int8 [rows, columns], and the scales, float32 [columns].
    """
    rows, columns = weight.shape
    hessian = (rounded_inputs.T @ rounded_inputs).astype(np.float64)
    damping = _DAMPING * max(float(np.mean(np.diag(hessian))), 1e-12)
    target = (rounded_inputs.T @ (inputs @ weight)).astype(np.float64) + damping * weight
    hessian[np.diag_indices(rows)] += damping
    solution = np.linalg.solve(hessian, target)
    scale = column_scales(solution, np.diag(hessian))
    order = np.argsort(-np.diag(hessian), kind="stable")
    index = np.argsort(order, kind="stable")
    upper = np.linalg.cholesky(np.linalg.inv(hessian[np.ix_(order, order)])).T
    left = solution[order] / scale
    rounded = np.zeros((rows, columns))
    for start in range(0, rows, _BLOCK):
        stop = min(start + _BLOCK, rows)
        lost = np.zeros((stop - start, columns))
        for row in range(start, stop):
            partner = int(order[row]) ^ 1
            rounded[row] = _round_row(left, rounded, row, int(index[partner]) if partner < rows else None)
            lost[row - start] = (left[row] - rounded[row]) / upper[row, row]
            left[row + 1 : stop] -= upper[row, row + 1 : stop, None] * lost[row - start]
        left[stop:] -= upper[start:stop, stop:].T @ lost
    return rounded[index].astype(np.int8), scale


def quantize_rows(table: Floats) -> tuple[Int8s, NDArray[np.float32]]:
    """Round an embedding table to symmetric int8 with one scale a row.

    Args:
        table: [rows, columns].

    Returns:
        The integers, int8 [rows, columns], and the scales, float32 [rows, 1].
    """
    return quantize_along(table, axis=1)


def quantize_along(array: Floats, axis: int) -> tuple[Int8s, NDArray[np.float32]]:
    """Round an array to symmetric int8 with one scale for all values along an axis.

    Args:
        array: of any shape.
        axis: axis whose values share a scale.

    Returns:
        The integers and the scales, which have size 1 on that axis.
    """
    scale = (np.abs(array).max(axis=axis, keepdims=True) / LIMIT).astype(np.float32)
    scale = np.where(scale > np.finfo(np.float32).tiny, scale, np.float32(1.0))
    return np.clip(np.rint(array / scale), -LIMIT, LIMIT).astype(np.int8), scale


def activation_range(low: float, high: float) -> tuple[np.float32, np.uint8]:
    """Scale and zero point that map 0 to 255 onto a range, which is widened to contain zero."""
    low, high = min(low, 0.0), max(high, 0.0)
    scale = np.float32(max((high - low) / 255, float(np.finfo(np.float32).tiny)))
    return scale, np.uint8(np.clip(np.rint(-low / scale), 0, 255))


def through_uint8(values: Floats, scale: np.float32, zero_point: np.uint8) -> Floats:
    """Values after QuantizeLinear and DequantizeLinear."""
    zero = np.float32(zero_point)
    rounded: Floats = (np.clip(np.rint(values / scale) + zero, 0, 255) - zero) * scale
    return rounded


def _round_row(left: Floats, rounded: Floats, row: int, partner: int | None) -> Floats:
    value = left[row]
    if partner is None:
        return _clipped(np.rint(value))
    if partner < row:
        other = rounded[partner]
        low, high = -PAIR_LIMIT - np.minimum(other, 0), PAIR_LIMIT - np.maximum(other, 0)
        return _clipped(np.clip(np.rint(value), low, high))
    return _clipped(np.rint(_shrink(value, left[partner])))


def _clipped(values: Floats) -> Floats:
    clipped: Floats = np.clip(values, -LIMIT, LIMIT)
    return clipped


def _shrink(value: Floats, other: Floats) -> Floats:
    """Reduce a value by half of the excess that its sum with its partner has over the limit."""
    excess = np.where(value * other > 0, np.maximum(np.abs(value + other) - PAIR_LIMIT, 0), 0) / 2
    shrunk: Floats = np.sign(value) * np.maximum(np.abs(value) - excess, 0)
    return shrunk


def _project(values: Floats) -> Floats:
    """Bring pairs of rows within the limit, reducing both equally."""
    even = len(values) // 2 * 2
    first, second = values[0:even:2], values[1:even:2]
    result = values.copy()
    result[0:even:2], result[1:even:2] = _shrink(first, second), _shrink(second, first)
    return _clipped(result)


def _bound_seconds(integers: Floats) -> Floats:
    """Clip the second row of each pair, because rounding may bring a pair one over the limit."""
    even = len(integers) // 2 * 2
    first, second = integers[0:even:2], integers[1:even:2]
    low, high = -PAIR_LIMIT - np.minimum(first, 0), PAIR_LIMIT - np.maximum(first, 0)
    integers[1:even:2] = np.clip(second, low, high)
    return integers
