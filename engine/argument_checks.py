"""Checks of numbers that callers give."""

from __future__ import annotations

import contextlib
import math
from numbers import Integral, Real

from crossrank.errors import InvalidInputError


def whole_number(
    name: str, value: object, least: int, most: float = math.inf, *, of: str = "", otherwise: str = ""
) -> int:
    """A whole number as Python's `int`, checked; of numpy, too, with which callers count. A truth value is none.

    Args:
        name: what the caller calls it.
        value: what was given.
        least: the smallest that is taken.
        most: the largest.
        of: what it belongs to, for the message.
        otherwise: what else is taken, for the message.

    Raises:
        InvalidInputError: it is none, or outside the range.
    """
    number = least - 1 if isinstance(value, bool) or not isinstance(value, Integral) else int(value)
    if not least <= number <= most:
        kind = f"of at least {least}" if most == math.inf else f"from {least} to {most}"
        raise InvalidInputError(f"{name}={value!r}{of}: a whole number {kind} expected{otherwise}")
    return number


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
