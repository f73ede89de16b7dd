"""Which calls are accepted: by the time that each would wait itself, and by the tokens that wait altogether.

Both are checked before a call costs anything, so a flood of calls cannot pile up in front of the encoder either. Tokens
count until their run starts.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from crossrank.engine.schedule.ordering import WaitingWork
from crossrank.engine.schedule.request import Terms
from crossrank.errors import ClosedError, Overloaded

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop
    from collections.abc import Callable

_SHORTEST_RETRY = 0.01
_SURE = 8
"""By how much the bound must exceed what waits, in tokens, before nothing closer is asked: short pairs take longer a
token than the speed says."""


class Bounds(NamedTuple):
    """What a call is refused for.

    Attributes:
        seconds: it would wait longer; None for no bound.
        tokens: so many would wait together with its own; None for no bound.
    """

    seconds: float | None = None
    tokens: int | None = None


@dataclass(slots=True, eq=False)
class CallRecord:
    """An accepted call as `Admission` counts it, which alone changes it.

    Attributes:
        loop: the event loop without which the call cannot continue, or None.
        terms: its place in the order.
        open: whether it was accepted and has not left.
        announced: tokens it is expected to submit still.
        seconds: predicted for those, on one core.
    """

    loop: AbstractEventLoop | None = None
    terms: Terms = Terms(arrival=0.0)  # noqa: RUF009  frozen
    open: bool = False
    announced: int = 0
    seconds: float = 0.0


class Admission:
    """Counts waiting tokens and open calls. Safe to use from several threads.

    Each change of several counts stands in a row of statements without a call, which CPython does not interrupt for a
    signal: after a KeyboardInterrupt anywhere the counts are right.
    """

    def __init__(self) -> None:
        # Reentrant: a call that nobody holds any more leaves from the garbage collector, in whatever thread it runs.
        self._lock = threading.RLock()
        self._closed = False
        self._of_loops: dict[AbstractEventLoop, int] = {}
        self._open: dict[CallRecord, None] = {}
        self.tokens = 0
        self.calls = 0
        self.refused = 0

    @property
    def closed(self) -> bool:
        """Whether no call is accepted any more."""
        return self._closed

    def enter(
        self,
        call: CallRecord,
        tokens: int,
        seconds: float,
        *,
        bounds: Bounds,
        tokens_per_second: float,
        expected_wait: Callable[[], float],
        continues: bool,
    ) -> None:
        """Accept a call.

        Args:
            call: not accepted yet.
            tokens: what will wait of it, as far as known.
            seconds: predicted for its work, on one core.
            bounds: what it is refused for.
            tokens_per_second: how fast waiting tokens are worked off.
            expected_wait: gives the seconds that it would wait.
            continues: whether it was accepted before, and only `close` keeps it out.

        Raises:
            Overloaded: it would wait too long; or too many tokens would wait, and some wait already. A call larger
                than that bound is accepted when nothing waits.
            ClosedError: `close` was called.
        """
        with self._lock:
            if self._closed:
                raise ClosedError("this reranker was closed; make a new one")
            if not continues:
                self._check_wait(bounds.seconds, tokens_per_second, expected_wait)
                self._check_tokens(tokens, bounds.tokens, tokens_per_second, expected_wait)
            of_loop = 0 if call.loop is None else self._of_loops.get(call.loop, 0) + 1
            self._open[call] = None
            self.tokens += tokens
            self.calls += 1
            call.announced = tokens
            call.seconds = seconds
            call.open = True
            if call.loop is not None:
                self._of_loops[call.loop] = of_loop

    def announce(
        self,
        call: CallRecord,
        tokens: int,
        *,
        bounds: Bounds,
        tokens_per_second: float,
        expected_wait: Callable[[], float],
    ) -> None:
        """Count tokens of an open call that were not known when it was accepted.

        Args:
            call: open.
            tokens: in addition to what it announced.
            bounds: of which that of the tokens counts.
            tokens_per_second: as for `enter`.
            expected_wait: as for `enter`.

        Raises:
            Overloaded: too many tokens would wait, and some wait already.
        """
        with self._lock:
            self._check_tokens(tokens, bounds.tokens, tokens_per_second, expected_wait)
            self.tokens += tokens
            call.announced += tokens

    def submitted(self, call: CallRecord, waiting: int, part: float | None) -> None:
        """Count what a call has submitted, in place of what it announced.

        Args:
            call: whose.
            waiting: tokens that wait now.
            part: how many of the announced seconds that was; None for all of them.
        """
        with self._lock:
            part = call.seconds if part is None else min(part, call.seconds)
            taken = call.announced if part == call.seconds else round(call.announced * part / call.seconds)
            seconds = call.seconds - part
            self.tokens += waiting - taken
            call.announced -= taken
            call.seconds = seconds

    def change(self, tokens: int) -> None:
        """Correct the waiting tokens by a difference."""
        with self._lock:
            self.tokens += tokens

    def leave(self, call: CallRecord) -> None:
        """Account for a call's end, and for what it announced and has not submitted; a second time does nothing."""
        with self._lock:
            if not call.open:
                return
            of_loop = 0 if call.loop is None else self._of_loops.get(call.loop, 0) - 1
            self._open.pop(call, None)
            self.tokens -= call.announced
            self.calls -= 1
            call.announced = 0
            call.seconds = 0.0
            call.open = False
            if call.loop is not None:
                self._of_loops[call.loop] = of_loop
                if of_loop <= 0:
                    del self._of_loops[call.loop]

    def announced_work(self) -> list[WaitingWork]:
        """What open calls have not submitted yet."""
        with self._lock:
            return [WaitingWork(call.seconds, call.seconds, call.terms) for call in self._open if call.seconds > 0]

    def waited_for(self, blocked: AbstractEventLoop | None) -> int:
        """Open calls that can still continue.

        Args:
            blocked: an event loop whose thread waits for their end, or None. Closed loops are left out, too.
        """
        with self._lock:
            stuck = [count for loop, count in self._of_loops.items() if loop is blocked or loop.is_closed()]
            return self.calls - sum(stuck)

    def close(self) -> None:
        """Accept nobody any more."""
        with self._lock:
            self._closed = True

    def abandon_after_fork(self) -> None:
        """In a child process: forget a lock that one of the parent's threads may have held."""
        self._lock = threading.RLock()

    def _check_wait(self, longest: float | None, tokens_per_second: float, expected_wait: Callable[[], float]) -> None:
        # Where all that waits is done long before, the calls need not be looked at: the usual case costs nothing.
        if longest is None or self.tokens * _SURE <= longest * tokens_per_second:
            return
        wait = expected_wait()
        if wait <= longest:
            return
        self.refused += 1
        retry = max(_SHORTEST_RETRY, wait - longest)
        raise Overloaded(
            f"this call would wait {wait:.2f} s for calls that go before it; at most {longest:.0f} s are accepted. Try "
            f"again in about {retry:.2f} s",
            retry_after=retry,
            expected_wait=wait,
        )

    def _check_tokens(
        self, tokens: int, most: int | None, tokens_per_second: float, expected_wait: Callable[[], float]
    ) -> None:
        if most is None or not tokens or not self.tokens or self.tokens + tokens <= most:
            return
        self.refused += 1
        excess = min(self.tokens, self.tokens + tokens - most)
        retry = max(_SHORTEST_RETRY, excess / tokens_per_second)
        wait = expected_wait()
        raise Overloaded(
            f"{self.tokens} tokens wait to be scored and this call would add {tokens}; at most {most} may wait "
            f"(max_queue_tokens). It would have waited {wait:.2f} s. Try again in about {retry:.2f} s",
            retry_after=retry,
            expected_wait=wait,
        )
