"""Pairs whose scores change where a checkpoint is misread, made for the model at hand.

Ordinary sentences score alike whether capitals were lowered or not, and hardly one has as many tokens as a pair may.
A wrong setting changes the score of each of these pairs: letters in both cases, accents, leading and doubled
spaces, special tokens as text, empty texts, and documents that end around every limit the checkpoint has.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from crossrank.errors import FidelityError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    from crossrank.engine.text.encoding import PairEncoder
    from crossrank.export.verify.reference import Reference

LONGEST_SCORED = 640
"""Tokens of the longest pair that is scored; of longer ones only the token ids are compared."""

_QUERY = "Where does the River flow"
_TEXTS = (
    "The RIVER flows into the SEA.",
    "the river flows into the sea.",
    " The river flows",
    "  the  river\tflows\n",
    "Zürich naïve CAFÉ ÀÉÎ straße İstanbul",
    "日本語で 中文 слово ελληνικά",
    "wind-tunnel results, doesn't re-order 3.5% (again)!",
    "[CLS] [SEP] <s> </s> [MASK] <mask> [PAD]",
    "flows.River.SEA_level\u00a0non\u200bbreaking ﬁne ½ ①",
    " ",
    "",
)
_QUERIES = ("THE RIVER", "the river", " the river", "Où est le café ?", "")
_WORDS = ("the", "River", "carries", "cold", "water", "into", "a", "Small", "sea", "and", "every", "reader", "ranks")

_FILLERS = ("a", "the", ".", "e", "of", "in")
"""One of them is a single token for every tokenizer that knows Latin letters."""


@dataclass(frozen=True)
class Probes:
    """Pairs to compare a reading of a checkpoint on.

    Attributes:
        scored: pairs whose logits are compared as well as their token ids.
        ids_only: pairs too long to be scored in a moment.
    """

    scored: tuple[tuple[str, str], ...]
    ids_only: tuple[tuple[str, str], ...] = ()

    @property
    def all(self) -> tuple[tuple[str, str], ...]:
        """Every pair."""
        return (*self.scored, *self.ids_only)


def make_probes(encoder: PairEncoder, limits: Iterable[int] = ()) -> Probes:
    """Make the probe pairs of a model.

    Args:
        encoder: of the model as the export read it.
        limits: numbers of tokens around which a misreading would show, such as the tokenizer's own limit or the
            reach of local attention; the encoder's `max_length` is always among them.
    """
    query = _QUERY if len(encoder.encode_query(_QUERY).ids) <= encoder.text_tokens // 2 else "river"
    pairs = [(query, text) for text in _TEXTS]
    pairs += [(text, _TEXTS[0]) for text in _QUERIES if len(encoder.encode_query(text).ids) <= encoder.text_tokens // 2]
    longer: list[tuple[str, str]] = []
    lengths = {limit + step for limit in {*limits, encoder.max_length} for step in (-2, -1, 0, 1, 2)}
    lengths |= {limit + limit // 2 for limit in {*limits, encoder.max_length}}
    for length in sorted(length for length in lengths if length > encoder.template.special_tokens):
        pair = (query, _document(encoder, query, length))
        (pairs if min(length, encoder.max_length) <= LONGEST_SCORED else longer).append(pair)
    return Probes(tuple(dict.fromkeys(pairs)), tuple(longer))


def compare_ids(
    encoder: PairEncoder, reference: Reference, pairs: Sequence[tuple[str, str]], *, segments: bool
) -> None:
    """Make sure that pairs become the same tokens in the engine and in the reference.

    Args:
        encoder: the engine's.
        reference: the library that saved the checkpoint.
        pairs: whose ids are compared.
        segments: whether the graph is given segment ids.

    Raises:
        FidelityError: they do not; the message has the first pair that differs.
    """
    for query, document in pairs:
        first = np.zeros(1, np.int64)
        encoded = encoder.pair([encoder.encode_query(query)], first, encoder.encode_documents([document]))
        arrays = encoder.assemble(encoded, first, int(encoded.lengths[0]))
        theirs, types = reference.token_ids((query, document))
        ours = arrays.input_ids[0].tolist()
        what = "token ids"
        same = ours == theirs
        if same and segments:
            ours, what = arrays.token_type_ids[0].tolist(), "segment ids"
            theirs = types if types is not None else [0] * len(ours)
            same = ours == theirs
        if not same:
            shorter = min(len(ours), len(theirs))
            at = next((i for i in range(shorter) if ours[i] != theirs[i]), shorter)
            raise FidelityError(
                f"crossrank and the reference ({reference.description}) read the pair {query!r:.80}, {document!r:.80} "
                f"as different {what}: {len(ours)} and {len(theirs)} of them, {ours[at : at + 5]} and "
                f"{theirs[at : at + 5]} from position {at} on; nothing was written"
            )


def largest_difference(ours: NDArray[np.float32], theirs: NDArray[np.float32], pairs: Sequence[tuple[str, str]]) -> str:
    """The pair on which two readings differ most, in words."""
    index = int(np.argmax(np.abs(ours - theirs)))
    query, document = pairs[index]
    return f"{query!r:.60}, {document!r:.60}: {ours[index]:g} and {theirs[index]:g}"


def _document(encoder: PairEncoder, query: str, length: int) -> str:
    """A document with which the pair has so many tokens before any cut, or one or two more."""
    rest = length - encoder.template.special_tokens - len(encoder.encode_query(query).ids)
    words: list[str] = []
    while (lacking := rest - _tokens(encoder, words)) > 0:
        words += [_WORDS[(len(words) + step) % len(_WORDS)] for step in range(max(1, lacking // 3))]
    longer = list(words)
    while words and _tokens(encoder, words) > rest:
        words.pop()
    while (count := _tokens(encoder, words)) < rest:
        filler = next((word for word in _FILLERS if _tokens(encoder, [*words, word]) == count + 1), None)
        if filler is None:
            return " ".join(longer)
        words.append(filler)
    return " ".join(words)


def _tokens(encoder: PairEncoder, words: list[str]) -> int:
    return int(encoder.encode_whole_documents([" ".join(words)], None).full_lengths[0])
