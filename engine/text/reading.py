"""Texts to token ids: of each text as much is tokenized as is used.

A long text is cut where its tokenizer allows it (`safe_cuts.py`), with more of it taken until there are more tokens
than are wanted. A text without such a cut is tokenized whole. Long pieces go one at a time, since a token takes some
240 bytes while its encoding lives.
"""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from crossrank.engine.text.safe_cuts import SafeCuts

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy.typing as npt
    from tokenizers import Tokenizer

_CHUNK_DOCUMENTS = 256
_CHUNK_BYTES = 256_000
"""A chunk's encodings live at once, and no tokenizer makes more tokens than bytes: so both are bounded."""
_CHARACTERS_PER_TOKEN = 6
"""Taken of a text at first, for each token that is wanted; English words have four to five."""
_WORTH_CUTTING = 1.25
"""A text is cut where it is longer than the piece by this factor."""
_LEAST_GROWTH, _MOST_GROWTH = 2.0, 8.0
_AMPLE = 1.2
"""How much more is taken than the tokens of the piece before say, where that was too short."""

_long_pieces = threading.Lock()


class TokenizedText(NamedTuple):
    """The first tokens of a text.

    Attributes:
        ids: int32 (n,), without special tokens.
        length: tokens of the text, counted up to one more than were wanted.
        spans: first character of each token and the one after its last, int32 (n, 2); None where not asked for.
    """

    ids: npt.NDArray[np.int32]
    length: int
    spans: npt.NDArray[np.int32] | None


class _Piece(NamedTuple):
    """The beginning of the text of a number, `end` characters long."""

    number: int
    end: int
    bytes: int


class TextReader:
    """Tokenizes the beginnings of texts. Safe to use from several threads: the tokenizer is only read."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        """Find out where texts may be cut.

        Args:
            tokenizer: with truncation and padding off.
        """
        self._tokenizer = tokenizer
        self._cuts = SafeCuts.of(tokenizer)

    def characters_read(self, texts: Sequence[str], wanted: int | None) -> list[int]:
        """Characters of each text that are tokenized first: for most texts all that are; all of one without a cut.

        Args:
            texts: without surrogates.
            wanted: tokens of each that are used at most; None for all.
        """
        lengths = list(map(len, texts))
        if wanted is None:
            return lengths
        first = _CHARACTERS_PER_TOKEN * (wanted + 1)
        if max(lengths, default=0) <= first * _WORTH_CUTTING:
            return lengths
        return [len(text) if len(text) <= first * _WORTH_CUTTING else self._end(text, first) for text in texts]

    def read(self, texts: Sequence[str], wanted: int | None, *, spans: bool = False) -> list[TokenizedText]:
        """Tokenize texts, as if whole.

        Args:
            texts: without surrogates.
            wanted: tokens of each that are used at most; None for all.
            spans: whether to say where the tokens are in the text.
        """
        ends = self.characters_read(texts, wanted)
        characters = sum(ends)
        if (
            1 <= len(texts) <= _CHUNK_DOCUMENTS
            and 4 * characters <= _CHUNK_BYTES
            and characters == sum(map(len, texts))
        ):
            # The usual case: short texts, all of them read to their ends together.
            return [_first_tokens(encoding, wanted, spans=spans) for encoding in self._encode_batch(texts, spans=spans)]
        results: dict[int, TokenizedText] = {}
        pieces = [self._piece(texts, index, end) for index, end in enumerate(ends)]
        while pieces:
            too_short = []
            for chunk in _chunks(pieces):
                for piece, encoding in zip(chunk, self._encode(texts, chunk, spans=spans), strict=True):
                    tokens = len(encoding)
                    if wanted is None or tokens > wanted or piece.end == len(texts[piece.number]):
                        results[piece.number] = _first_tokens(encoding, wanted, spans=spans)
                    else:
                        growth = min(max(_AMPLE * (wanted + 1) / max(tokens, 1), _LEAST_GROWTH), _MOST_GROWTH)
                        end = self._end(texts[piece.number], int(piece.end * growth))
                        too_short.append(self._piece(texts, piece.number, end))
            pieces = too_short
        return [results[index] for index in range(len(texts))]

    def _end(self, text: str, characters: int) -> int:
        """The first safe cut after this many characters or some more; the text's end without one."""
        while self._cuts is not None and characters * _WORTH_CUTTING < len(text):
            cut = self._cuts.next_cut(text, characters)
            if cut is not None:
                return cut
            characters = int(characters * _LEAST_GROWTH)
        return len(text)

    def _piece(self, texts: Sequence[str], index: int, end: int) -> _Piece:
        # Four bytes at most: to count them, the text would have to be encoded, and the result would stay with it.
        return _Piece(index, end, end if texts[index].isascii() else 4 * end)

    def _encode(self, texts: Sequence[str], chunk: Sequence[_Piece], *, spans: bool) -> Sequence[Any]:
        beginnings = [texts[piece.number][: piece.end] for piece in chunk]
        if chunk[0].bytes <= _CHUNK_BYTES:
            return self._encode_batch(beginnings, spans=spans)
        with _long_pieces:
            return self._encode_batch(beginnings, spans=spans)

    def _encode_batch(self, texts: Sequence[str], *, spans: bool) -> Sequence[Any]:
        # The fast way leaves the tokens' places in the text out.
        encode = self._tokenizer.encode_batch if spans else self._tokenizer.encode_batch_fast
        return encode(list(texts), add_special_tokens=False)  # type: ignore[no-any-return]


def _first_tokens(encoding: Any, wanted: int | None, *, spans: bool) -> TokenizedText:
    length = len(encoding)
    if wanted is not None and length > wanted:
        length = wanted + 1
        encoding.truncate(wanted)  # before its tokens become a list of Python's
    places = np.asarray(encoding.offsets, dtype=np.int32).reshape(-1, 2) if spans else None
    return TokenizedText(np.asarray(encoding.ids, dtype=np.int32), length, places)


def _chunks(pieces: Sequence[_Piece]) -> Iterator[Sequence[_Piece]]:
    """Pieces in order, each chunk bounded in number and bytes (a single longer piece is a chunk of its own)."""
    start = size = 0
    for index, piece in enumerate(pieces):
        if index > start and (index - start == _CHUNK_DOCUMENTS or size + piece.bytes > _CHUNK_BYTES):
            yield pieces[start:index]
            start, size = index, 0
        size += piece.bytes
    if start < len(pieces):
        yield pieces[start:]


def _after_fork_in_child() -> None:
    global _long_pieces  # noqa: PLW0603  a thread that is not in the child may have held it
    _long_pieces = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
