"""Whose texts are encoded next: least remaining work first, as for runs. Holds no threads and reads no clock.

Encoding goes piece by piece, so that nobody waits for more than one piece of another caller. A text that cannot be
divided is a piece of its own, however long; of those one is encoded at a time, so that an encoder stays free.
"""

from __future__ import annotations

import heapq

ORDINARY, LARGE = False, True


class EncodingOrder:
    """Which of the calls that have texts to encode may do so now. For one thread at a time."""

    def __init__(self, encoders: int) -> None:
        """Start with nobody waiting.

        Args:
            encoders: pieces encoded at once, at least two.
        """
        self._encoders = encoders
        self._waiting: dict[bool, list[tuple[float, int]]] = {ORDINARY: [], LARGE: []}
        self._large: dict[int, bool] = {}
        self._running: dict[int, bool] = {}

    @property
    def waiting(self) -> int:
        """Calls that wait for their turn."""
        return len(self._large)

    def ask(self, number: int, place: float, *, large: bool) -> None:
        """Let a call wait for its turn.

        Args:
            number: distinguishes the call; of those with equal places the smallest goes first.
            place: as of a request that waits for runs; the smallest goes first.
            large: whether its next piece is a text that cannot be divided.
        """
        self._large[number] = large
        heapq.heappush(self._waiting[large], (place, number))

    def whose_turn(self) -> int | None:
        """The call whose turn it is, or None where nobody waits or no encoder is free for it."""
        if not self._large or len(self._running) >= self._encoders:
            return None
        may_start = [ORDINARY] if LARGE in self._running.values() else [ORDINARY, LARGE]
        heaps = [heap for kind in may_start if (heap := self._without_the_gone(kind))]
        return min(heap[0] for heap in heaps)[1] if heaps else None

    def start(self, number: int) -> None:
        """Count a call that waited as one that encodes."""
        large = self._large.pop(number)
        self._running[number] = large
        if self._waiting[large][0][1] == number:
            heapq.heappop(self._waiting[large])

    def begins_at_once(self, number: int, *, large: bool) -> bool:
        """Count a call as one that encodes its next piece, where nobody waits and an encoder is free; else False."""
        running = self._running
        if self._large or (number not in running and len(running) >= self._encoders):
            return False
        if large and any(kind is LARGE for other, kind in running.items() if other != number):
            return False
        running[number] = large
        return True

    def end(self, number: int) -> None:
        """A call encodes or waits no longer."""
        self._running.pop(number, None)
        self._large.pop(number, None)

    def _without_the_gone(self, kind: bool) -> list[tuple[float, int]]:
        heap = self._waiting[kind]
        while heap and self._large.get(heap[0][1]) is not kind:
            heapq.heappop(heap)
        return heap
