"""Stages of a cascade, and their results."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from crossrank.engine.argument_checks import whole_number
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
        model: as `Reranker` takes it, or a reranker, which the caller has to close.
        keep: how many of the best documents go on to the next stage; None for the last stage.
        max_length: tokens of a pair, special tokens included. The stage then reads only the beginning of each
            document, even if the reranker reads windows. None reads as the reranker does.
    """

    model: str | Path | ArtifactReranker = "default"
    keep: int | None = None
    max_length: int | None = None

    def __post_init__(self) -> None:
        """Check the numbers.

        Raises:
            InvalidInputError: `keep` or `max_length` is not a whole number of at least 1.
        """
        for name in ("keep", "max_length"):
            value = getattr(self, name)
            if value is not None:
                object.__setattr__(self, name, whole_number(name, value, 1, of=" of a stage"))


@dataclass(frozen=True, slots=True)
class StageRun:
    """What one stage did in a call.

    Attributes:
        model: name of the stage's model.
        max_length: tokens of a pair at most.
        scored: documents it scored; 0 if it was skipped because it would have dropped no document.
        seconds: time it took; encoding the documents counts for the first stage that needs it.
    """

    model: str
    max_length: int
    scored: int
    seconds: float


@dataclass(frozen=True, slots=True, repr=False)
class CascadeResult(RankResult):
    """A ranking by a cascade. Scores of different stages are not comparable: a later stage's documents come first.

    `tokens` are those of all stages together.

    Attributes:
        stages: what each stage did.
    """

    stages: tuple[StageRun, ...] = ()


def checked_stages(stages: Sequence[Stage]) -> tuple[Stage, ...]:
    """Check that stages make a cascade: all but the last have a `keep`.

    Raises:
        InvalidInputError: there are no stages, a stage before the last has no `keep`, or the last stage has one.
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
