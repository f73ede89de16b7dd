"""From candidates to the rows that have to be scored, and from their logits back to the candidates.

A long document becomes several rows where windows are read. Who scores the rows, and in how many runs, does not matter
here.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from crossrank.engine.call.results import DocumentWindow
from crossrank.engine.call.score_cache import KnownScore
from crossrank.engine.call.text_encoding import TextEncoding
from crossrank.engine.text.encoding import EncodedDocuments, EncodedPairs
from crossrank.engine.text.windows import aggregate, cut

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy.typing as npt

    from crossrank.engine.call.candidates import Candidates
    from crossrank.engine.call.score_cache import ScoreCache
    from crossrank.engine.schedule.encoding_pieces import EncodingSpeed, Pieces
    from crossrank.engine.schedule.request import FailedPair
    from crossrank.engine.text.encoding import EncodedQuery, PairEncoder
    from crossrank.engine.text.windows import WindowCuts, Windows


@dataclass(frozen=True)
class DocumentScores:
    """What scoring gave for each of some pairs.

    Attributes:
        logits: float32 (n,); undefined where not scored.
        scored: whether there is a logit, bool (n,).
        truncated: whether a part of the document was not read, bool (n,).
        windows: the best window of each, or None where windows are not read.
        query_truncated: whether any query was cut.
        failed: those that have no score whatever time they are given, by their indices.
    """

    logits: npt.NDArray[np.float32]
    scored: npt.NDArray[np.bool_]
    truncated: npt.NDArray[np.bool_]
    windows: Sequence[DocumentWindow | None]
    query_truncated: bool
    failed: Mapping[int, FailedPair] = field(default_factory=dict)

    @property
    def anything_truncated(self) -> bool:
        """Whether a query or a part of a document was not read."""
        return self.query_truncated or bool(self.truncated.any())


@dataclass(frozen=True)
class EncodedCandidates:
    """Rows to score and the way back to their candidates.

    Attributes:
        rows: what has to be scored: one row a window.
        cuts: which windows belong together; one document of it is one of c candidates.
        windows: how documents were cut; None for their beginning only.
        keys: for each candidate its key in the cache; empty without one.
        cache: where to put what is found.
        queries_truncated: whether any query was cut.
        encode_seconds: what encoding took.
    """

    rows: EncodedPairs
    cuts: WindowCuts
    windows: Windows | None
    keys: Sequence[bytes]
    cache: ScoreCache | None
    queries_truncated: bool
    encode_seconds: float

    def resolve(
        self,
        row_logits: npt.NDArray[np.float32],
        scored_rows: npt.NDArray[np.bool_],
        failed_rows: Mapping[int, FailedPair],
    ) -> DocumentScores:
        """Scores of the candidates from those of the rows; what is complete goes into the cache.

        Args:
            row_logits: float32 (rows,).
            scored_rows: which rows have their logit, bool (rows,). A document counts as scored when all of its windows
                are.
            failed_rows: rows that can have none, by their indices. A document failed when one of its windows did.
        """
        document_of, truncated = self.cuts.document_of, self.cuts.bounded
        scored = np.ones(len(truncated), dtype=np.bool_)
        scored[document_of[~scored_rows]] = False
        logits, best = aggregate(row_logits, self.cuts, self.windows.aggregation if self.windows else "first")
        windows = self._scored_windows(best)
        if self.cache is not None:
            self.cache.store(
                (self.keys[index], KnownScore(float(logits[index]), bool(truncated[index]), windows[index]))
                for index in np.flatnonzero(scored).tolist()
            )
        failed = {int(document_of[row]): failure for row, failure in failed_rows.items()}
        return DocumentScores(logits, scored, truncated, windows, self.queries_truncated, failed)

    def _scored_windows(self, best: npt.NDArray[np.int64]) -> list[DocumentWindow | None]:
        spans = self.rows.documents.spans
        if self.windows is None or spans is None:
            return [None] * len(best)
        rows = self.cuts.first[:-1] + best
        sizes = self.cuts.sizes[rows]
        starts, ends = np.zeros(len(rows), dtype=np.int64), np.zeros(len(rows), dtype=np.int64)
        filled = sizes > 0
        if filled.any():
            first = np.cumsum(sizes[filled]) - sizes[filled]
            tokens = np.arange(sizes.sum()) + np.repeat(self.rows.begins[rows][filled] - first, sizes[filled])
            # Not the first token's and the last one's: some have no characters of their own, and say 0 to 0.
            starts[filled] = np.minimum.reduceat(spans[tokens, 0], first)
            ends[filled] = np.maximum.reduceat(spans[tokens, 1], first)
        columns = (best, self.cuts.counts, starts, ends)
        return [DocumentWindow(*window) for window in zip(*(column.tolist() for column in columns), strict=True)]


def candidate_pieces(
    candidates: Candidates, indices: npt.NDArray[np.int64], speed: EncodingSpeed
) -> Pieces[EncodedCandidates]:
    """Encode candidates piece by piece, and cut their documents; from any thread.

    Args:
        candidates: of a call.
        indices: which of them, int64 (c,).
        speed: predicts how long texts take.
    """
    query_of, text_of = candidates.query_of[indices], candidates.text_of[indices]
    needed_queries, query_of = np.unique(query_of, return_inverse=True)
    fresh = [index for index in needed_queries.tolist() if index not in candidates.encoded_queries]
    texts: list[str] = []
    if not isinstance(candidates.documents, EncodedDocuments):
        needed, text_of = np.unique(text_of, return_inverse=True)
        texts = [candidates.documents[index] for index in needed.tolist()]
    encoding = TextEncoding(
        candidates.encoder, candidates.windows, [candidates.queries[index] for index in fresh], texts
    )
    yield from encoding.pieces(speed)
    candidates.encoded_queries.update(zip(fresh, encoding.queries, strict=True))
    documents = candidates.documents if isinstance(candidates.documents, EncodedDocuments) else encoding.documents()
    queries = tuple(encoded_query(candidates, index) for index in needed_queries.tolist())
    rows, cuts = _rows(candidates.encoder, queries, query_of, text_of, documents, candidates.windows)
    return EncodedCandidates(
        rows,
        cuts,
        candidates.windows,
        [candidates.keys[index] for index in indices.tolist()] if candidates.keys else [],
        candidates.cache,
        any(query.truncated for query in queries),
        encoding.seconds,
    )


def encoded_query(candidates: Candidates, index: int) -> EncodedQuery:
    """A query of candidates, encoded at the first time it is needed."""
    encoded = candidates.encoded_queries.get(index)
    if encoded is None:
        encoded = candidates.encoded_queries[index] = candidates.encoder.encode_query(candidates.queries[index])
    return encoded


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
