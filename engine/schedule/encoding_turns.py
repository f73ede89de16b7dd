"""The turns of the calls that encode, kept between threads."""

from __future__ import annotations

import itertools
import threading
from collections import deque
from typing import TYPE_CHECKING

from crossrank.engine.schedule.encoding_order import EncodingOrder

if TYPE_CHECKING:
    from collections.abc import Callable


class EncodingTurns:
    """Tells each call when it may encode its next piece. Safe to use from several threads."""

    def __init__(self, encoders: int) -> None:
        """Start with nobody waiting.

        Args:
            encoders: pieces encoded at once.
        """
        self._order = EncodingOrder(encoders)
        # Reentrant: a turn that nobody holds any more ends from the garbage collector, in whatever thread it runs.
        self._lock = threading.RLock()
        self._changing = self._look = False
        self._ended: deque[tuple[int, bool]] = deque()
        self._starts: dict[int, Callable[[], object]] = {}
        self._numbers = itertools.count()

    @property
    def waiting(self) -> int:
        """Calls that wait for their turn."""
        return self._order.waiting

    def new(self) -> EncodingTurn:
        """A turn for one call."""
        return EncodingTurn(self)

    def new_number(self) -> int:
        """Distinguishes one turn from all others."""
        return next(self._numbers)

    def ask(self, number: int, place: float, start: Callable[[], object], *, large: bool) -> None:
        """Let a call wait."""
        with self._lock:
            changing, self._changing = self._changing, True  # no call before the try: nothing interrupts between
            try:
                self._starts[number] = start
                self._order.ask(number, place, large=large)
            finally:
                self._changing = changing
        self.start_next()

    def begins_at_once(self, number: int, *, large: bool) -> bool:
        """As `EncodingOrder.begins_at_once`."""
        with self._lock:
            changing, self._changing = self._changing, True
            try:
                begins = self._order.begins_at_once(number, large=large)
            finally:
                self._changing = changing
        if self._look or self._ended:
            self.start_next()
        return begins

    def end(self, number: int, *, only_waiting: bool = False) -> None:
        """A call encodes or waits no longer."""
        self._ended.append((number, only_waiting))
        self.start_next()

    def start_next(self) -> None:
        """Take out the calls that ended, then start those whose turn it is.

        Never waits for the lock: the garbage collector may end a turn in a thread that holds locks of others, which the
        thread inside may be waiting for. Whoever is inside looks again when it is done.
        """
        self._look = True
        while (self._look or self._ended) and self._lock.acquire(blocking=False):
            try:
                if self._changing:
                    return  # in the middle of a change of this very thread, which looks again after it
                self._changing = True
                try:
                    self._start_all()
                finally:
                    self._changing = False
            finally:
                self._lock.release()

    def _start_all(self) -> None:
        self._look = False
        while True:
            if self._ended:
                ended, only_waiting = self._ended.popleft()
                waited = self._starts.pop(ended, None) is not None
                if waited or not only_waiting:
                    self._order.end(ended)
                continue
            number = self._order.whose_turn()
            if number is None:
                return
            self._starts[number]()  # before it counts: an interrupt in between must not lose it
            if number not in {gone for gone, _ in self._ended}:
                self._starts.pop(number)
                self._order.start(number)

    def abandon_after_fork(self) -> None:
        """In a child process: forget a lock that a thread of the parent may have held, and who waited there."""
        self._lock = threading.RLock()
        self._changing = False
        self._ended.clear()
        self._starts = {}


class EncodingTurn:
    """The turn of one call, needed for each piece. Ends also when nobody holds it any more."""

    __slots__ = ("_number", "_turns")

    def __init__(self, turns: EncodingTurns) -> None:
        self._turns = turns
        self._number = turns.new_number()

    def begins_at_once(self, *, large: bool) -> bool:
        """Whether the next piece may begin now, without asking, because nobody waits."""
        return self._turns.begins_at_once(self._number, large=large)

    def ask(self, place: float, start: Callable[[], object], *, large: bool) -> None:
        """Wait for the turn; the one before has to be ended.

        Args:
            place: as for `EncodingOrder.ask`.
            start: called, from any thread, when the turn has come, perhaps at once; perhaps twice, where an interrupt
                came between.
            large: as for `EncodingOrder.ask`.
        """
        # A number of its own: where another thread was inside, the end of the turn before is taken out after this.
        self._number = self._turns.new_number()
        self._turns.ask(self._number, place, start, large=large)

    def end(self, *, only_waiting: bool = False) -> None:
        """Let others have it. `only_waiting` leaves a turn alone that has come."""
        self._turns.end(self._number, only_waiting=only_waiting)

    def __del__(self) -> None:
        """End where an interrupt came before the turn could be ended."""
        self._turns.end(self._number)
