"""Chooses how each product's activation goes to eight bits. The figures behind the choices are in docs/int8.md."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from crossrank.export.passes.int8.quantized_numbers import (
    activation_range,
    quantize_columns,
    quantize_columns_for,
    through_uint8,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from crossrank.export.passes.int8.calibration import Activation

MARGIN = 1.1
"""A scale that was fixed on some pairs must hold for others."""

_SEARCH_ROWS = 512
_POWERS = (0.0, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
_SMALLEST = 1e-4
_SEARCH_COLUMNS = 512
_FLOOR = 0.1
_ONE_SIDED = 0.25


@dataclass(frozen=True)
class Scheme:
    """How one activation is rounded, alike for all products that read it.

    Attributes:
        shift: subtracted from each channel before rounding, [channels]; what that takes from a product is in its bias.
        divisor: of each shifted channel, whose weights are multiplied by it, [channels].
        scale: of the integers.
        zero_point: of the integers.
        row_floor: least divisor of a row, where each row is divided by its largest value; None where none is.
        signed: whether a row's largest magnitude counts, not its largest value.
    """

    shift: NDArray[np.float32]
    divisor: NDArray[np.float32]
    scale: np.float32
    zero_point: np.uint8
    row_floor: np.float32 | None = None
    signed: bool = False

    def prepared(self, rows: NDArray[np.float32]) -> NDArray[np.float32]:
        """Rows as they are before they are rounded."""
        if self.row_floor is not None:
            largest = (np.abs(rows) if self.signed else rows).max(axis=1, keepdims=True)
            by_row: NDArray[np.float32] = rows / np.maximum(largest, self.row_floor)
            return by_row
        prepared: NDArray[np.float32] = (rows - self.shift) / self.divisor
        return prepared

    def rounded(self, rows: NDArray[np.float32]) -> NDArray[np.float32]:
        """What is left of prepared rows after eight bits."""
        left: NDArray[np.float32] = through_uint8(self.prepared(rows), self.scale, self.zero_point)
        return left


@dataclass(frozen=True)
class RoundedWeight:
    """A matrix in eight bits, for prepared rows.

    Attributes:
        integers: int8 [rows, columns].
        scales: of the columns, float32 [columns].
        bias: what the shift and the rounding took from the product on average, float32 [columns].
    """

    integers: NDArray[np.int8]
    scales: NDArray[np.float32]
    bias: NDArray[np.float32]


def choose_scheme(seen: Activation, weight: NDArray[np.float32], *, smooth: bool = True) -> Scheme:
    """One scale for all rows, after the shift and the divisors that lose least.

    A few large channels make an activation's one scale coarse for all others. Each channel is first moved to the
    middle of its own range (as in Outlier Suppression+, Wei et al. 2023, arXiv 2304.09145), then divided by a constant
    that the weights are multiplied by (SmoothQuant, Xiao et al. 2022, arXiv 2211.10438): `d = x**a / w**(1 - a)`
    with half the channel's range `x` and the root mean square `w` of its weights. `a` is chosen by the error of the
    product.

    Args:
        seen: the activation.
        weight: all matrices that read it, side by side, [channels, columns].
        smooth: False to leave the channels as they are.
    """
    rows = seen.rows[:: max(1, len(seen.rows) // _SEARCH_ROWS)]
    weight = weight[:, :: max(1, weight.shape[1] // _SEARCH_COLUMNS)]
    exact = rows @ weight
    middle = ((seen.low + seen.high) / 2 if smooth else np.zeros_like(seen.low)).astype(np.float32)
    half = np.maximum((seen.high - seen.low) / 2, _SMALLEST)
    heavy = np.maximum(np.sqrt(np.mean(weight**2, axis=1)), _SMALLEST)
    found = []
    for power in _POWERS if smooth else (0.0,):
        divisor = half**power / heavy ** (1 - power) if power else np.ones_like(half)
        divisor = (divisor / np.exp(np.mean(np.log(divisor)))).astype(np.float32)
        scheme = _static(seen, middle, divisor)
        integers, scales = quantize_columns(weight * divisor[:, None])
        found.append((_error(scheme, rows, integers * scales, weight, exact), scheme))
    return min(found, key=lambda item: item[0])[1]


def row_scheme(seen: Activation) -> Scheme:
    """A scale of its own for each row, so that one token's outliers cost no other token anything.

    Feed-forward activations have rare values far above all that a calibration saw; a fixed scale would cut them.
    """
    signed = -float(seen.low.min()) > _ONE_SIDED * float(seen.high.max())
    largest = (np.abs(seen.rows) if signed else seen.rows).max(axis=1)
    floor = np.float32(max(_FLOOR * float(np.median(largest)), float(np.finfo(np.float32).tiny)))
    low = -1.0 if signed else float((seen.rows / np.maximum(largest, floor)[:, None]).min())
    scale, zero_point = activation_range(low, 1.0)
    channels = seen.rows.shape[1]
    zeros, ones = np.zeros(channels, np.float32), np.ones(channels, np.float32)
    return Scheme(zeros, ones, scale, zero_point, row_floor=floor, signed=signed)


def round_weight(weight: NDArray[np.float32], scheme: Scheme, seen: Activation, *, compensate: bool) -> RoundedWeight:
    """Round a matrix for a scheme: to the nearest, or making up for what rounding loses on the rows seen."""
    smoothed = weight * scheme.divisor[:, None]
    prepared, rounded = scheme.prepared(seen.rows), scheme.rounded(seen.rows)
    if compensate:
        integers, scales = quantize_columns_for(smoothed, prepared, rounded)
    else:
        integers, scales = quantize_columns(smoothed)
    if scheme.row_floor is not None:  # rows were divided by numbers that are no constant
        return RoundedWeight(integers, scales, np.zeros(weight.shape[1], np.float32))
    lost = prepared.mean(axis=0) @ smoothed - rounded.mean(axis=0) @ (integers * scales)
    return RoundedWeight(integers, scales, (scheme.shift @ weight + lost).astype(np.float32))


def _static(seen: Activation, shift: NDArray[np.float32], divisor: NDArray[np.float32]) -> Scheme:
    low, high = float(((seen.low - shift) / divisor).min()), float(((seen.high - shift) / divisor).max())
    scale, zero_point = activation_range(low * MARGIN, high * MARGIN)
    return Scheme(shift, divisor, scale, zero_point)


def _error(
    scheme: Scheme,
    rows: NDArray[np.float32],
    for_rounded: NDArray[np.float32],
    weight: NDArray[np.float32],
    exact: NDArray[np.float32],
) -> float:
    """Mean square error of the product."""
    product = scheme.rounded(rows) @ for_rounded + scheme.shift @ weight
    return float(np.mean((product - exact) ** 2))
