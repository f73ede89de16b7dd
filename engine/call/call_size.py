"""How large a call is, before its arguments are checked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from crossrank.engine.text.documents import TEXT_FIELD
from crossrank.engine.text.prepared import PreparedDocuments

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

_CHARACTERS_PER_TOKEN = 4
_SMALL_DOCUMENTS, _SMALL_CHARACTERS = 256, 100_000
"""Checked in less than a millisecond; handing that over to a thread would cost an event loop more."""


class CallSize(NamedTuple):
    """Size of some pairs.

    Attributes:
        tokens: of each document and its query, about, int64 (n,).
        characters: that have to be encoded, of queries and documents together.
    """

    tokens: npt.NDArray[np.int64]
    characters: int

    @classmethod
    def of(
        cls,
        documents: Sequence[object] | PreparedDocuments,
        queries: Sequence[object],
        indices: npt.NDArray[np.int64] | None = None,
    ) -> CallSize:
        """Of documents and as many queries, or one for all, or none.

        Args:
            documents: of the caller, or prepared.
            queries: of the caller.
            indices: which of the prepared documents, int64 (n,); None for all.
        """
        of_queries = np.asarray([_characters(query) for query in queries], dtype=np.int64)
        query_tokens = of_queries // _CHARACTERS_PER_TOKEN + 1 if len(queries) else 0
        if isinstance(documents, PreparedDocuments):
            text_of = documents.text_of if indices is None else documents.text_of[indices]
            return cls(documents.encoded.full_lengths[text_of] + query_tokens, int(of_queries.sum()))
        characters = np.asarray([_characters(document) for document in documents], dtype=np.int64)
        tokens = characters // _CHARACTERS_PER_TOKEN + 1
        return cls(tokens + query_tokens, int(of_queries.sum() + characters.sum()))

    @property
    def documents(self) -> int:
        """How many pairs."""
        return len(self.tokens)

    @property
    def small(self) -> bool:
        """Whether an event loop may check the call itself."""
        return len(self.tokens) <= _SMALL_DOCUMENTS and self.characters <= _SMALL_CHARACTERS


def _characters(document: object) -> int:
    """Length of a document's text; what is no document is refused later, with its place."""
    text = document.get(TEXT_FIELD) if isinstance(document, Mapping) else document
    return len(text) if isinstance(text, str) else 0
