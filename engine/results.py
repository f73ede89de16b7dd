"""What a reranker returns besides plain arrays of scores."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, overload

if TYPE_CHECKING:
    from crossrank.engine.documents import Document
    from crossrank.models.manifest import Activation, Precision, Provider


@dataclass(frozen=True, slots=True)
class RankedDocument:
    """One document of a ranking.

    Attributes:
        index: its place in the caller's list.
        score: its score; larger is more relevant. None where a deadline left it unscored.
        document: the caller's own object, or None where documents were not asked for.
        truncated: whether only its beginning was read, because it is longer than the model takes.
    """

    index: int
    score: float | None
    document: Document | None
    truncated: bool


@dataclass(frozen=True, slots=True)
class RankResult(Sequence[RankedDocument]):
    """A ranking: a sequence of documents, best first.

    Documents that were not scored follow those that were, in the order of their promise before.

    Attributes:
        documents: the ranked documents, at most top_k.
        scored: how many documents were scored.
        truncated_documents: how many of those were cut to the model's length.
        query_truncated: whether the query left no room for documents and was cut.
        unscored: places in the caller's list of documents that were not scored, most promising first.
        unscored_because: 'deadline' where time ran out; 'pending' in a ranking that `iter_rank` will still improve;
            None where all were scored.
    """

    documents: tuple[RankedDocument, ...]
    scored: int
    truncated_documents: int
    query_truncated: bool
    unscored: tuple[int, ...] = ()
    unscored_because: Literal["deadline", "pending"] | None = None

    def __len__(self) -> int:
        """Number of ranked documents."""
        return len(self.documents)

    @overload
    def __getitem__(self, place: int) -> RankedDocument: ...
    @overload
    def __getitem__(self, place: slice) -> Sequence[RankedDocument]: ...
    def __getitem__(self, place: int | slice) -> RankedDocument | Sequence[RankedDocument]:
        """The document at a place, best first; a slice gives a tuple."""
        return self.documents[place]


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
        batching: which pairs share a run: any ('padded'), those of one length ('equal_length') or none ('single').
        max_batch_tokens: padded tokens of a run at most.
        graph_sha256: digest of the graph.
        onnxruntime_version: version of the runtime.
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
    batching: str
    max_batch_tokens: int
    graph_sha256: str
    onnxruntime_version: str
