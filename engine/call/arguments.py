"""What a caller asks for: who it is, and its checked arguments."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, NamedTuple

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop
    from collections.abc import Sequence

    import numpy as np
    import numpy.typing as npt

    from crossrank.engine.call.candidates import Candidates
    from crossrank.engine.call.model import ScoringModel
    from crossrank.engine.schedule.time_limit import TimeLimit
    from crossrank.engine.text.documents import Document

_RANKING_SECONDS = 3e-6
"""To put one document into a ranking, scored or not: 3.1 ms for 1000 of them were measured."""


class Caller(NamedTuple):
    """Who waits for an answer.

    Attributes:
        model: that is asked.
        limit: how long the call may take.
        loop: the event loop that waits; None for a thread.
    """

    model: ScoringModel
    limit: TimeLimit
    loop: AbstractEventLoop | None = None


@dataclass(frozen=True)
class Arguments:
    """The checked arguments of a call that asks for scores.

    Attributes:
        candidates: the distinct ones among the caller's n pairs.
        order: the caller's pairs, most promising first, int64 (n,).
        needs_all: whether the rest is worth nothing once a pair could not be scored in time.
    """

    candidates: Candidates
    order: npt.NDArray[np.int64]
    needs_all: ClassVar[bool] = True

    @property
    def seconds_after(self) -> float:
        """What is left to do when all is scored."""
        return 0.0


@dataclass(frozen=True)
class RankArguments(Arguments):
    """The checked arguments of a call that asks for a ranking.

    Attributes:
        items: the caller's documents.
        top_k: how many to return at most.
        return_documents: whether the results carry the caller's documents.
    """

    items: Sequence[Document]
    top_k: int
    return_documents: bool
    needs_all: ClassVar[bool] = False

    @property
    def seconds_after(self) -> float:
        """The ranking has to be made in time as well."""
        return len(self.items) * _RANKING_SECONDS
