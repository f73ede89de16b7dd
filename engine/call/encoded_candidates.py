"""From candidates to the rows that have to be scored, and from their logits back to the caller's pairs.

Equal pairs are scored once; what the score cache knows is not scored at all; a long document becomes several rows where
windows are read. Who scores the rows, and in how many runs, does not matter here.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from crossrank.engine.call.results import DocumentWindow
from crossrank.engine.call.score_cache import KnownScore
from crossrank.engine.call.text_encoding import TextEncoding, at_once
from crossrank.engine.schedule.encoding_pieces import EncodingSpeed
from crossrank.engine.text.encoding import EncodedDocuments, EncodedPairs
from crossrank.engine.text.windows import aggregate, cut

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy.typing as npt

    from crossrank.engine.call.candidates import Candidates
    from crossrank.engine.call.score_cache import ScoreCache
    from crossrank.engine.schedule.encoding_pieces import Pieces
    from crossrank.engine.schedule.request import FailedPair
    from crossrank.engine.text.encoding import EncodedQuery, PairEncoder
    from crossrank.engine.text.windows import WindowCuts, Windows


@dataclass(frozen=True)
class DocumentScores:
    """What scoring gave for each pair of a request.

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

    def check_any_run(self) -> None:
        """Refuse what holds no score because every run failed: that is no single document's fault.

        Raises:
            InferenceError: the first of the runs' errors.
        """
        if not self.scored.any() and len(self.failed) == len(self.scored):
            first = next(iter(self.failed.values()), None)
            if first is not None and all(pair.in_run for pair in self.failed.values()):
                raise first.error


@dataclass(frozen=True)
class EncodedCandidates:
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
        encode_seconds: what encoding took.
    """

    rows: EncodedPairs
    cuts: WindowCuts
    windows: Windows | None
    distinct_of: npt.NDArray[np.int64]
    known: Sequence[KnownScore | None]
    keys: Sequence[bytes]
    cache: ScoreCache | None
    queries_truncated: bool
    encode_seconds: float

    @property
    def anything_truncated(self) -> bool:
        """Whether a query or a part of a document is not read; known before anything is scored."""
        known = any(known.truncated for known in self.known if known is not None)
        return known or self.queries_truncated or bool(self.cuts.bounded.any())

    def resolve(
        self,
        row_logits: npt.NDArray[np.float32],
        scored_rows: npt.NDArray[np.bool_] | None = None,
        failed_rows: Mapping[int, FailedPair] | None = None,
    ) -> DocumentScores:
        """Scores of the caller's pairs from those of the rows; what is new and complete goes into the cache.

        Args:
            row_logits: float32 (rows,).
            scored_rows: which rows have their logit, bool (rows,), where not all have; None for all. A document counts
                as scored when all of its windows are.
            failed_rows: rows that can have none, by their indices. A document failed when one of its windows did.
        """
        complete = np.ones(len(self.cuts.bounded), dtype=np.bool_)
        if scored_rows is not None and not scored_rows.all():
            complete[self.cuts.document_of[~scored_rows]] = False
        document_logits, best = aggregate(row_logits, self.cuts, self.windows.aggregation if self.windows else "first")
        new = np.arange(len(document_logits))  # the distinct pairs that the rows are of
        logits, truncated, scored, windows = document_logits, self.cuts.bounded, complete, self._scored_windows(best)
        if len(new) < len(self.known):
            new = np.flatnonzero([known is None for known in self.known])
            logits, truncated, scored, windows = self._with_known(new, logits, scored, windows)
        if self.cache is not None:
            self.cache.store(
                (self.keys[index], KnownScore(float(logits[index]), bool(truncated[index]), windows[index]))
                for index in new[complete].tolist()
            )
        return DocumentScores(
            logits[self.distinct_of],
            scored[self.distinct_of],
            truncated[self.distinct_of],
            [windows[index] for index in self.distinct_of.tolist()],
            self.queries_truncated,
            self._failed_pairs(new, failed_rows) if failed_rows else {},
        )

    def _with_known(
        self,
        new: npt.NDArray[np.int64],
        new_logits: npt.NDArray[np.float32],
        new_scored: npt.NDArray[np.bool_],
        new_windows: Sequence[DocumentWindow | None],
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_], npt.NDArray[np.bool_], list[DocumentWindow | None]]:
        """Logits, what was truncated, what is scored, and windows of all distinct pairs; `new` are those not known."""
        logits = np.asarray([0.0 if known is None else known.logit for known in self.known], dtype=np.float32)
        truncated = np.asarray([known is not None and known.truncated for known in self.known], dtype=np.bool_)
        scored = np.ones(len(self.known), dtype=np.bool_)
        windows = [None if known is None else known.window for known in self.known]
        logits[new], truncated[new], scored[new] = new_logits, self.cuts.bounded, new_scored
        for index, window in zip(new.tolist(), new_windows, strict=True):
            windows[index] = window
        return logits, truncated, scored, windows

    def _failed_pairs(self, new: npt.NDArray[np.int64], failed_rows: Mapping[int, FailedPair]) -> dict[int, FailedPair]:
        """The caller's pairs that failed; `new` are the distinct pairs that the rows are of."""
        document_of = self.cuts.document_of
        distinct = {int(new[document_of[row]]): failure for row, failure in failed_rows.items()}
        return {index: distinct[pair] for index, pair in enumerate(self.distinct_of.tolist()) if pair in distinct}

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


