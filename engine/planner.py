"""Pairs' lengths to batches, in the least predicted time.

Pairs are sorted by length and cut into contiguous groups. Where padding is allowed, the cuts come from dynamic
programming over the cost model, so they are the best contiguous grouping it knows: few padded tokens where runs are
cheap to start, larger batches where they are not. A token budget bounds every group. Where runs are padded to a grid of
shapes, it is the time of those shapes that counts (`grid_planner.py`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from crossrank.engine.grid_planner import best_grid_cuts

if TYPE_CHECKING:
    import numpy.typing as npt

    from crossrank.engine.cost import CostModel
    from crossrank.engine.shape_grid import ShapeGrid
    from crossrank.models.manifest import Batching

_GROUPS_PER_WORKER = 4
"""With several workers no group may hold more than this share of one's work, so that they finish together."""


@dataclass(frozen=True)
class Batch:
    """Pairs that share a run.

    Attributes:
        indices: which pairs, int64 (b,), longest first.
        length: padded tokens of each row; with a grid one of its lengths.
        seconds: predicted time of the run.
    """

    indices: npt.NDArray[np.int64]
    length: int
    seconds: float

    @property
    def padded_tokens(self) -> int:
        """Tokens of the run, padding included."""
        return len(self.indices) * self.length


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
        batching: what the graph allows; 'single' means one pair a run, 'equal_length' pairs of one length.
        cost: predicts the time of a run.
        max_batch_tokens: padded tokens of a batch at most; a longer pair is a batch of its own.
        workers: how many runs go on at once; batches are kept small enough to share among them.
        grid: the shapes that runs of several lengths are padded to; None where a run has the shape of its pairs.

    Returns:
        Batches in the order to start them, longest rows first; every pair is in exactly one.
    """
    if len(lengths) == 0:
        return []
    order = np.argsort(-lengths, kind="stable")
    longest_first = lengths[order]
    if batching == "single":
        bounds = np.arange(len(lengths) + 1)
    elif grid is not None:
        bounds = best_grid_cuts(longest_first, cost, grid, workers)
    else:
        bounds = _best_cuts(longest_first, cost, max_batch_tokens, workers, padding=batching == "padded")
    starts, ends = bounds[:-1], bounds[1:]
    rows, longest = ends - starts, longest_first[starts]
    if grid is not None:
        rows, longest = np.asarray(
            [grid.padded(*shape) for shape in zip(rows.tolist(), longest.tolist(), strict=True)]
        ).T
    seconds = cost.seconds(rows, longest).tolist()
    return [
        Batch(order[start:end], length, time)
        for start, end, length, time in zip(starts.tolist(), ends.tolist(), longest.tolist(), seconds, strict=True)
    ]


def _best_cuts(
    longest_first: npt.NDArray[np.int64], cost: CostModel, max_batch_tokens: int, workers: int, *, padding: bool
) -> npt.NDArray[np.int64]:
    """Cut points of the contiguous grouping with the least total predicted time, under the bounds of a group."""
    count = len(longest_first)
    largest_rows = np.maximum(1, max_batch_tokens // longest_first)
    if workers > 1:
        alone = cost.seconds(1, longest_first)
        share = float(alone.sum()) / (workers * _GROUPS_PER_WORKER)
        per_row = alone - cost.run
        largest_rows = np.minimum(largest_rows, np.maximum(1, ((share - cost.run) / per_row).astype(np.int64)))
    if not padding:  # as far as the pairs of the same length go
        last_of_length = np.searchsorted(-longest_first, -longest_first, side="right")
        largest_rows = np.minimum(largest_rows, last_of_length - np.arange(count))
    best = np.full(count + 1, np.inf)
    best[0] = 0.0
    cut = np.zeros(count + 1, dtype=np.int64)
    for start in range(count):
        end = min(count, start + int(largest_rows[start]))
        ends = np.arange(start + 1, end + 1)
        total = best[start] + cost.seconds(ends - start, int(longest_first[start]))
        better = total < best[ends]
        best[ends[better]] = total[better]
        cut[ends[better]] = start
    bounds = [count]
    while bounds[-1] > 0:
        bounds.append(int(cut[bounds[-1]]))
    return np.asarray(bounds[::-1])
