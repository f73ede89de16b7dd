"""Corrects predicted run times by observed ones.

The cost model's coefficients are estimates until they are calibrated, and the machine has other work too. So its
predictions are multiplied by observed over predicted time of the last runs, separately for runs on one core and on all.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from crossrank.engine.plan.cost import CostModel

_REMEMBERED_RUNS = 16
"""Enough runs for a median that one disturbed run does not move."""
_CAREFUL_SHARE = 0.8
"""The careful prediction is this quantile of the remembered runs."""
_TYPICAL_LENGTH = 128
_SMALL_PAIRS, _SMALL_LENGTH = 80, 64


class RunTimes:
    """Corrects predicted run times by observed ones. Not thread-safe.

    Attributes:
        workers: how many runs execute at once.
        small_work: predicted seconds, on one core, of 80 pairs of 64 tokens: less than that is little work.
    """

    def __init__(self, cost: CostModel, workers: int) -> None:
        """Start with the cost model's predictions as they are.

        Args:
            cost: makes the predictions that are corrected.
            workers: how many runs execute at once.
        """
        self.workers = workers
        self.reset(cost)

    def reset(self, cost: CostModel) -> None:
        """Start again with another cost model."""
        self._speed_up = {False: 1.0, True: self.workers * cost.operator_efficiency}
        self.forget()
        self._tokens_per_second = _TYPICAL_LENGTH / float(cost.seconds(1, _TYPICAL_LENGTH))
        self.small_work = _SMALL_PAIRS * float(cost.seconds(1, _SMALL_LENGTH))

    def forget(self) -> None:
        """Drop all observed runs and use the cost model's predictions as they are, until the next run."""
        self._ratios: dict[bool, deque[float]] = {
            False: deque(maxlen=_REMEMBERED_RUNS),
            True: deque(maxlen=_REMEMBERED_RUNS),
        }
        self._typical = {False: 1.0, True: 1.0}
        self._careful = {False: 1.0, True: 1.0}

    def observe(self, predicted_on_one_core: float, seconds: float, tokens: int, *, all_cores: bool = False) -> None:
        """Learn from a run that succeeded.

        Args:
            predicted_on_one_core: seconds that the cost model predicted for one core.
            seconds: what the run took.
            tokens: tokens of its pairs, without padding.
            all_cores: whether it ran on all cores.
        """
        predicted = predicted_on_one_core / self._speed_up[all_cores]
        if predicted <= 0 or seconds <= 0:
            return
        ratios = self._ratios[all_cores]
        ratios.append(seconds / predicted)
        ordered = sorted(ratios)
        self._typical[all_cores] = ordered[len(ordered) // 2]
        self._careful[all_cores] = ordered[int(_CAREFUL_SHARE * (len(ordered) - 1) + 0.5)]
        if not self._ratios[not all_cores]:  # nothing better is known of the other kind yet
            self._typical[not all_cores] = self._typical[all_cores]
            self._careful[not all_cores] = self._careful[all_cores]
        rate = tokens / seconds / (self.workers if all_cores else 1)
        self._tokens_per_second += 0.1 * (rate - self._tokens_per_second)

    def typical(self, seconds: float, *, all_cores: bool = False) -> float:
        """Corrected median: half of the runs with this prediction for one core finish in this time."""
        return seconds / self._speed_up[all_cores] * self._typical[all_cores]

    def careful(self, seconds: float, *, all_cores: bool = False) -> float:
        """Corrected 80th percentile: four of five runs with this prediction for one core finish in this time."""
        return seconds / self._speed_up[all_cores] * self._careful[all_cores]

    @property
    def factor(self) -> float:
        """Median of observed over predicted time of runs on one core."""
        return self._typical[False]

    @property
    def tokens_per_second(self) -> float:
        """Tokens, without padding, that all workers together score per second, averaged over the last runs."""
        return self._tokens_per_second * self.workers
