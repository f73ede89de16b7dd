"""Cuts of pairs in length order into groups that are padded to shapes of a grid, in the least predicted time.

Rows are padded to powers of two, so a group that is not the last one is best filled up with the pairs that follow: its
shape stays as it is, and the groups after it only shrink. That leaves a few ends to try for each start.
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
        cost: predicts the time of a run of a shape.
        grid: the shapes, with their token budget.
        workers: how many runs go on at once; with several, no group holds more than its share of the pairs.

    Returns:
        int64 (g + 1,), from 0 to n.
    """
    count = len(longest_first)
    share = -(-count // workers)
    choices: dict[int, list[tuple[int, float]]] = {}
    best = [float("inf")] * (count + 1)
    best[0] = 0.0
    cut = [0] * (count + 1)
    for start, tokens in enumerate(longest_first.tolist()):
        if best[start] == float("inf"):
            continue
        length = grid.padded_length(tokens)
        if length not in choices:
            choices[length] = _choices(length, cost, grid, share)
        for rows, seconds in choices[length]:
            end = min(count, start + rows)
            if best[start] + seconds < best[end]:
                best[end], cut[end] = best[start] + seconds, start
            if end == count:
                break
    bounds = [count]
    while bounds[-1] > 0:
        bounds.append(cut[bounds[-1]])
    return np.asarray(bounds[::-1])


def _choices(length: int, cost: CostModel, grid: ShapeGrid, share: int) -> list[tuple[int, float]]:
    """Rows that a run of a length may be given, ascending, and their predicted seconds."""
    most = min(grid.most_rows(length), grid.padded(share, length).rows)
    rows = [1 << power for power in range(most.bit_length())] if length in grid.lengths else list(range(1, most + 1))
    return list(zip(rows, cost.seconds(np.asarray(rows), length).tolist(), strict=True))
