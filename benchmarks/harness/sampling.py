"""Times of repeated calls: warm-up, a time budget, percentiles, ratios with their spread."""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

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
class Percentiles:
    """Percentiles of times in seconds, interpolated linearly between the two nearest."""

    p50: float
    p90: float
    p99: float


@dataclass(frozen=True)
class Latency(Percentiles):
    """Percentiles of calls' times, the number of calls, and the fastest."""

    calls: int
    fastest: float


@dataclass(frozen=True)
class Ratio:
    """How many times as long something took: the median over the rounds, and the smallest and largest of them."""

    median: float
    smallest: float
    largest: float


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


def percentiles(seconds: Sequence[float]) -> Percentiles | None:
    """Percentiles of times; None if there are none."""
    return Percentiles(*np.percentile(seconds, [50, 90, 99]).tolist()) if len(seconds) else None


def latency(times: Sequence[float]) -> Latency:
    """Percentiles of the times of one or more calls."""
    p50, p90, p99 = np.percentile(times, [50, 90, 99]).tolist()
    return Latency(p50, p90, p99, len(times), min(times))


def ratio_per_round(times: Sequence[float], reference: Sequence[float]) -> Ratio:
    """Ratio of two contenders' times, taken round by round.

    A change of the machine's speed in one round affects both, so it hardly changes their ratio.

    Args:
        times: one of each round.
        reference: times of the other contender in the same rounds.
    """
    ratios = [seconds / reference_seconds for seconds, reference_seconds in zip(times, reference, strict=True)]
    return Ratio(statistics.median(ratios), min(ratios), max(ratios))
