"""Pieces of encoding: what of a call's texts is encoded without a break, by predicted time."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from typing import NamedTuple, TypeAlias, TypeVar

PIECE_SECONDS = 0.02
"""What another caller waits for at most: about as long as ten short pairs take."""
_LARGE_PIECES = 2
"""A text that takes longer than so many pieces is a large one."""
_SECONDS_PER_TEXT, _SECONDS_PER_CHARACTER = 2e-5, 1e-6
"""Assumed until pieces were observed: a million characters a second, and what a short text costs besides."""
_LEARNING_RATE = 0.1
_BOUNDS = (0.05, 20.0)

_Result = TypeVar("_Result")


class Piece(NamedTuple):
    """What is encoded next.

    Attributes:
        seconds_left: predicted for all that is left to encode, this piece included.
        large: whether it is a single text that takes much longer than a piece should.
    """

    seconds_left: float
    large: bool = False


Pieces: TypeAlias = Generator[Piece, None, _Result]
"""Work that yields what comes next before each piece of it, and returns its result."""


class EncodingSpeed:
    """Predicts how long texts take to encode; learns from the pieces of all calls."""

    def __init__(self) -> None:
        self._factor = 1.0

    def seconds(self, texts: int, characters: int) -> float:
        """Predicted for so many texts with so many characters together."""
        return self._factor * (texts * _SECONDS_PER_TEXT + characters * _SECONDS_PER_CHARACTER)

    def observe(self, predicted: float, seconds: float) -> None:
        """Learn from a piece of ordinary texts."""
        if predicted > 0:
            low, high = _BOUNDS
            self._factor = min(high, max(low, self._factor * (1 + _LEARNING_RATE * (seconds / predicted - 1))))

    def cut(self, characters: Sequence[int]) -> Iterator[tuple[slice, Piece, float]]:
        """Cut texts into pieces: which texts, what is left, and the seconds predicted for them.

        Args:
            characters: of each text.
        """
        left = self.seconds(len(characters), sum(characters))
        if left <= PIECE_SECONDS:
            if characters:
                yield slice(0, len(characters)), Piece(left), left
            return
        seconds = [self.seconds(1, count) for count in characters]
        start, taken = 0, 0.0
        for index, own in enumerate(seconds):
            if index > start and taken + own > PIECE_SECONDS:
                yield slice(start, index), Piece(left, taken > _LARGE_PIECES * PIECE_SECONDS), taken
                left -= taken
                start, taken = index, 0.0
            taken += own
        if start < len(seconds):
            yield slice(start, len(seconds)), Piece(left, taken > _LARGE_PIECES * PIECE_SECONDS), taken
