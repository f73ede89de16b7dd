"""What a template and its instruction leave of a pair to query and document, and what a long query is cut to.

Instruction and labels are never cut. Where they leave less than a minimum to query and document, the length or the
instruction is refused: scores would be the same whatever is asked, or judged, and nobody would see it.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from crossrank.errors import InvalidInputError

if TYPE_CHECKING:
    from crossrank.engine.text.reading import TextReader
    from crossrank.engine.text.template import TemplateTexts

MIN_TEXT_TOKENS = 16
"""Tokens that must be left to a query, and as many to a document."""
_COUNTED = 4096
"""Tokens of an instruction that are counted, for messages, where there is room for fewer."""
_COUNTS_KEPT = 256
"""Instructions whose tokens are remembered, so that a call does not count them again."""


class TemplateRoom:
    """The room of one pair length. Safe to use from several threads.

    Attributes:
        max_query_tokens: those that a query may have, with what stands around it, before it is cut: it must leave
            `MIN_TEXT_TOKENS` to a document.
    """

    def __init__(self, reader: TextReader, texts: TemplateTexts, max_length: int, tokens: int) -> None:
        """Count nothing yet.

        Args:
            reader: of the model's tokenizer.
            texts: what stands around query and document.
            max_length: tokens of a pair at most, for messages.
            tokens: those of query, document, the instruction and the query's labels together.
        """
        self.max_query_tokens = tokens - MIN_TEXT_TOKENS
        self._reader = reader
        self._texts = texts
        self._max_length = max_length
        self._tokens = tokens
        self._counted = max(tokens, _COUNTED)
        self._counts: dict[bytes, int] = {}

    def cut_query_tokens(self, instruction: str | None) -> int:
        """What a query that is too long is cut to: what stands around it, and half of what that leaves.

        Args:
            instruction: None for the model's own.

        Raises:
            InvalidInputError: the instruction does not suit the model, or query and document have less than
                `MIN_TEXT_TOKENS` each.
        """
        around = self._around_query(self._texts.before_query(instruction))
        left = self._tokens - around
        missing = 2 * MIN_TEXT_TOKENS - left
        if missing <= 0:
            return around + left // 2
        at_least = "at least " if around <= self._counted else "more than "  # not counted to its end
        raise InvalidInputError(
            ("" if instruction is None else f"instruction={instruction!r:.80}: it is too long; ")
            + f"max_length={self._max_length} leaves {max(left, 0)} tokens to query and document beside this model's "
            f"template and instruction; {MIN_TEXT_TOKENS} of each are the least, for which max_length has to be "
            f"{at_least}{self._max_length + missing}" + ("" if instruction is None else ", or the instruction shorter")
        )

    def _around_query(self, before: str) -> int:
        """Tokens around a query; of a very long instruction, more than there is room for."""
        # Not the text itself, which may be of any length.
        key = hashlib.sha256(before.encode("utf-8", "surrogatepass")).digest()
        count = self._counts.get(key)
        if count is None:
            (tokens,) = self._reader.read([before], self._counted)
            count = tokens.length + len(self._texts.after_query)
            if len(self._counts) >= _COUNTS_KEPT:
                self._counts.clear()
            self._counts[key] = count
        return count
