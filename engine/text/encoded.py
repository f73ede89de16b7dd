"""What texts are after encoding: queries, documents, the pairs of them, and batches of pairs as token arrays."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from crossrank.errors import InvalidInputError

if TYPE_CHECKING:
    import numpy.typing as npt


@dataclass(frozen=True)
class EncodedQuery:
    """Token ids of a query, without special tokens; `truncated` where it was cut.

    Where a model has a template, those of the query within its text.
    """

    ids: npt.NDArray[np.int32]
    truncated: bool


@dataclass(frozen=True)
class EncodedDocuments:
    """Documents as token ids, without special tokens.

    Attributes:
        ids: all documents' tokens one after the other, int32 (total tokens,).
        offsets: where each begins and the last ends, int64 (n + 1,).
        full_lengths: tokens of each document, int64 (n,); of one that has more than were kept, one more than were.
        spans: first character of each token and the one after its last, int32 (total tokens, 2); None where they were
            not asked for.
        shortened: whose end is left out whatever there is room for, bool (n,); None where no document's is.
    """

    ids: npt.NDArray[np.int32]
    offsets: npt.NDArray[np.int64]
    full_lengths: npt.NDArray[np.int64]
    spans: npt.NDArray[np.int32] | None = None
    shortened: npt.NDArray[np.bool_] | None = None

    def __len__(self) -> int:
        """Number of documents."""
        return len(self.full_lengths)

    def check_kept(self, index: npt.NDArray[np.int64], ends: npt.NDArray[np.int64]) -> None:
        """Refuse to read tokens that were not kept: those that follow are another document's.

        Args:
            index: documents, int64 (n,).
            ends: tokens of each up to the last that is read, int64 (n,).

        Raises:
            InvalidInputError: fewer were kept of one.
        """
        kept = np.diff(self.offsets)[index]
        if np.any(ends > kept):
            place = int(np.argmax(ends > kept))
            raise InvalidInputError(
                f"{int(kept[place])} tokens were kept of a longer document and {int(ends[place])} are to be read; "
                f"encode the documents for pairs with as much room, or for windows that read as far"
            )


@dataclass(frozen=True)
class EncodedPairs:
    """Pairs ready to be put into batches. Several may read the same document, or other parts of it.

    Attributes:
        queries: the distinct queries.
        query_of: for each pair, the index of its query, int64 (n,).
        documents: the documents that the pairs read.
        begins: for each pair, where in `documents.ids` it begins to read, int64 (n,).
        lengths: tokens of each pair, special tokens included, int64 (n,); the end of what it reads follows from them.
        truncated: whether the pair's document was cut, bool (n,).
    """

    queries: tuple[EncodedQuery, ...]
    query_of: npt.NDArray[np.int64]
    documents: EncodedDocuments
    begins: npt.NDArray[np.int64]
    lengths: npt.NDArray[np.int64]
    truncated: npt.NDArray[np.bool_]

    def __len__(self) -> int:
        """Number of pairs."""
        return len(self.lengths)

    @property
    def queries_truncated(self) -> bool:
        """Whether any query was cut."""
        return any(query.truncated for query in self.queries)

    @property
    def cut(self) -> bool:
        """Whether anything was cut."""
        return self.queries_truncated or bool(self.truncated.any())


class TokenArrays(NamedTuple):
    """One batch: int64 arrays of shape (pairs, length), padded on the right."""

    input_ids: npt.NDArray[np.int64]
    attention_mask: npt.NDArray[np.int64]
    token_type_ids: npt.NDArray[np.int64]
