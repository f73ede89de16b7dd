"""Pairs that are too long, cut where they are longest: tokens as with `truncation="longest_first"` of tokenizers.

A text that is not longer than half of the room stays whole, and the other one gets the rest. Where both are longer,
each gets half, and the longer one the token that is left of an odd number (`truncate_encodings` of tokenizers 0.23).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from crossrank.engine.text.encoded import EncodedQuery

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from crossrank.engine.text.encoded import EncodedDocuments
    from crossrank.engine.text.encoding import PairEncoder


_COUNTED_AT_FIRST, _GROWTH = 4, 4
"""Rooms that are counted of two long texts, and by how much more where both go on: a text may be of any length."""


def query_tokens_kept(
    query_lengths: npt.NDArray[np.int64], document_lengths: npt.NDArray[np.int64], room: int
) -> npt.NDArray[np.int64]:
    """Tokens of its query that each pair reads, int64 (n,); its document gets what is left of the room.

    Args:
        query_lengths: tokens of each pair's query, int64 (n,).
        document_lengths: tokens of each pair's document, int64 (n,).
        room: tokens of both that a pair holds.
    """
    half = room // 2
    shorter = np.minimum(query_lengths, half)
    longer = np.maximum(room - document_lengths, room - half)
    cut = np.where(query_lengths <= document_lengths, shorter, longer)
    return np.where(query_lengths + document_lengths <= room, query_lengths, cut)


def cut_longer_queries(
    encoder: PairEncoder,
    queries: Sequence[EncodedQuery],
    query_texts: Sequence[str],
    query_of: npt.NDArray[np.int64],
    documents: EncodedDocuments,
    document_texts: Sequence[str],
    text_of: npt.NDArray[np.int64],
) -> tuple[tuple[EncodedQuery, ...], npt.NDArray[np.int64]]:
    """The queries as the pairs read them: one for each length that a query is cut to.

    Args:
        encoder: of the texts.
        queries: the distinct queries.
        query_texts: their texts.
        query_of: for each pair its query, int64 (n,).
        documents: the distinct documents.
        document_texts: their texts.
        text_of: for each pair its document, int64 (n,).

    Returns:
        The queries, and for each pair which of them it reads, int64 (n,).
    """
    room = encoder.text_tokens
    of_queries = np.asarray([len(query.ids) + query.truncated for query in queries], dtype=np.int64)
    query_lengths, document_lengths = of_queries[query_of], documents.full_lengths[text_of]
    if room % 2:
        # One token goes to the longer text. Of texts longer than the room only that was counted.
        uncounted = np.flatnonzero((query_lengths > room) & (document_lengths > room))
        query_lengths, document_lengths = query_lengths.copy(), document_lengths.copy()
        long_queries, long_documents = _LongTexts(encoder, query_texts), _LongTexts(encoder, document_texts)
        for pair in uncounted.tolist():
            most = _COUNTED_AT_FIRST * room
            while True:
                query = long_queries.count(int(query_of[pair]), most)
                document = long_documents.count(int(text_of[pair]), most)
                if min(query, document) <= most:  # counted to its end, and the other as far
                    break
                most *= _GROWTH
            query_lengths[pair], document_lengths[pair] = query, document
    kept = query_tokens_kept(query_lengths, document_lengths, room)
    different, read = np.unique(query_of * (room + 1) + kept, return_inverse=True)
    cut = []
    for number, tokens in zip(*(part.tolist() for part in np.divmod(different, room + 1)), strict=True):
        ids = queries[number].ids
        cut.append(EncodedQuery(ids[:tokens], truncated=tokens < len(ids) or queries[number].truncated))
    return tuple(cut), read


class _LongTexts:
    """Counts the tokens of texts, each as far as it was asked for."""

    def __init__(self, encoder: PairEncoder, texts: Sequence[str]) -> None:
        self._encoder = encoder
        self._texts = texts
        self._counted: dict[int, tuple[int, int]] = {}

    def count(self, number: int, most: int) -> int:
        """Tokens of the text of a number, counted up to one more than `most` at least."""
        counted_to, count = self._counted.get(number, (0, 1))
        if count > counted_to and counted_to < most:  # it goes on
            count = self._encoder.count_tokens(self._texts[number], most)
            self._counted[number] = most, count
        return count
