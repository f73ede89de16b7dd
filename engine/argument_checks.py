"""Checks of numbers that callers give."""

from __future__ import annotations

import contextlib
import math
from numbers import Real

from crossrank.errors import InvalidInputError


def milliseconds(name: str, value: float) -> float:
    """A duration in milliseconds, checked.

    Raises:
        InvalidInputError: it is no finite number of at least 0.
    """
    given: object = value
    number = math.nan
    if not isinstance(given, bool) and isinstance(given, Real):
        with contextlib.suppress(OverflowError):  # of an int beyond all floats
            number = float(given)
    if not 0 <= number < math.inf:
        raise InvalidInputError(f"{name}={value!r}: a number of milliseconds of at least 0 expected")
    return number
