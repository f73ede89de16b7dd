"""Documents of a wanted number of tokens, cut and joined from passages."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tokenizers import Tokenizer

_FILLERS = (" a", ".", " the", "a")
"""Short enough to be one token in a vocabulary: they fill the last tokens where a word cannot be cut."""


class DocumentCutter:
    """Cuts passages to documents of wanted token counts with a model's tokenizer."""

    def __init__(self, tokenizer: Tokenizer, passages: Sequence[str]) -> None:
        """Use a tokenizer without truncation and padding, and distinct passages."""
        self._tokenizer = tokenizer
        self._passages = passages

    def count(self, text: str) -> int:
        """Tokens of a text, without special tokens."""
        return len(self._tokenizer.encode(text, add_special_tokens=False))

    def documents(self, token_counts: Sequence[int]) -> list[str]:
        """Documents of these many tokens each, without special tokens.

        Every document starts at a passage of its own; passages that follow are joined on until it is long enough.
        More documents than passages start over further in. A document falls short of its count by some tokens only
        where the vocabulary has no word of one token to end it with.
        """
        return [self._document(index, tokens) for index, tokens in enumerate(token_counts)]

    def _document(self, index: int, tokens: int) -> str:
        size = len(self._passages)
        round_number, start = divmod(index, size)
        words = self._passages[start].split()
        text = " ".join(words[round_number % len(words) :])  # a later round starts further in
        following = start
        while self.count(text) < tokens:
            following = (following + 1) % size
            text = f"{text} {self._passages[following]}"
        return self._cut(text, tokens)

    def _cut(self, text: str, tokens: int) -> str:
        """The text's first words with so many tokens, filled up where a word would not fit whole."""
        encoding = self._tokenizer.encode(text, add_special_tokens=False)
        end = encoding.offsets[tokens - 1][1]
        if end < len(text) and not text[end].isspace():
            end = text.rfind(" ", 0, end)
        short = text[: max(end, 0)].rstrip()
        while short and self.count(short) > tokens:
            short = short.rpartition(" ")[0]
        while (count := self.count(short)) < tokens:
            longer = next((short + end for end in _FILLERS if self.count(short + end) == count + 1), None)
            if longer is None:
                break
            short = longer
        return short


def mixed_lengths(count: int, *, shortest: int, longest: int, mean: float, seed: int = 0) -> list[int]:
    """Lengths between two bounds with a wanted mean, more short than long ones, shuffled the same way every time.

    The i-th of them, before the shuffle, is `shortest + (longest - shortest) * (i / (count - 1)) ** power`, with the
    power found by bisection; a larger one gives a smaller mean.

    Args:
        count: how many, at least 2.
        shortest: the smallest length, always there.
        longest: the largest length, always there.
        mean: their mean, met within rounding.
        seed: of the shuffle.
    """
    low, high = 1e-3, 1e3
    for _ in range(100):
        power = (low * high) ** 0.5
        lengths = [round(shortest + (longest - shortest) * (index / (count - 1)) ** power) for index in range(count)]
        if sum(lengths) > mean * count:
            low = power
        else:
            high = power
    random.Random(seed).shuffle(lengths)  # noqa: S311  an order, not a secret
    return lengths
