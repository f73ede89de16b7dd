"""What a cascade is tuned on, and what it has to keep."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

from crossrank.errors import InvalidInputError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

Measure = Literal["ndcg", "overlap"]
MAX_LENGTHS = (32, 48, 64, 96, 128)
KEEPS = (10, 20, 30, 50, 75, 100, 150, 200, 250, 300, 400, 500, 600, 700, 800)


@dataclass(frozen=True, kw_only=True)
class TuningPlan:
    """What to tune on.

    Attributes:
        model: of the last stage, as `crossrank.Reranker` takes it: the full model.
        early_model: of the stages before; None takes the full model on fewer tokens.
        collections: BEIR folders.
        queries: of each collection, evenly spread; None takes all.
        candidates: of each query.
        share: of the full model's quality to keep, in every collection.
        measure: of quality. 'ndcg' is nDCG@10 and needs judgements; 'overlap' is the share of the full model's first
            ten documents that are among the cascade's first ten. A collection without judgements uses the overlap.
        least_overlap: overlap to keep whatever the measure: over a few dozen queries, a cascade that keeps ten
            documents of a thousand can reach the full model's nDCG by chance.
        max_lengths: lengths of the stages before the last.
        stages: largest number of stages of a cascade, 2 or 3.
        threads: of the reranker.
        scores: folder that keeps scores for later runs; None keeps none.
        confirm: queries of each collection on which the chosen cascade is run, in turn with the full model.
    """

    model: str = "default"
    early_model: str | None = None
    collections: Sequence[Path]
    queries: int | None = 20
    candidates: int = 1000
    share: float = 0.98
    measure: Measure = "ndcg"
    least_overlap: float = 0.5
    max_lengths: Sequence[int] = MAX_LENGTHS
    stages: int = 2
    threads: int | None = None
    scores: Path | None = None
    confirm: int = 2

    @property
    def keeps(self) -> list[int]:
        """Numbers of documents that a stage may keep."""
        return [keep for keep in KEEPS if keep < self.candidates]

    def __post_init__(self) -> None:
        """Check the values.

        Raises:
            InvalidInputError: a value is outside its range.
        """
        if not self.collections:
            raise InvalidInputError("no collection given: one BEIR folder or more expected")
        if not 0 < self.share <= 1:
            raise InvalidInputError(f"share={self.share}: above 0 and at most 1 expected")
        if not 0 <= self.least_overlap <= 1:
            raise InvalidInputError(f"least_overlap={self.least_overlap}: from 0 to 1 expected")
        if self.measure not in get_args(Measure):
            raise InvalidInputError(f"measure={self.measure!r}: one of {', '.join(get_args(Measure))} expected")
        if self.stages not in {2, 3}:
            raise InvalidInputError(f"stages={self.stages}: 2 or 3 expected")
        if self.candidates <= min(KEEPS) or not self.max_lengths:
            raise InvalidInputError(
                f"candidates={self.candidates}, max_lengths={tuple(self.max_lengths)}: more than {min(KEEPS)} "
                "candidates and at least one length expected"
            )
