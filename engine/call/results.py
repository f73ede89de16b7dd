"""What a reranker returns besides plain arrays of scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, TypeAlias, overload

from crossrank.engine.call.ranking_views import SHOWN_ROWS, html_table, short_repr, shown_score, shown_text
from crossrank.errors import MissingDependencyError

if TYPE_CHECKING:
    import pandas as pd

    from crossrank.engine.text.documents import Document
    from crossrank.engine.text.windows import LongDocuments
    from crossrank.models.manifest import Activation, Batching, Precision, Provider

UnscoredBecause: TypeAlias = Literal["deadline", "pending", "failed"]
"""Why a document has no score: time ran out, `iter_rank` has not come to it yet, or it cannot be scored because the
model gives no number for it or its run fails."""


@dataclass(frozen=True, slots=True)
class DocumentWindow:
    """The part of a document that fits its query best: `text[start:end]` of the document's text.

    Attributes:
        index: which of the document's windows it is, from 0.
        count: how many windows of the document were scored.
        start: its first character.
        end: the character after its last.
    """

    index: int
    count: int
    start: int
    end: int


_IN_REPR = 3
"""Documents that the `repr` of a ranking names."""


@dataclass(frozen=True, slots=True, repr=False)
class RankedDocument:
    """One document of a ranking.

    Attributes:
        index: its place in the caller's list.
        score: its score; larger is more relevant. None where it was not scored.
        document: the caller's own object, or None where documents were not asked for.
        truncated: whether only its beginning was read, because it is longer than the model takes or than
            `shortened` leaves of it, or has more windows than are read of a document.
        window: its best window; None where windows are not read.
        stage: number of the cascade's stage that gave the score, or could give none, from 0; None where no cascade
            ranked.
        unscored_because: why it has no score; None where it has one.
    """

    index: int
    score: float | None
    document: Document | None
    truncated: bool
    window: DocumentWindow | None = None
    stage: int | None = None
    unscored_because: UnscoredBecause | None = None

    def __repr__(self) -> str:
        """One line: where it stands in the caller's list, its score and the beginning of the document."""
        extra = {"window": self.window, "stage": self.stage, "unscored_because": self.unscored_because}
        parts = (f", {name}={value!r}" for name, value in extra.items() if value is not None)
        return (
            f"RankedDocument(index={self.index}, score={self.score}, document={short_repr(self.document)}, "
            f"truncated={self.truncated}{''.join(parts)})"
        )


