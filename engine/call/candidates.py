"""The pairs of a call before they are encoded: equal ones once, with what the score cache knows of them."""

from __future__ import annotations

import dataclasses
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from crossrank.engine.call.score_cache import digest
from crossrank.engine.call.text_encoding import document_pieces, kept_tokens
from crossrank.engine.text.encoding import EncodedDocuments
from crossrank.engine.text.prepared import PreparedDocuments
from crossrank.engine.text.windows import cut

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from crossrank.engine.call.score_cache import KnownScore, ScoreCache
    from crossrank.engine.plan.cost import CostModel
    from crossrank.engine.schedule.encoding_pieces import EncodingSpeed, Pieces
    from crossrank.engine.text.documents import Document
    from crossrank.engine.text.encoding import EncodedQuery, PairEncoder
    from crossrank.engine.text.windows import Windows

_TOKENS_PER_CHARACTER = 0.25
_LONG, _OUTLINE = 100_000, 64
"""Characters of a text that is compared by its ends first, and of these."""


class ExpectedWork(NamedTuple):
    """What scoring d pairs will take.

    Attributes:
        seconds: on one core, float64 (d,).
        tokens: of all rows, int64 (d,).
        rows: one for each window, int64 (d,).
    """

    seconds: npt.NDArray[np.float64]
    tokens: npt.NDArray[np.int64]
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
    encoded_queries: dict[int, EncodedQuery] = field(default_factory=dict)

    def __len__(self) -> int:
        """Number of distinct pairs."""
        return len(self.query_of)

    @property
    def unknown(self) -> npt.NDArray[np.bool_]:
        """Which distinct pairs have to be scored, bool (d,)."""
        return np.asarray([known is None for known in self.known], dtype=np.bool_)

    def only(self, indices: npt.NDArray[np.int64]) -> Candidates:
        """Some of the distinct pairs, each of them once in the order of `indices`, int64 (b,)."""
        chosen = indices.tolist()
        return dataclasses.replace(
            self,
            query_of=self.query_of[indices],
            text_of=self.text_of[indices],
            distinct_of=np.arange(len(chosen)),
            known=[self.known[index] for index in chosen],
            keys=[self.keys[index] for index in chosen] if self.keys else [],
        )

    def sizes(self) -> npt.NDArray[np.int64]:
        """What encoding a distinct pair's document takes or took: characters read of texts, else tokens; int64 (d,)."""
        if isinstance(self.documents, EncodedDocuments):
            return self.documents.full_lengths[self.text_of]
        read = self.encoder.characters_read(self.documents, kept_tokens(self.encoder, self.windows))
        characters = np.asarray(read, dtype=np.int64)
        return characters[self.text_of]

    def estimated_tokens(self) -> int:
        """Tokens of all pairs that have to be scored, about and quickly: as if all documents were of one length."""
        documents = self.documents
        unknown = self.known.count(None)
        if isinstance(documents, EncodedDocuments):
            tokens = float(documents.full_lengths.mean()) if len(documents) else 0.0
        else:
            longest = None if self.windows is not None else int(self.encoder.max_length / _TOKENS_PER_CHARACTER)
            lengths = [len(text) if longest is None else min(len(text), longest) for text in documents]
            tokens = sum(lengths) * _TOKENS_PER_CHARACTER / max(1, len(lengths))
        query = sum(map(len, self.queries)) * _TOKENS_PER_CHARACTER / max(1, len(self.queries))
        return int(unknown * (tokens + query + self.encoder.template.special_tokens))

    def expected_work(self, cost: CostModel) -> ExpectedWork:
        """What scoring each distinct pair takes, all its windows together, going by the length of its texts.

        Args:
            cost: predicts run times.
        """
        encoder, tokens = self.encoder, self.sizes()
        if not isinstance(self.documents, EncodedDocuments):
            tokens = (tokens * _TOKENS_PER_CHARACTER).astype(np.int64)
        of_queries = np.asarray([len(query) * _TOKENS_PER_CHARACTER for query in self.queries], dtype=np.int64)
        of_queries[of_queries > encoder.max_query_tokens] = encoder.cut_query_tokens
        query_tokens = of_queries[self.query_of]
        cuts = cut(tokens, encoder.text_tokens - query_tokens, self.windows)
        lengths = encoder.template.special_tokens + query_tokens[cuts.document_of] + cuts.sizes
        seconds, tokens = (
            np.bincount(cuts.document_of, weights=weights, minlength=len(self))
            for weights in (cost.seconds(1, lengths), lengths)
        )
        return ExpectedWork(seconds.astype(np.float64), tokens.astype(np.int64), cuts.counts)


