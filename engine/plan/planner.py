"""Groups pairs into batches by their lengths, with the least predicted time.

Pairs are sorted by length and cut into contiguous groups, by dynamic programming over the predicted times: few padded
tokens where runs are cheap to start, larger batches where they are not. What a batch may hold and how long it takes is
its kind's to say (`batch_kinds.py`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from crossrank.engine.plan.batch_kinds import RunSize
from crossrank.engine.plan.makespan import makespan

if TYPE_CHECKING:
    import numpy.typing as npt

    from crossrank.engine.plan.batch_kinds import BatchKind, GroupTimes


@dataclass(frozen=True, slots=True, eq=False)
class Batch(RunSize):
    """Pairs that share a run.

    Attributes:
        indices: which pairs, int64 (rows,), longest first.
    """

    indices: npt.NDArray[np.int64]


def plan(lengths: npt.NDArray[np.int64], kind: BatchKind, workers: int) -> list[Batch]:
    """Group pairs into batches.

    Args:
        lengths: tokens of each pair, int64 (n,).
        kind: what a batch may hold, and its predicted time.
        workers: how many runs execute at once; batches are small enough to give every worker some.

    Returns:
        Batches in the order to start them, longest rows first; every pair that has a token is in exactly one.
    """
    order = np.argsort(-lengths, kind="stable")[: np.count_nonzero(lengths)]
    if not len(order):
        return []
    longest_first = lengths[order]
    return _batches(order, longest_first, _best_cuts(longest_first, kind, workers), kind)


def one_batch(indices: npt.NDArray[np.int64], lengths: npt.NDArray[np.int64], kind: BatchKind) -> Batch:
    """Pairs of which it is known that they may share a run, as a batch.

    Args:
        indices: which pairs, int64 (b,), longest first.
        lengths: their tokens, int64 (b,).
        kind: what a batch may hold.
    """
    (batch,) = _batches(indices, lengths, np.asarray([0, len(indices)]), kind)
    return batch


def _batches(
    order: npt.NDArray[np.int64],
    longest_first: npt.NDArray[np.int64],
    bounds: npt.NDArray[np.int64],
    kind: BatchKind,
) -> list[Batch]:
    columns = [column.tolist() for column in (bounds[:-1], bounds[1:], *kind.sizes(longest_first, bounds))]
    return [
        Batch(end - start, length, seconds, run_tokens, order[start:end])
        for start, end, length, seconds, run_tokens in zip(*columns, strict=True)
    ]


def _best_cuts(longest_first: npt.NDArray[np.int64], kind: BatchKind, workers: int) -> npt.NDArray[np.int64]:
    """Cut points of the grouping that is predicted to finish first, int64 (g + 1,) for g groups, from 0 to n."""
    if len(longest_first) == 1:
        return np.arange(2)
    times = kind.group_times(longest_first)
    cuts = [_least_total(times, most_rows) for most_rows in kind.row_limits(longest_first, workers)]
    if len(cuts) == 1:
        return cuts[0]
    return min(cuts, key=lambda bounds: makespan(kind.sizes(longest_first, bounds)[1].tolist(), workers))


def _least_total(times: GroupTimes, most_rows: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Cut points of the contiguous grouping with the least total time, by dynamic programming.

    Args:
        times: predicts groups.
        most_rows: for each pair, how many a group may hold that starts with it, int64 (n,).
    """
    count = len(most_rows)
    if most_rows.max() == 1:
        return np.arange(count + 1)
    best = np.full(count + 1, np.inf)
    best[0] = 0.0
    cut = np.zeros(count + 1, dtype=np.int64)
    best_of, cut_of = memoryview(best), memoryview(cut)  # type: ignore[arg-type]
    for start, most in enumerate(most_rows.tolist()):
        ends, seconds = times(start, min(most, count - start))
        if isinstance(ends, slice):
            total, known = best[start] + seconds, best[ends]
            cut[ends] = np.where(total < known, start, cut[ends])
            best[ends] = np.minimum(total, known)
            continue
        before = best_of[start]
        for end, time in zip(ends, seconds, strict=True):  # a few numbers take less time one by one
            if before + time < best_of[end]:
                best_of[end], cut_of[end] = before + time, start
    bounds = [count]
    while bounds[-1] > 0:
        bounds.append(int(cut[bounds[-1]]))
    return np.asarray(bounds[::-1])
