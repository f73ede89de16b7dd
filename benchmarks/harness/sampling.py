"""Times of repeated calls: warm-up, a time budget, percentiles, ratios with their spread."""

from __future__ import annotations

import statistics
import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


@dataclass(frozen=True)
class Effort:
    """How many calls to time.

    Attributes:
        warm_up: calls before the timed ones.
        fewest: smallest number of timed calls, however long they take.
        most: largest number of timed calls.
        seconds: no further call starts when the timed calls have taken this long together.
    """

    warm_up: int = 1
    fewest: int = 3
    most: int = 50
    seconds: float = 5.0


@dataclass(frozen=True)
class Latency:
    """Number of calls, and percentiles of their times in seconds."""

    calls: int
    p50: float
    p90: float
    p99: float
    fastest: float

    def as_json(self) -> dict[str, Any]:
        """The values as the result file holds them."""
        return asdict(self)


@dataclass(frozen=True)
class Ratio:
    """How many times as long something took: the median over the rounds, and the smallest and largest of them."""

    median: float
    smallest: float
    largest: float

    def as_json(self) -> dict[str, Any]:
        """The values as the result file holds them."""
        return asdict(self)


def call_times(call: Callable[[], object], effort: Effort) -> list[float]:
    """Seconds of each timed call, in order.

    Args:
        call: what is timed.
        effort: how many calls.
    """
    for _ in range(effort.warm_up):
        call()
    times: list[float] = []
    while len(times) < effort.fewest or (len(times) < effort.most and sum(times) < effort.seconds):
        started = time.perf_counter()
        call()
        times.append(time.perf_counter() - started)
    return times


def latency(times: Sequence[float]) -> Latency:
    """Percentiles of times in seconds, interpolated linearly between the two nearest calls."""
    p50, p90, p99 = (float(value) for value in np.percentile(times, [50, 90, 99]))
    return Latency(len(times), p50, p90, p99, min(times))


def ratio_per_round(times: Sequence[float], reference: Sequence[float]) -> Ratio:
    """Ratio of two contenders' times, taken round by round.

    A change of the machine's speed in one round affects both, so it hardly changes their ratio.

    Args:
        times: one of each round.
        reference: times of the other contender in the same rounds.
    """
    ratios = [seconds / reference_seconds for seconds, reference_seconds in zip(times, reference, strict=True)]
    return Ratio(statistics.median(ratios), min(ratios), max(ratios))


def percentiles(seconds: Sequence[float]) -> dict[str, float]:
    """p50, p90 and p99 by name; empty if there are no values."""
    if not seconds:
        return {}
    return dict(zip(("p50", "p90", "p99"), np.percentile(seconds, [50, 90, 99]).tolist(), strict=True))
