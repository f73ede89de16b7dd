"""Times of repeated calls: warm-up, a budget, percentiles, ratios with their spread."""

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
    """How often to call.

    Attributes:
        warm_up: calls before those that count.
        fewest: calls that count, whatever they take.
        most: calls that count at most.
        seconds: no further call is started once those that count took so long.
    """

    warm_up: int = 1
    fewest: int = 3
    most: int = 50
    seconds: float = 5.0


@dataclass(frozen=True)
class Latency:
    """Percentiles of the calls' times, in seconds."""

    calls: int
    p50: float
    p90: float
    p99: float
    fastest: float

    def as_json(self) -> dict[str, Any]:
        """For the result file."""
        return asdict(self)


@dataclass(frozen=True)
class Ratio:
    """How many times as long something took: the median over the rounds, and the smallest and largest of them."""

    median: float
    smallest: float
    largest: float

    def as_json(self) -> dict[str, Any]:
        """For the result file."""
        return asdict(self)


def call_times(call: Callable[[], object], effort: Effort) -> list[float]:
    """Seconds of each call that counts, in order."""
    for _ in range(effort.warm_up):
        call()
    times: list[float] = []
    while len(times) < effort.fewest or (len(times) < effort.most and sum(times) < effort.seconds):
        started = time.perf_counter()
        call()
        times.append(time.perf_counter() - started)
    return times


def latency(times: Sequence[float]) -> Latency:
    """Percentiles of times, interpolated linearly between the two nearest calls."""
    p50, p90, p99 = (float(value) for value in np.percentile(times, [50, 90, 99]))
    return Latency(len(times), p50, p90, p99, min(times))


def ratio_per_round(times: Sequence[float], reference: Sequence[float]) -> Ratio:
    """Ratio of two contenders' times, round by round: what disturbs the machine in a round disturbs both.

    Args:
        times: one of each round.
        reference: of the same rounds.
    """
    ratios = [own / other for own, other in zip(times, reference, strict=True)]
    return Ratio(statistics.median(ratios), min(ratios), max(ratios))


def percentiles(seconds: Sequence[float]) -> dict[str, float]:
    """p50, p90 and p99, or nothing of nothing."""
    if not seconds:
        return {}
    return dict(zip(("p50", "p90", "p99"), np.percentile(seconds, [50, 90, 99]).tolist(), strict=True))