@dataclass(frozen=True, slots=True, repr=False)
class RankResult(Sequence[RankedDocument]):
    """A ranking: a sequence of documents, best first.

    Documents that were not scored follow those that were, in first-stage order.

    Attributes:
        documents: the ranked documents, at most top_k.
        scored: how many documents were scored.
        truncated_documents: how many of those were cut to the model's length.
        query_truncated: whether the query left no room for documents and was cut.
        unscored: places in the caller's list of documents that were not scored, most promising first.
        unscored_because: 'deadline' where time ran out; 'pending' in a ranking that `iter_rank` will still improve;
            'failed' where only such documents are unscored that cannot be scored; None where all were scored.
        failures: of those that cannot be scored, by their places in the caller's list, the reason in words.
        tokens: that the model read of the scored pairs, query and special tokens included; none of those whose scores
            the cache knew.
    """

    documents: tuple[RankedDocument, ...]
    scored: int
    truncated_documents: int
    query_truncated: bool
    unscored: tuple[int, ...] = ()
    unscored_because: UnscoredBecause | None = None
    failures: Mapping[int, str] = field(default_factory=dict, hash=False)
    tokens: int = field(default=0, compare=False)

    def __len__(self) -> int:
        """Number of ranked documents."""
        return len(self.documents)

    @overload
    def __getitem__(self, index: int) -> RankedDocument: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[RankedDocument]: ...
    def __getitem__(self, index: int | slice) -> RankedDocument | Sequence[RankedDocument]:
        """The document at a place, best first; a slice gives a tuple."""
        return self.documents[index]

    def __repr__(self) -> str:
        """One line: how many there are, and index and score of the first few."""
        first = [f"[{item.index}] {shown_score(item.score)}" for item in self.documents[:_IN_REPR]]
        more = ["..."] if len(self) > _IN_REPR else []
        return f"<{type(self).__name__}: {self._counts()}{': ' * bool(first)}{', '.join(first + more)}>"

    def _counts(self) -> str:
        unscored = f", {len(self.unscored)} unscored ({self.unscored_because})" if self.unscored else ""
        return f"{len(self)} of {self.scored + len(self.unscored)} documents{unscored}"

    def _repr_html_(self) -> str:
        """The table that a notebook shows: the first documents with their beginnings, or with their best windows."""
        staged = any(item.stage is not None for item in self.documents)
        rows = []
        for rank, item in enumerate(self.documents[:SHOWN_ROWS], start=1):
            score = item.unscored_because if item.score is None else shown_score(item.score)
            part = None if item.window is None else (item.window.start, item.window.end)
            text = "" if item.document is None else shown_text(item.document, part)
            stage = [str(item.stage)] if staged else []
            rows.append([str(rank), str(item.index), *stage, score or "", text])
        more = f", {len(self) - SHOWN_ROWS} more not shown" if len(self) > SHOWN_ROWS else ""
        columns = ["rank", "index", *(["stage"] if staged else []), "score", "document"]
        return html_table(columns, rows, self._counts() + more)

    def to_pandas(self) -> pd.DataFrame:
        """The ranking as a pandas table, a row a document, best first.

        The columns are the same for every ranking: `rank` from 1; `index` (of the caller's list, so that
        `frame.iloc[ranking.to_pandas()["index"]]` has the caller's rows in this order); `score`, NaN where there is
        none; `truncated`; `document`, the caller's own objects; `window_start` and `window_end`, where windows are
        read; `stage` of a cascade, from 0; `unscored_because`.

        Raises:
            MissingDependencyError: pandas is not installed.
        """
        try:
            import pandas as pd
        except ImportError as error:
            raise MissingDependencyError(f"to_pandas needs pandas; pip install pandas ({error})") from error
        items = self.documents
        windows = [item.window for item in items]
        return pd.DataFrame(
            {
                "rank": pd.Series(range(1, len(items) + 1), dtype="int64"),
                "index": pd.Series([item.index for item in items], dtype="int64"),
                "score": pd.Series([item.score for item in items], dtype="float64"),
                "truncated": pd.Series([item.truncated for item in items], dtype="bool"),
                "document": pd.Series([item.document for item in items], dtype="object"),
                "window_start": pd.Series([window and window.start for window in windows], dtype="Int64"),
                "window_end": pd.Series([window and window.end for window in windows], dtype="Int64"),
                "stage": pd.Series([item.stage for item in items], dtype="Int64"),
                "unscored_because": pd.Series([item.unscored_because for item in items], dtype="object"),
            }
        )


@dataclass(frozen=True, slots=True)
class ScoreCacheInfo:
    """State of a score cache.

    Attributes:
        hits: pairs found so far; equal pairs of one call count once.
        misses: pairs not found so far.
        entries: pairs held.
        size: bytes they take, estimated from the number of entries.
        max_size: what `size` never exceeds.
    """

    hits: int
    misses: int
    entries: int
    size: int
    max_size: int


@dataclass(frozen=True, slots=True)
class RerankerInfo:
    """What runs.

    Attributes:
        model: the artifact's name.
        artifact: its folder.
        precision: precision of the graph that runs.
        provider: execution provider that runs it.
        provider_reason: why that provider.
        threads: processor threads for scoring.
        max_length: tokens of a pair at most; longer documents are cut.
        max_query_tokens: tokens of a query at most; a longer one is cut to `cut_query_tokens`.
        cut_query_tokens: what a query is cut to when it is longer than that.
        activation: what turns logits into scores.
        batching: which pairs share a run: any ('padded'; 'packed' where that costs no padding), those of one length
            ('equal_length') or none ('single').
        max_batch_tokens: padded tokens of a run at most.
        graph_sha256: digest of the graph.
        onnxruntime_version: version of the runtime.
        long_documents: how documents that are too long are read: 'truncate', or the windows.
        score_cache: state of the score cache; None where there is none.
        devices: numbers of the GPUs; none on the CPU.
        cuda_graphs: how many shapes each GPU has captured so far, or why none; None on the CPU.
        instruction: what documents are judged by where a call does not say; None where nothing is said.
    """

    model: str
    artifact: str
    precision: Precision
    provider: Provider
    provider_reason: str
    threads: int
    max_length: int
    max_query_tokens: int
    cut_query_tokens: int
    activation: Activation
    batching: Batching
    max_batch_tokens: int
    graph_sha256: str
    onnxruntime_version: str
    long_documents: LongDocuments = "truncate"
    score_cache: ScoreCacheInfo | None = None
    devices: tuple[int, ...] = ()
    cuda_graphs: str | None = None
    instruction: str | None = None
