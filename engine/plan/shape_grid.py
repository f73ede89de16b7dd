"""The shapes that runs on a GPU are padded to.

A captured CUDA graph has one shape, and memory at fixed places. So runs take one of a few shapes: lengths from a short
list, rows in powers of two. A longer pair keeps its own length and is not captured.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

LENGTHS = (32, 64, 96, 128, 192, 256, 384, 512)
"""From 33 tokens on, less than half of a row is padding."""


class Shape(NamedTuple):
    """Rows and padded tokens of a row of a run."""

    rows: int
    length: int

    @property
    def tokens(self) -> int:
        """Padded tokens of the run."""
        return self.rows * self.length


@dataclass(frozen=True)
class ShapeGrid:
    """The shapes under a token budget.

    Attributes:
        lengths: tokens of a row, ascending.
        max_batch_tokens: padded tokens of a run at most; a row that alone exceeds it runs alone.
    """

    lengths: tuple[int, ...]
    max_batch_tokens: int

    @classmethod
    def of(cls, max_length: int, max_batch_tokens: int) -> ShapeGrid:
        """The grid for a model that reads so many tokens.

        Args:
            max_length: tokens of a pair at most. Where it lies between two lengths, it takes the upper one's place: a
                model may have no more positions than that.
            max_batch_tokens: padded tokens of a run at most.
        """
        lengths = [length for length in LENGTHS if length < max_length]
        if max_length <= LENGTHS[-1]:
            lengths.append(max_length)
        return cls(tuple(lengths), max_batch_tokens)

    def padded_length(self, length: int) -> int:
        """The shortest length of the grid that holds so many tokens; longer ones stay as they are."""
        return next((longer for longer in self.lengths if longer >= length), length)

    def most_rows(self, length: int) -> int:
        """Rows of so many tokens that a run may hold, at least 1; a power of two where the grid has the length."""
        rows = max(1, self.max_batch_tokens // self.padded_length(length))
        return 1 << (rows.bit_length() - 1) if length <= self.lengths[-1] else rows

    def padded(self, rows: int, length: int) -> Shape:
        """The shape that a run of so many rows, the longest of so many tokens, is padded to."""
        if length > self.lengths[-1]:
            return Shape(rows, length)
        return Shape(1 << (rows - 1).bit_length(), self.padded_length(length))

    def holds(self, shape: Shape) -> bool:
        """Whether a shape is one of the grid's."""
        return shape.length in self.lengths and shape.rows in self._rows(shape.length)

    def shapes(self) -> list[Shape]:
        """All shapes, those with the most tokens first: what is captured first decides how large the arena gets."""
        shapes = [Shape(rows, length) for length in self.lengths for rows in self._rows(length)]
        return sorted(shapes, key=lambda shape: (-shape.tokens, shape))

    def _rows(self, length: int) -> list[int]:
        return [1 << power for power in range(self.most_rows(length).bit_length())]
