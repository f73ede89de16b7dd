"""Chooses how each product's activation goes to eight bits. The figures behind the choices are in docs/int8.md."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from crossrank.export.passes.quantize_numbers import (
    activation_range,
    quantize_columns,
    quantize_columns_for,
    through_uint8,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from crossrank.export.passes.quantize_calibration import Activation

MARGIN = 1.1
"""A scale that was fixed on some pairs must hold for others."""

_SEARCH_ROWS = 512
_POWERS = (0.0, 0.5, 0.65, 0.8, 0.9)
_ONE_SIDED = 0.25
_FLOOR = 0.1


@dataclass(frozen=True)
class Scheme:
    """How one activation is rounded, alike for all products that read it.

    Attributes:
        smoothing: divisor of each channel before rounding, whose weights are multiplied by it, [channels].
        by_row: whether each row is first divided by its largest value (of magnitudes where `signed`).
        signed: whether a row's largest magnitude counts, not its largest value.
        floor: least divisor of a row.
        scale: of the integers.
        zero_point: of the integers.
    """

    smoothing: NDArray[np.float32]
    by_row: bool
    signed: bool
    floor: np.float32
    scale: np.float32
    zero_point: np.uint8

    def prepared(self, rows: NDArray[np.float32]) -> NDArray[np.float32]:
        """Rows as they are before they are rounded."""
        if not self.by_row:
            prepared: NDArray[np.float32] = rows / self.smoothing
            return prepared
        largest = (np.abs(rows) if self.signed else rows).max(axis=1, keepdims=True)
        by_row: NDArray[np.float32] = rows / np.maximum(largest, self.floor)
        return by_row


def static_scheme(seen: Activation, weight: NDArray[np.float32], *, smooth: bool = True) -> Scheme:
    """One scale for all rows, and the smoothing that loses least.

    An activation's few large channels make its scale coarse for all others. They are divided by a constant that
    the weights are multiplied by (SmoothQuant, Xiao et al. 2022, arXiv 2211.10438): `s = x**a / w**(1 - a)` with the
    largest magnitude of each channel in activation and weights; `a` is chosen by the error of the product.

    Args:
        seen: the activation.
        weight: all matrices that read it, side by side, [channels, columns].
        smooth: False to leave the channels as they are.
    """
    large = np.maximum(np.maximum(np.abs(seen.low), np.abs(seen.high)), 1e-4)
    heavy = np.maximum(np.abs(weight).max(axis=1), 1e-4)
    rows = seen.rows[:: max(1, len(seen.rows) // _SEARCH_ROWS)]
    exact = rows @ weight
    best, least = None, np.inf
    for power in _POWERS if smooth else (0.0,):
        divisor = large**power / heavy ** (1 - power) if power else np.ones_like(large)
        divisor = (divisor / np.exp(np.mean(np.log(divisor)))).astype(np.float32)
        low, high = float((seen.low / divisor).min()), float((seen.high / divisor).max())
        scale, zero = activation_range(low * MARGIN, high * MARGIN)
        scheme = Scheme(divisor, by_row=False, signed=False, floor=np.float32(0), scale=scale, zero_point=zero)
        integers, scales = quantize_columns(weight * divisor[:, None])
        error = float(np.mean((through_uint8(rows / divisor, scale, zero) @ (integers * scales) - exact) ** 2))
        if error < least:
            best, least = scheme, error
    if best is None:
        return static_scheme(seen, weight, smooth=False) if smooth else scheme
    return best


def row_scheme(seen: Activation) -> Scheme:
    """A scale of its own for each row, so that one token's outliers cost no other token anything."""
    signed = -float(seen.low.min()) > _ONE_SIDED * float(seen.high.max())
    largest = (np.abs(seen.rows) if signed else seen.rows).max(axis=1)
    floor = np.float32(max(_FLOOR * float(np.median(largest)), float(np.finfo(np.float32).tiny)))
    low = -1.0 if signed else float((seen.rows / np.maximum(largest, floor)[:, None]).min())
    scale, zero = activation_range(low, 1.0)
    ones = np.ones(seen.rows.shape[1], np.float32)
    return Scheme(ones, by_row=True, signed=signed, floor=floor, scale=scale, zero_point=zero)


def round_weight(
    weight: NDArray[np.float32], scheme: Scheme, seen: Activation, *, compensate: bool
) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Round a matrix for a scheme: to the nearest, or making up for what rounding loses on the rows seen."""
    smoothed = weight * scheme.smoothing[:, None]
    if not compensate:
        return quantize_columns(smoothed)
    prepared = scheme.prepared(seen.rows)
    return quantize_columns_for(smoothed, prepared, through_uint8(prepared, scheme.scale, scheme.zero_point))
