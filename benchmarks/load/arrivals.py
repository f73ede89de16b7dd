"""When requests arrive, and how large they are: open loop, so a slow contender gets no fewer of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

SIZES = (10, 20, 50, 100)
SHARES = (0.4, 0.3, 0.2, 0.1)
"""Candidates of a request, and how many requests have so many: most are small, and each size has the same work."""


@dataclass(frozen=True)
class Phase:
    """A time with one rate.

    Attributes:
        name: what it is called in results.
        rate: requests a second, on average.
        seconds: how long it lasts.
    """

    name: str
    rate: float
    seconds: float


@dataclass(frozen=True)
class Arrival:
    """One request: due so many seconds after the start, in a phase, with so many documents from a place on."""

    due: float
    phase: str
    first: int
    count: int


def mean_size() -> float:
    """Candidates of a request, on average."""
    return float(np.dot(SIZES, SHARES))


def poisson_arrivals(phases: Sequence[Phase], *, documents: int, seed: int = 0) -> list[Arrival]:
    """Requests at the moments of a Poisson process whose rate is that of the phase.

    Args:
        phases: one after the other.
        documents: how many there are to take from.
        seed: equal seeds give equal requests.
    """
    random = np.random.default_rng(seed)
    arrivals = []
    start = 0.0
    for phase in phases:
        now = start + random.exponential(1 / phase.rate)
        while now < start + phase.seconds:
            count = int(random.choice(SIZES, p=SHARES))
            arrivals.append(Arrival(now, phase.name, int(random.integers(documents)), count))
            now += random.exponential(1 / phase.rate)
        start += phase.seconds
    return arrivals
