"""Whose turn it is: least remaining work first, with ageing.

The order of least remaining work gives the smallest mean waiting time, and alone would let large requests starve under
a stream of small ones. So waiting counts as well: every second waited takes `AGEING` seconds off the remaining work. A
request that has waited for 1 / AGEING times its own work goes before any newcomer, however small. Among small requests
least work gains little, and callers that ask for one document again and again would keep out one that asks for ten. So
little work (`RunTimes.small_work`) counts for less, by its square: the smaller it is, the sooner waiting makes up for
it.

All waiting requests age at one rate, so their order changes only when one of them gets a run: a heap holds it.
"""

from __future__ import annotations

import heapq
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from crossrank.engine.plan.run_times import RunTimes
    from crossrank.engine.schedule.request import Request, Terms

AGEING = 0.05
"""Seconds of remaining work that a second of waiting makes up for; docs/decisions.md has figures for others."""
_SPARE_ENTRIES = 16


def place_of(work: float, terms: Terms, times: RunTimes) -> float:
    """The place of work in the order; the smallest goes first.

    A step of priority counts as half the work. Work that a deadline cuts off does not count.

    Args:
        work: predicted seconds on one core.
        terms: of its call.
        times: says how many runs go on at once, and what is little work.
    """
    if terms.deadline is not None:
        work = min(work, max(0.0, terms.deadline - terms.arrival) * times.workers)
    work *= 2.0**-terms.priority
    return float(work * min(1.0, (work / times.small_work) ** 2) + AGEING * terms.arrival)


def turn(request: Request, times: RunTimes) -> float:
    """The place of a request in the order.

    Pairs of the same call that were not submitted yet count as its work: a call in many small pieces is no small call.

    Args:
        request: one that waits.
        times: says how many runs go on at once, and what is little work.
    """
    return place_of(request.remaining + request.terms.work_behind, request.terms, times)


class WaitingWork(NamedTuple):
    """What waits of a call.

    Attributes:
        seconds: predicted on one core, as exactly as is known.
        expected: the same as it was predicted before the call's texts were encoded, with what comes after it.
        terms: of the call.
    """

    seconds: float
    expected: float
    terms: Terms


def work_ahead(place: float, waiting: Iterable[WaitingWork], times: RunTimes) -> float:
    """Predicted seconds, on one core, of what goes before somebody who comes now.

    Who is behind stays behind: of those that wait, only ones that are served come nearer. Places are compared by what
    was predicted before encoding, because no more is known of the one who comes: texts with few characters a token,
    such as program code or Chinese, are longer than they look.

    Args:
        place: of the one who comes.
        waiting: what waits of each call.
        times: says how many runs go on at once, and what is little work.
    """
    return sum(work.seconds for work in waiting if place_of(work.expected, work.terms, times) < place)


class WaitingRequests:
    """Requests with batches not started yet, in the order of their turns.

    Requests whose batches are gone need not be taken out: they are passed over, and removed when they are many.
    """

    def __init__(self, times: RunTimes) -> None:
        """Start empty.

        Args:
            times: says how many runs go on at once, and what is little work.
        """
        self._times = times
        self._heap: list[tuple[float, int, Request]] = []
        self._live = 0

    def __len__(self) -> int:
        """How many wait."""
        return self._live

    def __iter__(self) -> Iterator[Request]:
        """Those that wait; the first is first, the rest only roughly in order."""
        return (request for _, _, request in self._heap if request.batches)

    def add(self, request: Request) -> None:
        """Let a request with batches wait."""
        self._live += 1
        heapq.heappush(self._heap, (turn(request, self._times), request.number, request))

    def add_again(self, request: Request, *, waited: bool) -> None:
        """Give a request its place again after batches were put back.

        Args:
            request: with batches.
            waited: whether it had some before, so that it was never out.
        """
        self._heap = [entry for entry in self._heap if entry[2] is not request]
        heapq.heapify(self._heap)
        self._live -= waited
        self.add(request)

    def first(self) -> Request | None:
        """The request whose turn it is."""
        while self._heap and not self._heap[0][2].batches:
            heapq.heappop(self._heap)
        return self._heap[0][2] if self._heap else None

    def batch_taken(self, request: Request) -> None:
        """Account for a batch taken from a request that waits."""
        if not request.batches:
            self.emptied()
        elif self._heap and self._heap[0][2] is request:
            heapq.heapreplace(self._heap, (turn(request, self._times), request.number, request))
        # One that was not first keeps its place until it comes first: less work moves it only forward.

    def emptied(self) -> None:
        """Account for a waiting request whose batches were all taken or dropped."""
        self._live -= 1
        if len(self._heap) > 2 * self._live + _SPARE_ENTRIES or self._live == 0:
            self._heap = [entry for entry in self._heap if entry[2].batches]
            heapq.heapify(self._heap)
