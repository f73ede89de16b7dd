"""The shapes that runs on a GPU are padded to.

A captured CUDA graph has one shape and fixed memory addresses. So runs are padded to one of a few shapes: lengths from
a short list, rows in powers of two. A pair longer than all of them keeps its length, and its run is not captured.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

LENGTHS = (32, 64, 96, 128, 192, 256, 384, 512)
"""Padded lengths. For pairs of more than 32 tokens, less than half of a row is padding."""


class Shape(NamedTuple):
    """Rows of a run, and padded tokens of each row."""

    rows: int
    length: int

    @property
    def tokens(self) -> int:
        """Padded tokens of the run."""
        return self.rows * self.length


@dataclass(frozen=True)
class ShapeGrid:
    """The shapes that fit a token budget.

    Attributes:
        lengths: tokens of a row, ascending.
        max_batch_tokens: padded tokens of a run at most; a row that exceeds it runs alone.
    """

    lengths: tuple[int, ...]
    max_batch_tokens: int

    @classmethod
    def of(cls, max_length: int, max_batch_tokens: int) -> ShapeGrid:
        """The grid for a model.

        Args:
            max_length: tokens of a pair at most. Where it lies between two lengths, it replaces the upper one, because
                the model may have no more positions.
            max_batch_tokens: padded tokens of a run at most.
        """
        lengths = [length for length in LENGTHS if length < max_length]
        if max_length <= LENGTHS[-1]:
            lengths.append(max_length)
        return cls(tuple(lengths), max_batch_tokens)

    def padded_length(self, length: int) -> int:
        """The shortest length of the grid that is at least `length`; a length beyond the grid stays as it is."""
        return next((longer for longer in self.lengths if longer >= length), length)

    def most_rows(self, length: int) -> int:
        """Most rows of `length` tokens in a run, at least 1; a power of two up to the grid's longest length."""
        rows = max(1, self.max_batch_tokens // self.padded_length(length))
        return 1 << (rows.bit_length() - 1) if length <= self.lengths[-1] else rows

    def padded(self, rows: int, length: int) -> Shape:
        """The shape that a run of `rows` pairs, the longest of `length` tokens, is padded to."""
        if length > self.lengths[-1]:
            return Shape(rows, length)
        return Shape(1 << (rows - 1).bit_length(), self.padded_length(length))

    def holds(self, shape: Shape) -> bool:
        """Whether a shape is one of the grid's."""
        return shape.length in self.lengths and shape.rows in self._rows(shape.length)

    def shapes(self) -> list[Shape]:
        """All shapes, most tokens first, because the first capture decides how large the memory arena gets."""
        shapes = [Shape(rows, length) for length in self.lengths for rows in self._rows(length)]
        return sorted(shapes, key=lambda shape: (-shape.tokens, shape))

    def _rows(self, length: int) -> list[int]:
        return [1 << power for power in range(self.most_rows(length).bit_length())]
