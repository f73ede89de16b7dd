"""Encoding the texts of a call piece by piece: the same tokens as at once."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import numpy as np

from crossrank.engine.text.encoding import EncodedDocuments

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

    from crossrank.engine.schedule.encoding_pieces import EncodingSpeed, Piece, Pieces
    from crossrank.engine.text.encoding import EncodedQuery, PairEncoder
    from crossrank.engine.text.windows import Windows


class TextEncoding:
    """Queries and documents of one call.

    Attributes:
        queries: those encoded so far.
        seconds: what the pieces took.
    """

    def __init__(
        self, encoder: PairEncoder, windows: Windows | None, queries: Sequence[str], texts: Sequence[str]
    ) -> None:
        """Encode nothing yet.

        Args:
            encoder: of the reranker.
            windows: how long documents are read; None for their beginning only.
            queries: to be encoded first.
            texts: documents to be encoded after them.
        """
        self.queries: list[EncodedQuery] = []
        self.seconds = 0.0
        self._encoder = encoder
        self._windows = windows
        self._kept_tokens = kept_tokens(encoder, windows)
        self._pending = queries
        self._texts = texts
        self._parts: list[EncodedDocuments] = []

    def pieces(self, speed: EncodingSpeed) -> Generator[Piece, None, None]:
        """Encode, piece by piece; yields before each."""
        count = len(self._pending)
        encoder = self._encoder
        characters = encoder.characters_read(self._pending, encoder.max_query_tokens)
        characters += encoder.characters_read(self._texts, self._kept_tokens)
        for taken, piece, predicted in speed.cut(characters):
            yield piece
            started = time.perf_counter()
            for query in self._pending[taken]:
                self.queries.append(self._encoder.encode_query(query))
            if taken.stop > count:
                self._parts.append(self._encode(self._texts[max(0, taken.start - count) : taken.stop - count]))
            seconds = time.perf_counter() - started
            self.seconds += seconds
            if not piece.large:
                speed.observe(predicted, seconds)

    def documents(self) -> EncodedDocuments:
        """All documents, after the last piece."""
        if len(self._parts) == 1:
            return self._parts[0]
        if not self._parts:
            return self._encode([])
        offsets = np.zeros(len(self._texts) + 1, dtype=np.int64)
        np.cumsum(np.concatenate([np.diff(part.offsets) for part in self._parts]), out=offsets[1:])
        spans = [part.spans for part in self._parts if part.spans is not None]
        return EncodedDocuments(
            np.concatenate([part.ids for part in self._parts]),
            offsets,
            np.concatenate([part.full_lengths for part in self._parts]),
            np.concatenate(spans) if spans else None,
        )

    def _encode(self, texts: Sequence[str]) -> EncodedDocuments:
        if self._windows is None:
            return self._encoder.encode_documents(texts)
        return self._encoder.encode_whole_documents(texts, self._kept_tokens)


def kept_tokens(encoder: PairEncoder, windows: Windows | None) -> int | None:
    """Tokens of a document that are kept at most; None for all."""
    return encoder.text_tokens if windows is None else windows.tokens_read(encoder.text_tokens)


def document_pieces(
    encoder: PairEncoder, windows: Windows | None, texts: Sequence[str], speed: EncodingSpeed
) -> Pieces[EncodedDocuments]:
    """Encode as many tokens of each text as may be read of it, piece by piece."""
    encoding = TextEncoding(encoder, windows, [], texts)
    yield from encoding.pieces(speed)
    return encoding.documents()
