"""Chooses how each product's activation is rounded to eight bits; docs/int8.md has the figures behind the choices."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from crossrank.export.passes.int8.rounding import (
    activation_range,
    quantize_columns,
    quantize_columns_for,
    through_uint8,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from crossrank.export.passes.int8.calibration import Activation

MARGIN = 1.1
"""Factor on the measured range, because other pairs may exceed what the calibration pairs showed."""

_SEARCH_ROWS = 512
_POWERS = (0.0, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
_SMALLEST = 1e-4
_SEARCH_COLUMNS = 512
_FLOOR = 0.1
_ONE_SIDED = 0.25


@dataclass(frozen=True)
class Scheme:
    """How one activation is rounded, the same for all products that read it.

    Attributes:
        shift: subtracted from each channel before rounding, [channels]; the bias of the product makes up for it.
        divisor: divides each shifted channel, [channels]; the weights of the channel are multiplied by it.
        scale: scale of the integers.
        zero_point: zero point of the integers.
        row_floor: smallest divisor of a row, if each row is divided by its largest value; None if rows are not divided.
        signed: whether a row is divided by its largest magnitude instead of its largest value.
    """

    shift: NDArray[np.float32]
    divisor: NDArray[np.float32]
    scale: np.float32
    zero_point: np.uint8
    row_floor: np.float32 | None = None
    signed: bool = False

    def prepared(self, rows: NDArray[np.float32]) -> NDArray[np.float32]:
        """Rows after shift and division, as they are before rounding."""
        if self.row_floor is not None:
            largest = (np.abs(rows) if self.signed else rows).max(axis=1, keepdims=True)
            by_row: NDArray[np.float32] = rows / np.maximum(largest, self.row_floor)
            return by_row
        prepared: NDArray[np.float32] = (rows - self.shift) / self.divisor
        return prepared

    def rounded(self, rows: NDArray[np.float32]) -> NDArray[np.float32]:
        """Prepared rows after rounding to eight bits."""
        rounded: NDArray[np.float32] = through_uint8(self.prepared(rows), self.scale, self.zero_point)
        return rounded


@dataclass(frozen=True)
class RoundedWeight:
    """A matrix in eight bits, for prepared rows.

    Attributes:
        integers: int8 [rows, columns].
        scales: scale of each column, float32 [columns].
        bias: what shift and rounding subtract from the product on average, float32 [columns].
    """

    integers: NDArray[np.int8]
    scales: NDArray[np.float32]
    bias: NDArray[np.float32]


def choose_scheme(observed: Activation, weight: NDArray[np.float32], *, smooth: bool = True) -> Scheme:
    """Choose one scale for all rows, and the shift and divisors with the least error of the product.

    A few large channels would make the scale too coarse for all others. Each channel is first moved to the
    middle of its own range (as in Outlier Suppression+, Wei et al. 2023, arXiv 2304.09145), then divided by a constant
    that the weights are multiplied by (SmoothQuant, Xiao et al. 2022, arXiv 2211.10438): `d = x**a / w**(1 - a)`
    where `x` is half the channel's range and `w` the root mean square of its weights. `a` is the value with the least
    error of the product.

    Args:
        observed: statistics of the activation.
        weight: all matrices that multiply it, concatenated, [channels, columns].
        smooth: False for no shift and no divisors.
    """
    rows = observed.rows[:: max(1, len(observed.rows) // _SEARCH_ROWS)]
    weight = weight[:, :: max(1, weight.shape[1] // _SEARCH_COLUMNS)]
    exact = rows @ weight
    middle = ((observed.low + observed.high) / 2 if smooth else np.zeros_like(observed.low)).astype(np.float32)
    half_range = np.maximum((observed.high - observed.low) / 2, _SMALLEST)
    weight_rms = np.maximum(np.sqrt(np.mean(weight**2, axis=1)), _SMALLEST)
    candidates = []
    for power in _POWERS if smooth else (0.0,):
        divisor = half_range**power / weight_rms ** (1 - power) if power else np.ones_like(half_range)
        divisor = (divisor / np.exp(np.mean(np.log(divisor)))).astype(np.float32)
        scheme = _static(observed, middle, divisor)
        integers, scales = quantize_columns(weight * divisor[:, None])
        candidates.append((_error(scheme, rows, integers * scales, weight, exact), scheme))
    return min(candidates, key=lambda item: item[0])[1]


def row_scheme(observed: Activation) -> Scheme:
    """One scale per row, so that a token with outliers does not make the scale coarse for other tokens.

    Feed-forward activations have rare values far above those of any calibration pair; a fixed scale would clip them.
    """
    signed = -float(observed.low.min()) > _ONE_SIDED * float(observed.high.max())
    largest = (np.abs(observed.rows) if signed else observed.rows).max(axis=1)
    floor = np.float32(max(_FLOOR * float(np.median(largest)), float(np.finfo(np.float32).tiny)))
    low = -1.0 if signed else float((observed.rows / np.maximum(largest, floor)[:, None]).min())
    scale, zero_point = activation_range(low, 1.0)
    channels = observed.rows.shape[1]
    zeros, ones = np.zeros(channels, np.float32), np.ones(channels, np.float32)
    return Scheme(zeros, ones, scale, zero_point, row_floor=floor, signed=signed)


def round_weight(
    weight: NDArray[np.float32], scheme: Scheme, observed: Activation, *, compensate: bool
) -> RoundedWeight:
    """Round a matrix for a scheme: to nearest, or so as to compensate the rounding errors on the observed rows."""
    smoothed = weight * scheme.divisor[:, None]
    prepared, rounded = scheme.prepared(observed.rows), scheme.rounded(observed.rows)
    if compensate:
        integers, scales = quantize_columns_for(smoothed, prepared, rounded)
    else:
        integers, scales = quantize_columns(smoothed)
    if scheme.row_floor is not None:  # the divisors differ from row to row, so there is no constant bias
        return RoundedWeight(integers, scales, np.zeros(weight.shape[1], np.float32))
    lost = prepared.mean(axis=0) @ smoothed - rounded.mean(axis=0) @ (integers * scales)
    return RoundedWeight(integers, scales, (scheme.shift @ weight + lost).astype(np.float32))


def _static(observed: Activation, shift: NDArray[np.float32], divisor: NDArray[np.float32]) -> Scheme:
    low, high = float(((observed.low - shift) / divisor).min()), float(((observed.high - shift) / divisor).max())
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
