"""What a bulk run tells while it works, and at its end."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

Step: TypeAlias = Literal["checking", "scoring", "writing"]


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a step has come.

    Attributes:
        step: 'checking' reads all rows once, 'scoring' scores them, 'writing' writes the output.
        done: rows, those of earlier processes included.
        total: rows; None while they are counted.
    """

    step: Step
    done: int
    total: int | None


@dataclass(frozen=True, slots=True)
class Summary:
    """What was done.

    Attributes:
        out: the output.
        rows: of the output.
        unscored: rows among them without a score.
        truncated: pairs among them of which the model did not read all, because they are longer than it takes.
        tokens: that the model read of all pairs; equal pairs of a block count each.
        resumed: rows whose scores an earlier process had left.
        finished_before: whether the output was there already, of this very job, and nothing was left to do.
        seconds: scoring took, in this process.
    """

    out: str
    rows: int
    unscored: int
    truncated: int
    tokens: int
    resumed: int
    finished_before: bool
    seconds: float
