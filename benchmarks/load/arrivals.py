"""When requests arrive, and how large they are. They arrive in an open loop: a slow contender gets no fewer of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

SIZES = (10, 20, 50, 100)
SHARES = (0.4, 0.3, 0.2, 0.1)
"""Numbers of candidates, and the share of requests that have them: small requests are the most frequent."""

SMALLEST = SIZES[0]


@dataclass(frozen=True)
class Phase:
    """A period of one arrival rate.

    Attributes:
        name: its name in results.
        rate: requests a second, on average.
        seconds: how long it lasts.
    """

    name: str
    rate: float
    seconds: float


@dataclass(frozen=True)
class Arrival:
    """One request.

    Attributes:
        due: seconds after the start at which it arrives.
        phase: name of its phase.
        first: index of its first document; the following documents come after it in order.
        count: number of its documents.
    """

    due: float
    phase: str
    first: int
    count: int


def mean_size() -> float:
    """Mean number of candidates of a request."""
    return float(np.dot(SIZES, SHARES))


def poisson_arrivals(phases: Sequence[Phase], *, documents: int, seed: int = 0) -> list[Arrival]:
    """Requests that arrive as a Poisson process with the rate of each phase.

    Args:
        phases: one after the other.
        documents: number of documents to choose from.
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
