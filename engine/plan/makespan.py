"""How long several workers take for a list of runs when each worker takes the next run as it becomes free."""

from __future__ import annotations

import heapq
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


def makespan(seconds: Iterable[float], workers: int) -> float:
    """Predicted time until the last run ends.

    Args:
        seconds: time of each run, in the order they start.
        workers: how many runs execute at once.
    """
    finish = [0.0] * workers
    for run in seconds:
        heapq.heapreplace(finish, finish[0] + run)
    return max(finish)


def threads_inside_operators(seconds: Sequence[float], workers: int, efficiency: float) -> bool:
    """Tell whether batches finish sooner one after the other, each on all cores, than shared among workers.

    Args:
        seconds: predicted time of each batch on one core, in the order they start.
        workers: cores.
        efficiency: share of perfect speed-up that threads inside operators reach.
    """
    return sum(seconds) / (workers * efficiency) < makespan(seconds, workers)
