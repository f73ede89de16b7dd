"""Finding a label of a classification head by what a caller calls it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


def label_index(stated: int | str, names: Mapping[int, str], count: int) -> int | None:
    """The index of a label; None where there is none of that name.

    Args:
        stated: its index, or its name: as it is written, else in other letters' case where one label alone has it.
        names: of the labels, by their index.
        count: how many labels there are.
    """
    if isinstance(stated, bool):
        return None
    if isinstance(stated, str):
        same = [index for index, name in names.items() if name == stated]
        alike = [index for index, name in names.items() if name.casefold() == stated.casefold()]
        if same or len(alike) == 1:
            return (same or alike)[0]
        if not stated.isdecimal():
            return None
        stated = int(stated) if len(stated) < 10 else count  # noqa: PLR2004  Python converts no number of any length
    return stated if stated in range(count) else None
