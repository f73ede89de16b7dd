"""Documents encoded once, for callers who score the same documents against many queries."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from crossrank.engine.documents import Document

if TYPE_CHECKING:
    from crossrank.engine.encoding import EncodedDocuments


@dataclass(frozen=True, slots=True)
class PreparedDocuments:
    """Encoded documents, made by `prepare` and taken by `score` and `rank` in place of a list.

    Holds about 4 bytes a token besides the documents themselves. Bound to the tokenizer and the length limit of the
    reranker that made it; any reranker with the same ones takes it.

    Attributes:
        items: the caller's documents.
        encoded: their tokens.
        encoder_key: tells the tokenizer and the length limit.
    """

    items: tuple[Document, ...]
    encoded: EncodedDocuments
    encoder_key: str

    def __len__(self) -> int:
        """Number of documents."""
        return len(self.items)


Documents: TypeAlias = Iterable[Document] | PreparedDocuments
"""What `score` and `rank` take: documents, or documents prepared before."""
