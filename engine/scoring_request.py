"""From texts to the rows that have to be scored, and from their logits back to the texts.

A request is a list of (query, document) pairs as the caller gave them. Equal pairs are scored once; what the score
cache knows is not scored at all; a long document becomes several rows where windows are read.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from crossrank.engine.encoding import EncodedPairs
from crossrank.engine.prepared import PreparedDocuments
from crossrank.engine.results import DocumentWindow
from crossrank.engine.score_cache import KnownScore, digest
from crossrank.engine.windows import Windows, aggregate, cut

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from crossrank.engine.documents import Document
    from crossrank.engine.encoding import EncodedDocuments, EncodedQuery, PairEncoder
    from crossrank.engine.score_cache import ScoreCache
    from crossrank.engine.windows import WindowCuts


@dataclass(frozen=True)
class DocumentScores:
    """What scoring gave for each pair of a request.

    Attributes:
        logits: float32 (n,); undefined where not scored.
        scored: whether there is a logit, bool (n,).
        truncated: whether a part of the document was not read, bool (n,).
        windows: the best window of each, or None where windows are not read.
        query_truncated: whether any query was cut.
    """

    logits: npt.NDArray[np.float32]
    scored: npt.NDArray[np.bool_]
    truncated: npt.NDArray[np.bool_]
    windows: Sequence[DocumentWindow | None]
    query_truncated: bool


@dataclass(frozen=True)
class ScoringRequest:
    """Rows to score and the way back to the caller's pairs.

    Attributes:
        rows: what has to be scored: one row a window.
        cuts: which windows belong together; one document of it is one distinct pair that the cache does not know.
        windows: how documents were cut; None for their beginning only.
        distinct_of: for each of the caller's pairs the distinct pair that it is, int64 (n,).
        known: for each distinct pair what the cache knows of it.
        keys: for each distinct pair its key; empty without a cache.
        cache: where to put what is found.
        queries_truncated: whether any query was cut.
    """

    rows: EncodedPairs
    cuts: WindowCuts
    windows: Windows | None
    distinct_of: npt.NDArray[np.int64]
    known: Sequence[KnownScore | None]
    keys: Sequence[bytes]
    cache: ScoreCache | None
    queries_truncated: bool

    @property
    def anything_truncated(self) -> bool:
        """Whether a query or a part of a document is not read; known before anything is scored."""
        known = any(known.truncated for known in self.known if known is not None)
        return known or self.queries_truncated or bool(self.cuts.bounded.any())

    def resolve(
        self, row_logits: npt.NDArray[np.float32], scored_rows: npt.NDArray[np.bool_] | None = None
    ) -> DocumentScores:
        """Scores of the caller's pairs from those of the rows; what is new and complete goes into the cache.

        Args:
            row_logits: float32 (rows,).
            scored_rows: which rows have their logit, bool (rows,), where time did not allow all; None for all. A
                document counts as scored when all of its windows are.
        """
        complete = np.ones(len(self.cuts.bounded), dtype=np.bool_)
        if scored_rows is not None:
            complete[self.cuts.document_of[~scored_rows]] = False
        found, best = aggregate(row_logits, self.cuts, self.windows.aggregation if self.windows else "first")
        new = np.asarray([known is None for known in self.known], dtype=np.bool_)
        logits = np.empty(len(new), dtype=np.float32)
        truncated, scored = np.empty(len(new), dtype=np.bool_), np.ones(len(new), dtype=np.bool_)
        windows: list[DocumentWindow | None] = [None if known is None else known.window for known in self.known]
        logits[new], truncated[new], scored[new] = found, self.cuts.bounded, complete
        for place, window in zip(np.flatnonzero(new).tolist(), self._found_windows(best), strict=True):
            windows[place] = window
        for place in np.flatnonzero(~new).tolist():
            known = self.known[place]
            if known is not None:
                logits[place], truncated[place] = known.logit, known.truncated
        if self.cache is not None:
            self.cache.store(
                (self.keys[place], KnownScore(float(logits[place]), bool(truncated[place]), windows[place]))
                for place in np.flatnonzero(new & scored).tolist()
            )
        return DocumentScores(
            logits[self.distinct_of],
            scored[self.distinct_of],
            truncated[self.distinct_of],
            [windows[place] for place in self.distinct_of.tolist()],
            self.queries_truncated,
        )

    def _found_windows(self, best: npt.NDArray[np.int64]) -> list[DocumentWindow | None]:
        spans = self.rows.documents.spans
        if self.windows is None or spans is None:
            return [None] * len(best)
        rows = self.cuts.first[:-1] + best
        found: list[DocumentWindow | None] = []
        for row, number, count in zip(rows.tolist(), best.tolist(), self.cuts.counts.tolist(), strict=True):
            begin = int(self.rows.begins[row])
            own = spans[begin : begin + int(self.cuts.sizes[row])]
            start, end = (int(own[:, 0].min()), int(own[:, 1].max())) if len(own) else (0, 0)
            found.append(DocumentWindow(number, count, start, end))
        return found


class RequestMaker:
    """Makes requests for one reranker: its tokenizer, its windows, its cache."""

    def __init__(
        self, encoder: PairEncoder, *, encoder_key: str, graph: str, windows: Windows | None, cache: ScoreCache | None
    ) -> None:
        """Keep what all requests share.

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

    def prepare(self, items: tuple[Document, ...], texts: Sequence[str]) -> PreparedDocuments:
        """Encode documents, equal ones once."""
        distinct, text_of = _distinct(texts)
        digests = [digest(text) for text in distinct] if self._cache is not None else None
        return PreparedDocuments(items, self._encode(distinct), text_of, digests, self.documents_key)

    def of_texts(self, queries: Sequence[str], query_of: npt.NDArray[np.int64], texts: Sequence[str]) -> ScoringRequest:
        """A request for documents not encoded yet; those that only known pairs need never are.

        Args:
            queries: the queries; equal ones may be among them.
            query_of: for each pair its query, int64 (n,).
            texts: for each pair its document.
        """
        distinct, text_of = _distinct(texts)
        digests = [digest(text) for text in distinct] if self._cache is not None else None
        return self._make(queries, query_of, text_of, digests, distinct, None, None)

    def of_prepared(
        self,
        query: str,
        documents: PreparedDocuments,
        *,
        places: npt.NDArray[np.int64] | None = None,
        max_length: int | None = None,
    ) -> ScoringRequest:
        """A request for one query and prepared documents.

        Args:
            query: the query.
            documents: what `prepare` made.
            places: which of them, int64 (n,); None takes all.
            max_length: tokens of a pair, at most the reranker's; then only beginnings are read, whatever the windows.
                None reads as the reranker does.
        """
        text_of = documents.text_of if places is None else documents.text_of[places]
        query_of = np.zeros(len(text_of), dtype=np.int64)
        return self._make([query], query_of, text_of, documents.digests, None, documents.encoded, max_length)

    def _make(
        self,
        queries: Sequence[str],
        query_of: npt.NDArray[np.int64],
        text_of: npt.NDArray[np.int64],
        digests: Sequence[bytes] | None,
        texts: Sequence[str] | None,
        encoded: EncodedDocuments | None,
        max_length: int | None,
    ) -> ScoringRequest:
        encoder = self._encoder if max_length is None else self._encoder.limited_to(max_length)
        windows = self._windows if max_length is None else None
        queries, place_of = _distinct(queries)
        query_of = place_of[query_of]
        documents = max(int(text_of.max(initial=-1)) + 1, 1)
        distinct, distinct_of = np.unique(query_of * documents + text_of, return_inverse=True)
        query_of, text_of = np.divmod(distinct, documents)
        keys: list[bytes] = []
        known: list[KnownScore | None] = [None] * len(distinct)
        if self._cache is not None and digests is not None:
            own = [digest(self._graph, str(encoder.max_length), repr(windows), query) for query in queries]
            keys = [own[query] + digests[text] for query, text in zip(query_of.tolist(), text_of.tolist(), strict=True)]
            known = self._cache.look_up(keys)
            unknown = np.asarray([found is None for found in known], dtype=np.bool_)
            query_of, text_of = query_of[unknown], text_of[unknown]
        if encoded is None:
            needed, text_of = np.unique(text_of, return_inverse=True)
            encoded = self._encode([texts[place] for place in needed.tolist()] if texts is not None else [])
        encoded_queries = tuple(encoder.encode_query(query) for query in queries)
        rows, cuts = _rows(encoder, encoded_queries, query_of, text_of, encoded, windows)
        cut_queries = any(query.truncated for query in encoded_queries)
        return ScoringRequest(rows, cuts, windows, distinct_of, known, keys, self._cache, cut_queries)

    def _encode(self, texts: Sequence[str]) -> EncodedDocuments:
        if self._windows is None:
            return self._encoder.encode_documents(texts)
        most = self._windows.most
        kept = None if most is None else most * self._encoder.text_tokens
        return self._encoder.encode_whole_documents(texts, kept)


def _rows(
    encoder: PairEncoder,
    queries: tuple[EncodedQuery, ...],
    query_of: npt.NDArray[np.int64],
    text_of: npt.NDArray[np.int64],
    documents: EncodedDocuments,
    windows: Windows | None,
) -> tuple[EncodedPairs, WindowCuts]:
    query_lengths = np.asarray([len(query.ids) for query in queries], dtype=np.int64)[query_of]
    cuts = cut(documents.full_lengths[text_of], encoder.text_tokens - query_lengths, windows)
    pair_of = cuts.document_of
    lengths = encoder.template.special_tokens + query_lengths[pair_of] + cuts.sizes
    begins = documents.offsets[text_of][pair_of] + cuts.starts
    return EncodedPairs(queries, query_of[pair_of], documents, begins, lengths, cuts.bounded[pair_of]), cuts


def _distinct(texts: Sequence[str]) -> tuple[list[str], npt.NDArray[np.int64]]:
    """The different texts in order of appearance, and for each text which of them it is."""
    number: dict[str, int] = {}
    places = [number.setdefault(text, len(number)) for text in texts]
    return list(number), np.asarray(places, dtype=np.int64)
