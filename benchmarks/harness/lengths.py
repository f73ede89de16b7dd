"""Documents of given numbers of tokens, cut and joined from passages."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tokenizers import Tokenizer

_FILLERS = (" a", ".", " the", "a")
"""Texts that are one token in most vocabularies; they fill up a document where the next word would be too long."""


class DocumentCutter:
    """Cuts passages to documents of given token counts with a model's tokenizer."""

    def __init__(self, tokenizer: Tokenizer, passages: Sequence[str]) -> None:
        """Set up the cutter.

        Args:
            tokenizer: without truncation and padding.
            passages: distinct texts.
        """
        self._tokenizer = tokenizer
        self._passages = passages

    def count(self, text: str) -> int:
        """Tokens of a text, without special tokens."""
        return len(self._tokenizer.encode(text, add_special_tokens=False))

    def documents(self, token_counts: Sequence[int]) -> list[str]:
        """Documents with these numbers of tokens, without special tokens.

        Every document starts with another passage; the passages after it are appended until it is long enough. When all
        passages have been used, the next document starts with the first passage again, one word further in. A document
        is some tokens shorter than asked for only if the vocabulary has no text of one token to end it with.
        """
        return [self._document(index, tokens) for index, tokens in enumerate(token_counts)]

    def _document(self, index: int, tokens: int) -> str:
        size = len(self._passages)
        round_number, start = divmod(index, size)
        words = self._passages[start].split()
        text = " ".join(words[round_number % len(words) :])
        following = start
        while self.count(text) < tokens:
            following = (following + 1) % size
            text = f"{text} {self._passages[following]}"
        return self._cut(text, tokens)

    def _cut(self, text: str, tokens: int) -> str:
        """The first words of a text, up to this number of tokens, filled up if the next word would be too long."""
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
    """Lengths between two bounds with a given mean, more short than long ones, shuffled the same way every time.

    Before the shuffle the i-th length is `shortest + (longest - shortest) * (i / (count - 1)) ** power`. The power is
    determined by bisection; a larger one gives a smaller mean.

    Args:
        count: how many, at least 2.
        shortest: the smallest length, always included.
        longest: the largest length, always included.
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
