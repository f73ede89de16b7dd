"""How much may wait: a bound in tokens, checked before a call costs anything.

The bound holds from the call's first moment, so a flood of calls cannot pile up in front of the encoder either. Tokens
count until their run starts.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING

from crossrank.errors import ClosedError, Overloaded

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop

_SHORTEST_RETRY = 0.01


@dataclass(slots=True, eq=False)
class Ticket:
    """A call's place among those let in; changed by `Admission` alone.

    Attributes:
        loop: the event loop that the call needs to go on, or None.
        inside: whether it was let in and has not left.
        announced: tokens it is expected to submit still.
    """

    loop: AbstractEventLoop | None = None
    inside: bool = False
    announced: int = 0


class Admission:
    """Counts waiting tokens and open calls. Safe to use from several threads.

    Each change of several counts stands in a row of statements without a call, which CPython does not interrupt for a
    signal: after a KeyboardInterrupt anywhere a ticket tells the truth.
    """

    def __init__(self, max_queue_tokens: int | None) -> None:
        """Start empty.

        Args:
            max_queue_tokens: tokens that may wait; None leaves the bound to the single calls.
        """
        self._limit = max_queue_tokens
        # Reentrant: a call that nobody holds any more leaves from the garbage collector, in whatever thread it runs.
        self._lock = threading.RLock()
        self._closed = False
        self._of_loops: dict[AbstractEventLoop, int] = {}
        self.tokens = 0
        self.calls = 0
        self.refused = 0

    @property
    def closed(self) -> bool:
        """Whether no call is let in any more."""
        return self._closed

    def enter(
        self, ticket: Ticket, tokens: int, *, tokens_per_second: float, queue_seconds: float | None, goes_on: bool
    ) -> None:
        """Let a call in.

        Args:
            ticket: not let in yet.
            tokens: what it will let wait, as far as known.
            tokens_per_second: how fast waiting tokens are worked off.
            queue_seconds: bounds the waiting tokens to what so many seconds work off, where no number was fixed; None
                leaves them unbounded.
            goes_on: whether it was let in before, and only `close` keeps it out.

        Raises:
            Overloaded: it would exceed the bound, and something waits already. A call larger than the bound itself
                is let in when nothing waits.
            ClosedError: `close` was called.
        """
        with self._lock:
            if self._closed:
                raise ClosedError("this reranker was closed; make a new one")
            if not goes_on:
                self._check(tokens, tokens_per_second, queue_seconds)
            of_loop = 0 if ticket.loop is None else self._of_loops.get(ticket.loop, 0) + 1
            self.tokens += tokens
            self.calls += 1
            ticket.announced = tokens
            ticket.inside = True
            if ticket.loop is not None:
                self._of_loops[ticket.loop] = of_loop

    def announce(self, ticket: Ticket, tokens: int, *, tokens_per_second: float, queue_seconds: float | None) -> None:
        """Let a call that is inside announce what it will let wait.

        Args:
            ticket: of the call.
            tokens: in addition to what it announced.
            tokens_per_second: as for `enter`.
            queue_seconds: as for `enter`.

        Raises:
            Overloaded: as for `enter`.
        """
        with self._lock:
            self._check(tokens, tokens_per_second, queue_seconds)
            self.tokens += tokens
            ticket.announced += tokens

    def submitted(self, ticket: Ticket, waiting: int, part: int | None) -> None:
        """Count what a call has submitted, in place of what it announced.

        Args:
            ticket: of the call.
            waiting: tokens that wait now.
            part: how many of the announced tokens that was; None for all of them.
        """
        with self._lock:
            taken = ticket.announced if part is None or part > ticket.announced else part
            self.tokens += waiting - taken
            ticket.announced -= taken

    def change(self, tokens: int) -> None:
        """Correct the waiting tokens by a difference."""
        with self._lock:
            self.tokens += tokens

    def leave(self, ticket: Ticket) -> None:
        """Account for a call's end, and for what it announced and has not submitted; a second time does nothing."""
        with self._lock:
            if not ticket.inside:
                return
            of_loop = 0 if ticket.loop is None else self._of_loops.get(ticket.loop, 0) - 1
            self.tokens -= ticket.announced
            self.calls -= 1
            ticket.announced = 0
            ticket.inside = False
            if ticket.loop is not None:
                self._of_loops[ticket.loop] = of_loop
                if of_loop <= 0:
                    del self._of_loops[ticket.loop]

    def waited_for(self, blocked: AbstractEventLoop | None) -> int:
        """Open calls that can still go on.

        Args:
            blocked: an event loop whose thread waits for their end, or None. Closed loops are left out, too.
        """
        with self._lock:
            stuck = [count for loop, count in self._of_loops.items() if loop is blocked or loop.is_closed()]
            return self.calls - sum(stuck)

    def close(self) -> None:
        """Let nobody in any more."""
        with self._lock:
            self._closed = True

    def abandon_after_fork(self) -> None:
        """In a child process: forget a lock that one of the parent's threads may have held."""
        self._lock = threading.RLock()

    def _check(self, tokens: int, tokens_per_second: float, queue_seconds: float | None) -> None:
        limit: float | None = self._limit
        if limit is None and queue_seconds is not None:
            limit = queue_seconds * tokens_per_second
        if limit is None or not tokens or not self.tokens or self.tokens + tokens <= limit:
            return
        self.refused += 1
        excess = min(self.tokens, self.tokens + tokens - limit)
        retry = max(_SHORTEST_RETRY, excess / tokens_per_second)
        raise Overloaded(
            f"{self.tokens} tokens wait to be scored and this call would add {tokens}; at most {limit:.0f} "
            f"may wait (max_queue_tokens). Try again in about {retry:.2f} s",
            retry_after=retry,
        )
