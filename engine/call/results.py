"""What a reranker returns besides plain arrays of scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, TypeAlias, overload

if TYPE_CHECKING:
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


@dataclass(frozen=True, slots=True)
class RankedDocument:
    """One document of a ranking.

    Attributes:
        index: its place in the caller's list.
        score: its score; larger is more relevant. None where it was not scored.
        document: the caller's own object, or None where documents were not asked for.
        truncated: whether only its beginning was read, because it is longer than the model takes, or has more windows
            than are read of a document.
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


@dataclass(frozen=True, slots=True)
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