def known_scores(candidates: Candidates) -> DocumentScores | None:
    """The scores of candidates that the cache knows all of, without a request; None where one is unknown."""
    known = [score for score in candidates.known if score is not None]
    if len(known) < len(candidates) or not known:
        return None
    chosen = [known[index] for index in candidates.distinct_of.tolist()]
    count = len(chosen)
    return DocumentScores(
        np.fromiter((score.logit for score in chosen), dtype=np.float32, count=count),
        np.ones(count, dtype=np.bool_),
        np.fromiter((score.truncated for score in chosen), dtype=np.bool_, count=count),
        [score.window for score in chosen],
        any(_encoded_query(candidates, index).truncated for index in set(candidates.query_of.tolist())),
    )


def encode_candidates(candidates: Candidates) -> EncodedCandidates:
    """Encode the candidates that have to be scored and cut their documents, without waiting for turns."""
    return at_once(candidate_pieces(candidates, EncodingSpeed()))


def candidate_pieces(candidates: Candidates, speed: EncodingSpeed) -> Pieces[EncodedCandidates]:
    """Encode the candidates that have to be scored piece by piece, and cut their documents; from any thread.

    Args:
        candidates: of a call, or of a part of one.
        speed: predicts how long texts take.
    """
    unknown = candidates.unknown
    query_of, text_of = candidates.query_of[unknown], candidates.text_of[unknown]
    # Those of known pairs too: whether a query was cut is said, whoever scored the pair.
    needed_queries, query_of = _places(candidates.query_of, query_of)
    fresh = [index for index in needed_queries if index not in candidates.encoded_queries]
    texts: list[str] = []
    if not isinstance(candidates.documents, EncodedDocuments):
        needed, text_of = _places(text_of, text_of)
        texts = [candidates.documents[index] for index in needed]
    encoding = TextEncoding(
        candidates.encoder, candidates.windows, [candidates.queries[index] for index in fresh], texts
    )
    yield from encoding.pieces(speed)
    candidates.encoded_queries.update(zip(fresh, encoding.queries, strict=True))
    documents = candidates.documents if isinstance(candidates.documents, EncodedDocuments) else encoding.documents()
    queries = tuple(_encoded_query(candidates, index) for index in needed_queries)
    rows, cuts = _rows(candidates.encoder, queries, query_of, text_of, documents, candidates.windows)
    return EncodedCandidates(
        rows,
        cuts,
        candidates.windows,
        candidates.distinct_of,
        candidates.known,
        candidates.keys,
        candidates.cache,
        any(query.truncated for query in queries),
        encoding.seconds,
    )


def _places(numbers: npt.NDArray[np.int64], some: npt.NDArray[np.int64]) -> tuple[list[int], npt.NDArray[np.int64]]:
    """The different numbers in order, and for each of some of them which it is."""
    different = sorted(set(numbers.tolist()))
    if len(different) == 1:
        return different, np.zeros(len(some), dtype=np.int64)
    if different[-1:] == [len(different) - 1]:  # all from 0 on: the usual case
        return different, some
    return different, np.searchsorted(np.asarray(different, dtype=np.int64), some)


def _encoded_query(candidates: Candidates, index: int) -> EncodedQuery:
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
    if windows is None:  # a row is a pair
        lengths = encoder.template.special_tokens + query_lengths + cuts.sizes
        return EncodedPairs(queries, query_of, documents, documents.offsets[text_of], lengths, cuts.bounded), cuts
    pair_of = cuts.document_of
    lengths = encoder.template.special_tokens + query_lengths[pair_of] + cuts.sizes
    begins = documents.offsets[text_of][pair_of] + cuts.starts
    return EncodedPairs(queries, query_of[pair_of], documents, begins, lengths, cuts.bounded[pair_of]), cuts
