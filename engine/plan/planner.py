"""Groups pairs into batches by their lengths, with the least predicted time.

Pairs are sorted by length and cut into contiguous groups. Where pairs of several lengths may share a run, the cuts come
from dynamic programming over the cost model, which finds the contiguous grouping with the least predicted time: few
padded tokens where runs are cheap to start, larger batches where they are not. A token budget bounds every group.
Where runs are padded to a grid of shapes, the times of those shapes are compared (`grid_planner.py`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from crossrank.engine.plan.grid_planner import best_grid_cuts
from crossrank.engine.plan.makespan import makespan
from crossrank.models.manifest import PACKED_ROWS

if TYPE_CHECKING:
    import numpy.typing as npt

    from crossrank.engine.plan.cost import CostModel
    from crossrank.engine.plan.shape_grid import ShapeGrid
    from crossrank.models.manifest import Batching

_GROUPS_PER_WORKER = (4, 2, 1)
"""How many groups a worker gets at least, to be compared: with more groups the workers finish closer together."""


@dataclass(frozen=True)
class Batch:
    """Pairs that share a run.

    Attributes:
        indices: which pairs, int64 (b,), longest first.
        length: padded tokens of each row; with a grid, one of the grid's lengths.
        seconds: predicted time of the run.
        run_tokens: tokens that the layers compute, padding included; a packed graph has no padding.
    """

    indices: npt.NDArray[np.int64]
    length: int
    seconds: float
    run_tokens: int


def plan(
    lengths: npt.NDArray[np.int64],
    *,
    batching: Batching,
    cost: CostModel,
    max_batch_tokens: int,
    workers: int,
    grid: ShapeGrid | None = None,
) -> list[Batch]:
    """Group pairs into batches.

    Args:
        lengths: tokens of each pair, int64 (n,).
        batching: what the graph allows; 'single' is one pair a run, 'equal_length' pairs of the same length, 'padded'
            any pairs, 'packed' up to `PACKED_ROWS` pairs of any lengths without padding, and more of one length.
        cost: predicts the time of a run.
        max_batch_tokens: tokens of a batch at most, padding included; a longer pair gets a batch to itself.
        workers: how many runs execute at once; batches are small enough to give every worker some.
        grid: the shapes that runs are padded to; None where a run has the shape of its pairs.

    Returns:
        Batches in the order to start them, longest rows first; every pair is in exactly one.
    """
    if len(lengths) == 0:
        return []
    if len(lengths) == 1 and grid is None:
        length = int(lengths[0])
        return [Batch(np.zeros(1, dtype=np.int64), length, float(cost.seconds(1, length)), length)]
    order = np.argsort(-lengths, kind="stable")
    longest_first = lengths[order]
    if batching == "single":
        bounds = np.arange(len(lengths) + 1)
    elif grid is not None:
        bounds = best_grid_cuts(longest_first, cost, grid, workers)
    else:
        bounds = _best_cuts(longest_first, cost, max_batch_tokens, workers, batching)
    starts, ends = bounds[:-1], bounds[1:]
    rows, longest = ends - starts, longest_first[starts]
    if grid is not None:
        rows, longest = np.asarray(
            [grid.padded(*shape) for shape in zip(rows.tolist(), longest.tolist(), strict=True)]
        ).T
        seconds = cost.seconds(rows, longest)
    else:
        seconds = _group_seconds(longest_first, cost, bounds, batching)
    tokens = np.add.reduceat(longest_first, starts) if batching == "packed" else rows * longest
    columns = (column.tolist() for column in (starts, ends, longest, seconds, tokens))
    return [
        Batch(order[start:end], length, time, run_tokens)
        for start, end, length, time, run_tokens in zip(*columns, strict=True)
    ]


def _best_cuts(
    longest_first: npt.NDArray[np.int64], cost: CostModel, max_batch_tokens: int, workers: int, batching: Batching
) -> npt.NDArray[np.int64]:
    """Cut points of the contiguous grouping that is predicted to finish first.

    For one worker that is the grouping with the least total time. For several workers, large groups save fixed costs
    and small groups let the workers finish together, so the best groupings for a few group sizes are compared.
    """
    most_rows = _most_rows(longest_first, max_batch_tokens, batching)
    if workers == 1:
        return _least_total(longest_first, cost, most_rows, batching)
    alone = cost.seconds(1, longest_first)
    best, least = np.arange(len(longest_first) + 1), np.inf
    for groups in _GROUPS_PER_WORKER:
        share = float(alone.sum()) / (workers * groups)
        within_share = np.maximum(1, ((share - cost.run) / (alone - cost.run)).astype(np.int64))
        bounds = _least_total(longest_first, cost, np.minimum(most_rows, within_share), batching)
        finish = makespan(_group_seconds(longest_first, cost, bounds, batching).tolist(), workers)
        if finish < least:
            best, least = bounds, finish
        if np.all(most_rows <= within_share):  # a larger share changes nothing
            break
    return best


def _most_rows(
    longest_first: npt.NDArray[np.int64], max_batch_tokens: int, batching: Batching
) -> npt.NDArray[np.int64]:
    """For each pair, how many pairs a group may hold that starts with it."""
    within_budget = np.maximum(1, max_batch_tokens // longest_first)
    if batching == "padded":
        return within_budget
    most_rows = np.searchsorted(-longest_first, -longest_first, side="right") - np.arange(len(longest_first))
    if batching == "packed":
        most_rows = np.maximum(most_rows, PACKED_ROWS)
    return np.asarray(np.minimum(within_budget, most_rows))


def _least_total(
    longest_first: npt.NDArray[np.int64], cost: CostModel, most_rows: npt.NDArray[np.int64], batching: Batching
) -> npt.NDArray[np.int64]:
    """Cut points of the contiguous grouping with the least total time, by dynamic programming."""
    count = len(longest_first)
    if most_rows.max() == 1:
        return np.arange(count + 1)
    rows_before = np.concatenate([[0.0], np.cumsum(cost.seconds(1, longest_first) - cost.run)])
    packing = 1 + cost.packing
    best = np.full(count + 1, np.inf)
    best[0] = 0.0
    cut = np.zeros(count + 1, dtype=np.int64)
    rows = np.arange(1, count + 1)
    shorter_from = np.searchsorted(-longest_first, -longest_first, side="right").tolist()
    for start, (length, most) in enumerate(zip(longest_first.tolist(), most_rows.tolist(), strict=True)):
        ends = slice(start + 1, min(count, start + most) + 1)
        if batching == "packed":
            seconds = rows_before[ends] - rows_before[start]
            seconds[shorter_from[start] - start :] *= packing
            seconds += cost.run
        else:
            seconds = cost.seconds(rows[:most][: count - start], length)
        seconds += best[start]
        better = seconds < best[ends]
        best[ends][better] = seconds[better]
        cut[ends][better] = start
    bounds = [count]
    while bounds[-1] > 0:
        bounds.append(int(cut[bounds[-1]]))
    return np.asarray(bounds[::-1])


def _group_seconds(
    longest_first: npt.NDArray[np.int64], cost: CostModel, bounds: npt.NDArray[np.int64], batching: Batching
) -> npt.NDArray[np.float64]:
    """Predicted time of each group."""
    starts = bounds[:-1]
    if batching == "packed":
        uneven = longest_first[starts] != longest_first[bounds[1:] - 1]
        rows = np.add.reduceat(cost.seconds(1, longest_first) - cost.run, starts)
        return np.asarray(cost.run + rows * np.where(uneven, 1 + cost.packing, 1.0))
    return cost.seconds(np.diff(bounds), longest_first[starts])
