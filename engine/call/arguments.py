"""What a caller asks for: who it is, its checked arguments, and what it calls them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop
    from collections.abc import Callable, Sequence

    import numpy as np
    import numpy.typing as npt

    from crossrank.engine.call.candidates import Candidates
    from crossrank.engine.call.model import ScoringModel
    from crossrank.engine.schedule.scheduler import Scheduler
    from crossrank.engine.schedule.time_limit import TimeLimit
    from crossrank.engine.text.documents import Document

_NAMED_PAIRS = 10
"""Pairs without a score that an error names after the first."""


class Caller(NamedTuple):
    """Who waits for an answer.

    Attributes:
        model: that is asked.
        scheduler: of the model, in this process.
        limit: how long the call may take.
        loop: the event loop that waits; None for a thread.
    """

    model: ScoringModel
    scheduler: Scheduler
    limit: TimeLimit
    loop: AbstractEventLoop | None = None


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """The checked arguments of a call.

    Attributes:
        candidates: the distinct ones among the caller's n pairs.
        order: the caller's pairs, most promising first, int64 (n,).
        needs_all: whether the rest is worth nothing once a pair could not be scored in time.
        seconds_after: what is left to do when all is scored.
    """

    candidates: Candidates
    order: npt.NDArray[np.int64]
    needs_all: bool = True
    seconds_after: float = 0.0


@dataclass(frozen=True, kw_only=True)
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
    needs_all: bool = False


def name_in(argument: str) -> Callable[[int], str]:
    """How a caller calls the items of an argument of its call."""
    return lambda index: f"{argument}[{index}]"


def listed(indices: Sequence[int], name: Callable[[int], str]) -> str:
    """What a caller calls some items of its call; of many the first, and how many more there are."""
    more = f" and {len(indices) - _NAMED_PAIRS} more" if len(indices) > _NAMED_PAIRS else ""
    return ", ".join(map(name, indices[:_NAMED_PAIRS])) + more
