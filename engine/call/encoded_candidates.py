"""From candidates to the rows that have to be scored, and from their logits back to the candidates.

Texts are encoded piece by piece, and give the same tokens as at once. A long document becomes several rows where
windows are read. Who scores the rows, and in how many runs, does not matter here.
"""

from __future__ import annotations

import dataclasses
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from crossrank.engine.call.candidates import kept_tokens
from crossrank.engine.call.results import DocumentWindow
from crossrank.engine.call.score_cache import KnownScore
from crossrank.engine.text.encoded import EncodedDocuments, EncodedPairs
from crossrank.engine.text.longest_first import cut_longer_queries
from crossrank.engine.text.prepared import PreparedDocuments
from crossrank.engine.text.windows import aggregate, cut

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping, Sequence

    import numpy.typing as npt

    from crossrank.engine.call.candidates import CandidateFinder, Candidates
    from crossrank.engine.call.score_cache import ScoreCache
    from crossrank.engine.schedule.encoding_pieces import EncodingSpeed, Piece, Pieces
    from crossrank.engine.schedule.request import FailedPair
    from crossrank.engine.text.documents import Document
    from crossrank.engine.text.encoded import EncodedQuery
    from crossrank.engine.text.encoding import PairEncoder
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
        tokens: that the model read of each pair, its special tokens included, int64 (n,); 0 where its score was known,
            or where it has none.
        failed: those that have no score whatever time they are given, by their indices.
    """

    logits: npt.NDArray[np.float32]
    scored: npt.NDArray[np.bool_]
    truncated: npt.NDArray[np.bool_]
    windows: Sequence[DocumentWindow | None]
    query_truncated: bool
    tokens: npt.NDArray[np.int64]
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
        truncated = self.cuts.bounded
        scored = np.ones(len(truncated), dtype=np.bool_)
        if not scored_rows.all():
            scored[self.cuts.document_of[~scored_rows]] = False
        logits, best = aggregate(row_logits, self.cuts, self.windows.aggregation if self.windows else "first")
        windows = self._scored_windows(best)
        if self.cache is not None:
            query_of = self.rows.query_of[self.cuts.first[:-1]].tolist()
            self.cache.store(
                (
                    self.keys[index],
                    KnownScore(
                        float(logits[index]),
                        bool(truncated[index]),
                        self.rows.queries[query_of[index]].truncated,
                        windows[index],
                    ),
                )
                for index in np.flatnonzero(scored).tolist()
            )
        failed: dict[int, FailedPair] = {}
        if failed_rows:
            document_of = self.cuts.document_of
            failed = {int(document_of[row]): failure for row, failure in failed_rows.items()}
        tokens = np.add.reduceat(self.rows.lengths, self.cuts.first[:-1])
        return DocumentScores(logits, scored, truncated, windows, self.queries_truncated, tokens, failed)

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


class TextEncoding:
    """Queries and documents of one call.

    Attributes:
        queries: those encoded so far.
        seconds: what the pieces took.
    """

    def __init__(
        self,
        encoder: PairEncoder,
        windows: Windows | None,
        queries: Sequence[str],
        texts: Sequence[str],
        instruction: str | None = None,
    ) -> None:
        """Encode nothing yet.

        Args:
            encoder: of the reranker.
            windows: how long documents are read; None for their beginning only.
            queries: to be encoded first.
            texts: documents to be encoded after them.
            instruction: what documents are judged by; None for the model's own, or for a model that takes none.
        """
        self.queries: list[EncodedQuery] = []
        self.seconds = 0.0
        self._encoder = encoder
        self._windows = windows
        self._kept_tokens = kept_tokens(encoder, windows)
        self._pending = queries
        self._instruction = instruction
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
                self.queries.append(self._encoder.encode_query(query, self._instruction))
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


def candidate_pieces(
    candidates: Candidates, indices: npt.NDArray[np.int64], speed: EncodingSpeed
) -> Pieces[EncodedCandidates]:
    """Encode candidates piece by piece, and cut their documents; from any thread.

    Args:
        candidates: of a call.
        indices: which of them, int64 (c,).
        speed: predicts how long texts take.
    """
    needed_queries, query_of = _places(candidates.query_of[indices])
    text_of = candidates.text_of[indices]
    fresh = [index for index in needed_queries if index not in candidates.encoded_queries]
    texts: list[str] = []
    if not isinstance(candidates.documents, EncodedDocuments):
        needed, text_of = _places(text_of)
        texts = [candidates.documents[index] for index in needed]
    queries_left = [candidates.queries[index] for index in fresh]
    encoding = TextEncoding(candidates.encoder, candidates.windows, queries_left, texts, candidates.instruction)
    yield from encoding.pieces(speed)
    candidates.encoded_queries.update(zip(fresh, encoding.queries, strict=True))
    documents = candidates.documents if isinstance(candidates.documents, EncodedDocuments) else encoding.documents()
    queries = tuple(candidates.encoded_queries[index] for index in needed_queries)
    if candidates.encoder.longest_first:
        query_texts = [candidates.queries[index] for index in needed_queries]
        queries, query_of = cut_longer_queries(
            candidates.encoder, queries, query_texts, query_of, documents, texts, text_of
        )
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


def _places(numbers: npt.NDArray[np.int64]) -> tuple[list[int], npt.NDArray[np.int64]]:
    """The different numbers in order, and for each number which of them it is."""
    different = sorted(set(numbers.tolist()))
    if len(different) == 1:
        return different, np.zeros(len(numbers), dtype=np.int64)
    if different[-1:] == [len(different) - 1]:  # all from 0 on: the usual case
        return different, numbers
    return different, np.searchsorted(np.asarray(different, dtype=np.int64), numbers)


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
    documents.check_kept(text_of[cuts.document_of], cuts.starts + cuts.sizes)
    if documents.shortened is not None:
        cuts = dataclasses.replace(cuts, bounded=cuts.bounded | documents.shortened[text_of])
    if windows is None:  # a row is a pair
        lengths = encoder.max_length - encoder.text_tokens + query_lengths + cuts.sizes
        return EncodedPairs(queries, query_of, documents, documents.offsets[text_of], lengths, cuts.bounded), cuts
    pair_of = cuts.document_of
    lengths = encoder.max_length - encoder.text_tokens + query_lengths[pair_of] + cuts.sizes
    begins = documents.offsets[text_of][pair_of] + cuts.starts
    return EncodedPairs(queries, query_of[pair_of], documents, begins, lengths, cuts.bounded[pair_of]), cuts


def prepared_pieces(
    finder: CandidateFinder, items: tuple[Document, ...], texts: Sequence[str], speed: EncodingSpeed
) -> Pieces[PreparedDocuments]:
    """Encode documents piece by piece, equal ones once."""
    distinct, text_of, digests = finder.distinct(texts)
    encoding = TextEncoding(finder.encoder, finder.windows, [], distinct)
    yield from encoding.pieces(speed)
    label = finder.encoder.document_label_tokens
    return PreparedDocuments(items, encoding.documents(), text_of, digests, finder.documents_key, label)