class CandidateFinder:
    """Finds out what has to be scored for one reranker: its tokenizer, its windows, its cache.

    Attributes:
        documents_key: equal for rerankers that take each other's prepared documents.
    """

    def __init__(
        self, encoder: PairEncoder, *, encoder_key: str, graph: str, windows: Windows | None, cache: ScoreCache | None
    ) -> None:
        """Keep what all calls share.

        Args:
            encoder: of the reranker.
            encoder_key: tells its tokenizer and length limit.
            graph: digest of the graph that scores.
            windows: how to read long documents; None reads their beginning.
            cache: what was scored before; None for no cache.
        """
        self._encoder = encoder
        self._graph = graph
        self._windows = windows
        self._cache = cache
        self.documents_key = f"{encoder_key} {windows!r}"

    def prepare(
        self, items: tuple[Document, ...], texts: Sequence[str], speed: EncodingSpeed
    ) -> Pieces[PreparedDocuments]:
        """Encode documents piece by piece, equal ones once."""
        distinct, text_of = _distinct(texts)
        encoded = yield from document_pieces(self._encoder, self._windows, distinct, speed)
        return PreparedDocuments(items, encoded, text_of, self._digests(distinct), self.documents_key)

    def of_texts(self, queries: Sequence[str], query_of: npt.NDArray[np.int64], texts: Sequence[str]) -> Candidates:
        """Candidates not encoded yet; documents that only known pairs need never are.

        Args:
            queries: the queries; equal ones may be among them.
            query_of: for each pair its query, int64 (n,).
            texts: for each pair its document.
        """
        distinct, text_of = _distinct(texts)
        digests, repeats = self._digests(distinct), len(distinct) < len(texts)
        return self._find(queries, query_of, text_of, digests, distinct, self._encoder, self._windows, repeats=repeats)

    def of_prepared(
        self,
        query: str,
        documents: PreparedDocuments,
        *,
        indices: npt.NDArray[np.int64] | None = None,
        max_length: int | None = None,
    ) -> Candidates:
        """Candidates of one query and prepared documents.

        Args:
            query: the query.
            documents: what `prepare` made.
            indices: which of them, int64 (n,); None takes all.
            max_length: tokens of a pair, at most the reranker's; then only beginnings are read, whatever the windows.
                None reads as the reranker does.

        Raises:
            InvalidInputError: the documents were prepared for another reranker, or `max_length` is outside its range.
        """
        documents.check_key(self.documents_key)
        text_of = documents.text_of if indices is None else documents.text_of[indices]
        query_of = np.zeros(len(text_of), dtype=np.int64)
        encoder = self._encoder if max_length is None else self._encoder.limited_to(max_length)
        windows = self._windows if max_length is None else None
        digests, encoded = documents.digests, documents.encoded
        repeats = indices is not None or len(encoded) < len(text_of)
        return self._find([query], query_of, text_of, digests, encoded, encoder, windows, repeats=repeats)

    def estimated_tokens(self, tokens: npt.NDArray[np.int64]) -> int:
        """Tokens that will be scored, about, of pairs with so many without special tokens, int64 (n,)."""
        if self._windows is None:
            whole = tokens + self._encoder.template.special_tokens
            return int(np.minimum(whole, self._encoder.max_length).sum())
        return int(cut(tokens, np.full(len(tokens), self._encoder.text_tokens), self._windows).sizes.sum())

    def _find(
        self,
        queries: Sequence[str],
        query_of: npt.NDArray[np.int64],
        text_of: npt.NDArray[np.int64],
        digests: Sequence[bytes] | None,
        documents: Sequence[str] | EncodedDocuments,
        encoder: PairEncoder,
        windows: Windows | None,
        *,
        repeats: bool,
    ) -> Candidates:
        """The candidates of pairs; `repeats` says whether a document may come twice."""
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
            query_keys = [digest(self._graph, str(encoder.max_length), repr(windows), query) for query in queries]
            keys = [
                query_keys[query] + digests[text]
                for query, text in zip(query_of.tolist(), text_of.tolist(), strict=True)
            ]
            known = self._cache.look_up(keys)
        cache = self._cache if keys else None
        return Candidates(encoder, windows, queries, query_of, text_of, documents, distinct_of, known, keys, cache)

    def _digests(self, texts: Sequence[str]) -> list[bytes] | None:
        return [digest(text) for text in texts] if self._cache is not None else None


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
