"""The pairs of a call before they are encoded: equal ones once, with what the score cache knows of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from crossrank.engine.argument_checks import whole_number
from crossrank.engine.call.score_cache import digest
from crossrank.engine.text.documents import TEXT_FIELD
from crossrank.engine.text.encoded import EncodedDocuments
from crossrank.engine.text.prepared import PreparedDocuments
from crossrank.engine.text.windows import cut

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from crossrank.engine.call.score_cache import KnownScore, ScoreCache
    from crossrank.engine.plan.cost import CostModel
    from crossrank.engine.text.encoded import EncodedQuery
    from crossrank.engine.text.encoding import PairEncoder
    from crossrank.engine.text.windows import Windows

_CHARACTERS_PER_TOKEN = 4
_SMALL_DOCUMENTS, _SMALL_CHARACTERS = 256, 100_000
"""Checked in less than a millisecond; handing that over to a thread would cost an event loop more."""
_LONG, _OUTLINE = 100_000, 64
"""Characters of a text that is compared by its ends first, and of these."""


class CallSize(NamedTuple):
    """Size of some pairs.

    Attributes:
        documents: how many pairs.
        characters: that have to be encoded or counted, of queries, documents and instruction together.
        tokens: that will be scored, about.
    """

    documents: int
    characters: int
    tokens: int

    @property
    def small(self) -> bool:
        """Whether an event loop may check the call itself."""
        return self.documents <= _SMALL_DOCUMENTS and self.characters <= _SMALL_CHARACTERS


class ExpectedWork(NamedTuple):
    """What scoring d pairs will take.

    Attributes:
        seconds: on one core, float64 (d,).
        rows: one for each window, int64 (d,).
    """

    seconds: npt.NDArray[np.float64]
    rows: npt.NDArray[np.int64]


@dataclass(frozen=True)
class Candidates:
    """The d distinct pairs among the n pairs of a call.

    Attributes:
        encoder: lays them out.
        windows: how long documents are read; None for their beginning only.
        queries: the distinct queries.
        query_of: for each distinct pair its query, int64 (d,).
        text_of: for each distinct pair its place in `documents`, int64 (d,).
        documents: distinct texts, or documents encoded before.
        distinct_of: for each of the caller's pairs the distinct pair that it is, int64 (n,).
        known: for each distinct pair what the cache knows of it.
        keys: for each distinct pair its key in the cache; empty without one.
        cache: where to put what is found.
        instruction: what documents are judged by; None for the model's own, or for a model that takes none.
        encoded_queries: queries encoded so far, by their place; parts of the same call share them.
    """

    encoder: PairEncoder
    windows: Windows | None
    queries: Sequence[str]
    query_of: npt.NDArray[np.int64]
    text_of: npt.NDArray[np.int64]
    documents: Sequence[str] | EncodedDocuments
    distinct_of: npt.NDArray[np.int64]
    known: Sequence[KnownScore | None]
    keys: Sequence[bytes]
    cache: ScoreCache | None
    instruction: str | None = None
    encoded_queries: dict[int, EncodedQuery] = field(default_factory=dict)

    def __len__(self) -> int:
        """Number of distinct pairs."""
        return len(self.query_of)

    def sizes(self) -> npt.NDArray[np.int64]:
        """What encoding a distinct pair's document takes or took: characters read of texts, else tokens; int64 (d,)."""
        if isinstance(self.documents, EncodedDocuments):
            return self.documents.full_lengths[self.text_of]
        read = self.encoder.characters_read(self.documents, kept_tokens(self.encoder, self.windows))
        characters = np.asarray(read, dtype=np.int64)
        return characters[self.text_of]

    def expected_work(self, cost: CostModel) -> ExpectedWork:
        """What scoring each distinct pair takes, all its windows together, going by the length of its texts.

        Args:
            cost: predicts run times.
        """
        encoder, tokens = self.encoder, self.sizes()
        if not isinstance(self.documents, EncodedDocuments):
            tokens = tokens // _CHARACTERS_PER_TOKEN
        of_queries = np.asarray([len(query) // _CHARACTERS_PER_TOKEN for query in self.queries], dtype=np.int64)
        of_queries[of_queries > encoder.max_query_tokens] = encoder.cut_query_tokens
        query_tokens = of_queries[self.query_of]
        cuts = cut(tokens, encoder.text_tokens - query_tokens, self.windows)
        lengths = encoder.max_length - encoder.text_tokens + query_tokens[cuts.document_of] + cuts.sizes
        seconds = np.bincount(cuts.document_of, weights=cost.seconds(1, lengths), minlength=len(self))
        return ExpectedWork(seconds.astype(np.float64), cuts.counts)


class CandidateFinder:
    """Finds out what has to be scored for one reranker: its tokenizer, its windows, its cache.

    Attributes:
        encoder: of the reranker.
        windows: how to read long documents; None reads their beginning.
        documents_key: equal for rerankers that take each other's prepared documents.
    """

    def __init__(
        self,
        encoder: PairEncoder,
        *,
        encoder_key: str,
        graph: str,
        windows: Windows | None,
        cache: ScoreCache | None,
        instruction: str | None = None,
    ) -> None:
        """Keep what all calls share.

        Args:
            encoder: of the reranker.
            encoder_key: tells its tokenizer and length limit.
            graph: digest of the graph that scores.
            windows: how to read long documents; None reads their beginning.
            cache: what was scored before; None for no cache.
            instruction: what documents are judged by where a call does not say; None for the model's own.
        """
        self.encoder = encoder
        self._graph = graph
        self.windows = windows
        self._cache = cache
        self._instruction = instruction
        self.documents_key = f"{encoder_key} {windows!r}"

    def size(
        self,
        documents: Sequence[object] | PreparedDocuments,
        queries: Sequence[object],
        indices: npt.NDArray[np.int64] | None = None,
        *,
        instruction: object = None,
    ) -> CallSize:
        """How large a call is: documents and as many queries, or one for all, or none. Nothing is checked yet.

        Args:
            documents: of the caller, or prepared.
            queries: of the caller.
            indices: which of the prepared documents, int64 (n,); None for all.
            instruction: of the caller, whose tokens are counted as well; None for the reranker's.
        """
        of_queries = np.asarray([_characters(query) for query in queries], dtype=np.int64)
        if isinstance(documents, PreparedDocuments):
            text_of = documents.text_of if indices is None else documents.text_of[indices]
            tokens, characters = documents.encoded.full_lengths[text_of], 0
        else:
            of_documents = np.asarray([_characters(document) for document in documents], dtype=np.int64)
            tokens, characters = of_documents // _CHARACTERS_PER_TOKEN + 1, int(of_documents.sum())
        if len(queries):
            tokens = tokens + of_queries // _CHARACTERS_PER_TOKEN + 1
        encoder, windows = self.encoder, self.windows
        if windows is None:
            special_tokens = encoder.max_length - encoder.text_tokens
            scored = np.minimum(tokens + special_tokens, encoder.max_length)
        else:
            scored = cut(tokens, np.full(len(tokens), encoder.text_tokens), windows).sizes
        characters += int(of_queries.sum()) + _characters(instruction)
        return CallSize(len(tokens), characters, int(scored.sum()))

    def distinct(self, texts: Sequence[str]) -> tuple[list[str], npt.NDArray[np.int64], list[bytes] | None]:
        """The different texts in order of appearance, for each text which of them it is, and their cache digests."""
        different, text_of = _distinct(texts)
        return different, text_of, None if self._cache is None else [digest(text) for text in different]

    def of_texts(
        self,
        queries: Sequence[str],
        query_of: npt.NDArray[np.int64],
        texts: Sequence[str],
        instruction: str | None = None,
    ) -> Candidates:
        """Candidates not encoded yet; documents that only known pairs need never are.

        Args:
            queries: the queries; equal ones may be among them.
            query_of: for each pair its query, int64 (n,).
            texts: for each pair its document.
            instruction: what documents are judged by; None for the reranker's.

        Raises:
            InvalidInputError: the instruction does not suit the model, or leaves no room for texts.
        """
        distinct, text_of, digests = self.distinct(texts)
        reading = self._reading(self.encoder, self.windows, instruction)
        return self._find(queries, query_of, text_of, digests, distinct, reading, repeats=len(distinct) < len(texts))

    def of_prepared(
        self,
        query: str,
        documents: PreparedDocuments,
        *,
        indices: npt.NDArray[np.int64] | None = None,
        max_length: int | None = None,
        instruction: str | None = None,
    ) -> Candidates:
        """Candidates of one query and prepared documents.

        Args:
            query: the query.
            documents: what `prepare` made.
            indices: which of them, int64 (n,); None takes all.
            max_length: tokens of a pair, at most the reranker's; then only beginnings are read, whatever the windows.
                None reads as the reranker does.
            instruction: what documents are judged by; None for the reranker's.

        Raises:
            InvalidInputError: the documents were prepared for another reranker, `max_length` is outside its range, or
                the instruction does not suit the model, or leaves no room for texts.
        """
        documents.check_key(self.documents_key)
        text_of = documents.text_of if indices is None else documents.text_of[indices]
        query_of = np.zeros(len(text_of), dtype=np.int64)
        encoder = (
            self.encoder if max_length is None else self.encoder.limited_to(whole_number("max_length", max_length, 1))
        )
        windows = self.windows if max_length is None else None
        digests, encoded = documents.digests, documents.encoded
        repeats = indices is not None or len(encoded) < len(text_of)
        reading = self._reading(encoder, windows, instruction)
        return self._find([query], query_of, text_of, digests, encoded, reading, repeats=repeats)

    def repeated(self, query: str, text: str, times: int) -> Candidates:
        """One pair many times, which is neither looked for in the cache nor put there: for warming up."""
        pairs, zeros = np.arange(times), np.zeros(times, dtype=np.int64)
        return Candidates(
            self.encoder, None, [query], zeros, zeros, [text], pairs, known=[None] * times, keys=[], cache=None
        )

    def _find(
        self,
        queries: Sequence[str],
        query_of: npt.NDArray[np.int64],
        text_of: npt.NDArray[np.int64],
        digests: Sequence[bytes] | None,
        documents: Sequence[str] | EncodedDocuments,
        reading: _Reading,
        *,
        repeats: bool,
    ) -> Candidates:
        """The candidates of pairs; `repeats` says whether a document may come twice."""
        encoder, windows, instruction = reading
        queries, index_of = _distinct(queries)
        distinct_of = np.arange(len(text_of))
        if len(queries) > 1 or repeats:
            texts = max(int(text_of.max(initial=-1)) + 1, 1)
            distinct, distinct_of = np.unique(index_of[query_of] * texts + text_of, return_inverse=True)
            query_of, text_of = np.divmod(distinct, texts)
        else:
            query_of = np.zeros(len(text_of), dtype=np.int64)
        keys: list[bytes] = []
        known: list[KnownScore | None] = [None] * len(text_of)
        if self._cache is not None and digests is not None:
            read = [
                self._graph,
                str(encoder.max_length),
                repr(windows),
                *([] if instruction is None else [instruction]),
            ]
            query_keys = [digest(*read, query) for query in queries]
            keys = [
                query_keys[query] + digests[text]
                for query, text in zip(query_of.tolist(), text_of.tolist(), strict=True)
            ]
            known = self._cache.look_up(keys)
        cache = self._cache if keys else None
        return Candidates(
            encoder, windows, queries, query_of, text_of, documents, distinct_of, known, keys, cache, instruction
        )

    def _reading(self, encoder: PairEncoder, windows: Windows | None, instruction: str | None) -> _Reading:
        """How a call reads: by its instruction, or else the reranker's."""
        chosen = self._instruction if instruction is None else instruction
        encoder.check_instruction(chosen)
        return _Reading(encoder, windows, chosen)


class _Reading(NamedTuple):
    """How the pairs of a call are read: by which encoder, in which windows, with which instruction."""

    encoder: PairEncoder
    windows: Windows | None
    instruction: str | None


def kept_tokens(encoder: PairEncoder, windows: Windows | None) -> int | None:
    """Tokens of a document that are kept at most; None for all."""
    return encoder.text_tokens if windows is None else windows.tokens_read(encoder.text_tokens)


def _distinct(texts: Sequence[str]) -> tuple[list[str], npt.NDArray[np.int64]]:
    """The different texts in order of appearance, and for each text which of them it is."""
    keys: Sequence[object] = texts
    if max(map(len, texts), default=0) > _LONG:
        # Hashing a text reads all of it; one that no other is like is known to be another without.
        alike = Counter(_outline(text) for text in texts if len(text) > _LONG)
        keys = [_outline(text) if len(text) > _LONG and alike[_outline(text)] == 1 else text for text in texts]
    distinct: dict[object, str] = {}
    for key, text in zip(keys, texts, strict=True):
        distinct.setdefault(key, text)
    number = dict(zip(distinct, range(len(distinct)), strict=True))
    return list(distinct.values()), np.fromiter(map(number.__getitem__, keys), dtype=np.int64, count=len(keys))


def _outline(text: str) -> tuple[int, str, str]:
    """What equal texts have in common, at a glance."""
    return len(text), text[:_OUTLINE], text[-_OUTLINE:]


def _characters(document: object) -> int:
    """Length of a document's text; what is no document is refused later, with its place."""
    if isinstance(document, str):
        return len(document)
    text = document.get(TEXT_FIELD) if isinstance(document, Mapping) else None
    return len(text) if isinstance(text, str) else 0
