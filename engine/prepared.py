"""Documents encoded once, for callers who score the same documents against many queries."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from crossrank.engine.documents import Document
from crossrank.models.errors import InvalidInputError

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

    def check_encoder(self, encoder_key: str) -> None:
        """Refuse documents prepared for another reranker.

        Raises:
            InvalidInputError: their tokenizer or length limit is not the one that `encoder_key` tells.
        """
        if self.encoder_key != encoder_key:
            raise InvalidInputError(
                "these documents were prepared by a reranker with another tokenizer or max_length; "
                "prepare them with this one"
            )


Documents: TypeAlias = Iterable[Document] | PreparedDocuments
"""What `score` and `rank` take: documents, or documents prepared before."""
