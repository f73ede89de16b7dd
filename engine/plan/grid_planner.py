"""Cuts pairs sorted by length into groups, each padded to a shape of the grid, with the least total predicted time.

Rows are padded to a power of two, so every group but the last should fill its shape with pairs: that costs it nothing,
and the groups after it shrink. So for each start only the powers of two are tried as the size of the group.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

    from crossrank.engine.plan.cost import CostModel
    from crossrank.engine.plan.shape_grid import ShapeGrid


def best_grid_cuts(
    longest_first: npt.NDArray[np.int64], cost: CostModel, grid: ShapeGrid, workers: int
) -> npt.NDArray[np.int64]:
    """Cut points of the contiguous grouping with the least total predicted time.

    Args:
        longest_first: tokens of each pair, descending, int64 (n,) with n at least 1.
        cost: predicts the time of a run.
        grid: the shapes that runs are padded to, and their token budget.
        workers: how many runs execute at once; with several, no group holds more than `1 / workers` of the pairs.

    Returns:
        int64 (g + 1,) for g groups, ascending, from 0 to n.
    """
    count = len(longest_first)
    share = -(-count // workers)
    sizes: dict[int, list[tuple[int, float]]] = {}
    best = [float("inf")] * (count + 1)
    best[0] = 0.0
    cut = [0] * (count + 1)
    for start, tokens in enumerate(longest_first.tolist()):
        if best[start] == float("inf"):
            continue
        length = grid.padded_length(tokens)
        if length not in sizes:
            sizes[length] = _group_sizes(length, cost, grid, share)
        for rows, seconds in sizes[length]:
            end = min(count, start + rows)
            if best[start] + seconds < best[end]:
                best[end], cut[end] = best[start] + seconds, start
            if end == count:
                break
    bounds = [count]
    while bounds[-1] > 0:
        bounds.append(cut[bounds[-1]])
    return np.asarray(bounds[::-1])


def _group_sizes(length: int, cost: CostModel, grid: ShapeGrid, share: int) -> list[tuple[int, float]]:
    """Numbers of rows to try for a group of this length, ascending, each with its predicted seconds."""
    most = min(grid.most_rows(length), grid.padded(share, length).rows)
    rows = [1 << power for power in range(most.bit_length())] if length in grid.lengths else list(range(1, most + 1))
    return list(zip(rows, cost.seconds(np.asarray(rows), length).tolist(), strict=True))
