"""Documents encoded once, for callers who score the same documents against many queries."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from crossrank.engine.text.documents import Document
from crossrank.errors import InvalidInputError

if TYPE_CHECKING:
    import numpy.typing as npt

    from crossrank.engine.text.encoded import EncodedDocuments


@dataclass(frozen=True, slots=True)
class PreparedDocuments:
    """Encoded documents, made by `prepare` and taken by `score` and `rank` instead of a list.

    Holds about 4 bytes a token besides the documents themselves, 12 where windows are read. Bound to the tokenizer, the
    length limit, the room that a model's template leaves and the windows of the reranker that made it; any reranker
    with the same ones takes it.

    Attributes:
        items: the caller's documents.
        encoded: tokens of their texts, equal texts once.
        text_of: for each document its index in `encoded`, int64 (n,).
        digests: of each text, for the score cache; None where the reranker has none.
        key: stands for the tokenizer, the length limit, the room for text and the windows.
        label_tokens: that a template puts before each text; `encoded` counts them as the document's.
        tokens_read: of each document at most; None for as many as there is room for.
    """

    items: tuple[Document, ...]
    encoded: EncodedDocuments
    text_of: npt.NDArray[np.int64]
    digests: Sequence[bytes] | None
    key: str
    label_tokens: int = 0
    tokens_read: int | None = None

    def __len__(self) -> int:
        """Number of documents."""
        return len(self.items)

    def shortened(self, tokens: int) -> PreparedDocuments:
        """The same documents, of which at most so many tokens are read each; the score cache is left out for them.

        What a template puts before a document is read whole and not counted. Results of documents that have more say
        `truncated`.

        Args:
            tokens: at least 1.

        Raises:
            InvalidInputError: fewer.
        """
        if tokens < 1:
            raise InvalidInputError(f"tokens={tokens}: at least 1 expected")
        most = self.label_tokens + tokens
        before = self.encoded
        shortened = before.full_lengths > most
        if before.shortened is not None:
            shortened |= before.shortened
        encoded = dataclasses.replace(before, full_lengths=np.minimum(before.full_lengths, most), shortened=shortened)
        least = tokens if self.tokens_read is None else min(tokens, self.tokens_read)
        return dataclasses.replace(self, encoded=encoded, digests=None, tokens_read=least)

    def check_key(self, key: str) -> None:
        """Refuse documents prepared for another reranker.

        Raises:
            InvalidInputError: their tokenizer, length limit, room for text or windows are not those of `key`.
        """
        if self.key != key:
            raise InvalidInputError(
                "these documents were prepared by a reranker with another tokenizer, max_length or template, or "
                "other windows; prepare them with this one"
            )


Documents: TypeAlias = Iterable[Document] | PreparedDocuments
"""What `score` and `rank` take: documents, or documents prepared before."""
