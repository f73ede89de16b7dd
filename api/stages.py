"""Stages of a cascade, and what they did."""

from __future__ import annotations

from dataclasses import dataclass
from numbers import Integral
from typing import TYPE_CHECKING

from crossrank.engine.call.results import RankResult
from crossrank.engine.text.documents import as_list
from crossrank.errors import InvalidInputError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from crossrank.engine.artifact_reranker import ArtifactReranker


@dataclass(frozen=True)
class Stage:
    """One stage of a cascade.

    Attributes:
        model: as `Reranker` takes it, or a reranker; it stays the caller's to close.
        keep: how many documents, the best, go on to the next stage; None for the last stage, which has no next.
        max_length: tokens of a pair, special tokens included. The stage then reads the beginning of each document only,
            also where the reranker reads windows. None reads as the reranker does.
    """

    model: str | Path | ArtifactReranker = "default"
    keep: int | None = None
    max_length: int | None = None

    def __post_init__(self) -> None:
        """Check the numbers.

        Raises:
            InvalidInputError: `keep` or `max_length` is no whole number of at least 1.
        """
        for name in ("keep", "max_length"):
            value = getattr(self, name)
            if value is None:
                continue
            if isinstance(value, bool) or not isinstance(value, Integral) or value < 1:
                raise InvalidInputError(f"{name}={value!r} of a stage: a whole number of at least 1 expected")
            object.__setattr__(self, name, int(value))


@dataclass(frozen=True, slots=True)
class StageRun:
    """What one stage did in a call.

    Attributes:
        model: name of its model.
        max_length: tokens of a pair it read at most.
        scored: documents it scored; 0 where it would have dropped none and was left out.
        seconds: what that took; the encoding of documents counts for the first stage that needs it.
    """

    model: str
    max_length: int
    scored: int
    seconds: float


@dataclass(frozen=True, slots=True)
class CascadeResult(RankResult):
    """A ranking by a cascade. Scores of different stages do not compare: a later stage's documents come first.

    Attributes:
        stages: what each stage did.
    """

    stages: tuple[StageRun, ...] = ()


def checked_stages(stages: Sequence[Stage]) -> tuple[Stage, ...]:
    """Stages that make a cascade: all but the last keep some documents.

    Raises:
        InvalidInputError: the list is empty, a stage before the last has no `keep`, or the last has one.
    """
    stages = tuple(as_list(stages, "stages", "Stage(...)"))
    if not stages or not all(isinstance(stage, Stage) for stage in stages):
        raise InvalidInputError(f"stages={stages!r:.200}: one Stage(...) or more expected")
    for number, stage in enumerate(stages[:-1], start=1):
        if stage.keep is None:
            raise InvalidInputError(f"stage {number} of {len(stages)} has no keep: how many go on to the next expected")
    if stages[-1].keep is not None:
        raise InvalidInputError(
            f"keep={stages[-1].keep} of the last stage: None expected, no stage comes after it; top_k bounds the result"
        )
    return stages
