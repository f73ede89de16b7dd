"""Why an int8 score moves when the scale is taken from the batch, and does not where it is fixed."""

from __future__ import annotations

from svg import Picture

VALUE, ALONE, BESIDE, FIXED = 2.6, 4.0, 12.0, 6.0
"""A value of the pair, the largest of its own batch, the largest beside another pair, and that of the calibration."""
_STEPS, _LEFT, _WIDTH = 7, 345, 425


def rounded(value: float, largest: float) -> float:
    """The value on a scale of steps up to the largest; an outlier is clipped."""
    step = largest / _STEPS
    return min(round(value / step), _STEPS) * step


def draw() -> Picture:
    """Draw the steps of four scales and where the same value lands."""
    rows = (
        ("scale of the batch", "the pair alone", ALONE),
        ("", "beside another pair", BESIDE),
        ("fixed scale", "the pair alone", FIXED),
        ("", "beside another pair", FIXED),
    )
    landed = [rounded(VALUE, largest) for _, _, largest in rows]
    picture = Picture(
        860,
        310,
        f"A value of {VALUE} in eight bits. With the batch's scale it becomes {landed[0]:.2f} alone and "
        f"{landed[1]:.2f} beside another pair; with a fixed scale {landed[2]:.2f} both times.",
    )
    picture.text(24, 34, "int8 scores that do not move: no scale is taken from the batch", "title")
    picture.text(24, 58, f"where the value {VALUE} lands; drawn with {_STEPS} steps in place of 127", "soft")
    unit = _WIDTH / BESIDE
    for index, ((way, when, largest), result) in enumerate(zip(rows, landed, strict=True)):
        y = 96 + index * 46 + (14 if index > 1 else 0)
        picture.text(24, y + 5, way, "strong")
        picture.text(186, y + 5, when)
        picture.line(_LEFT, y, _LEFT + largest * unit, y, "arrow" if largest < BESIDE else "line")
        for step in range(_STEPS + 1):
            picture.line(
                _LEFT + step * largest / _STEPS * unit, y - 8, _LEFT + step * largest / _STEPS * unit, y + 8, "tick"
            )
        picture.box(_LEFT + result * unit - 5, y - 5, 10, 10, "own")
        picture.text(836, y + 5, f"{result:.2f}", "strong" if index < 2 else "", anchor="end")  # noqa: PLR2004
    picture.text(
        24, 296, "The tick marks are the values that eight bits can hold; the square is the one taken.", "small soft"
    )
    return picture
