"""Calls that are accepted, and which: by the time that each would wait itself, and by the tokens that wait altogether.

Both are checked before a call costs anything, so a flood of calls cannot pile up in front of the encoder either. Tokens
count until their run starts.
"""

from __future__ import annotations

import threading
import weakref
from typing import TYPE_CHECKING, NamedTuple, Protocol, Self

from crossrank.engine.schedule.ordering import WaitingWork
from crossrank.errors import ClosedError, Overloaded

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop
    from concurrent.futures import Future
    from types import TracebackType

    from crossrank.engine.plan.run_times import RunTimes
    from crossrank.engine.schedule.request import Outcome, Terms
    from crossrank.engine.text.encoded import EncodedPairs

LONGEST_WAIT = 4.0
"""Seconds that a call beside an event loop may wait for others: enough for the bursts of a machine that is 70% busy,
and few callers stay longer."""
QUEUE_TOKENS = 10_000_000
"""Tokens of all callers that may wait there where no number was given: about 100 MB with their texts."""
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


class Queue(Protocol):
    """What a call needs of the scheduler that accepts it."""

    @property
    def admission(self) -> Admission:
        """Counts what waits."""

    def submit(self, pairs: EncodedPairs, terms: Terms, call: AdmittedCall, part: float | None) -> Future[Outcome]:
        """Let pairs wait for their runs."""

    def expected_wait(self, seconds: float, terms: Terms) -> float:
        """Seconds that a call with so much work would wait."""

    def wake(self) -> None:
        """Look whether there is something to do: a call ended that `close` may wait for."""


class AdmittedCall:
    """A call that was accepted: it may submit pairs, also after `close(drain=True)` began. Ends with its `with` block.

    It holds what `Admission` counts of it, which alone changes that.

    Attributes:
        scheduler: that accepted it.
        loop: the event loop without which it cannot continue, or None.
        terms: its place in the order.
        open: whether it was accepted and has not left.
        announced: tokens it is expected to submit still.
        seconds: predicted for those, on one core.
    """

    open = False  # until it is accepted

    def __init__(
        self,
        scheduler: Queue,
        tokens: int = 0,
        *,
        seconds: float = 0.0,
        terms: Terms,
        continues: bool = False,
        loop: AbstractEventLoop | None = None,
    ) -> None:
        """Ask the scheduler to accept a call; use it in a `with` statement.

        Args:
            scheduler: whose queue.
            tokens: tokens that will wait of it, about; corrected by what it submits.
            seconds: predicted for all its work, on one core.
            terms: its place in the order.
            continues: whether it is the rest of a call that was accepted before, and so is not refused.
            loop: the event loop without which it cannot continue: a `close` that blocks this loop does not wait for it.

        Raises:
            Overloaded: it would wait too long; or too many tokens would wait, and some wait already. A call larger
                than that bound is accepted when nothing waits.
            ClosedError: `close` was called, or this is a child of fork and the call began in its parent.
        """
        self.scheduler = scheduler
        self.loop = loop
        self.terms = terms
        self.announced = 0
        self.seconds = 0.0
        self.reference = weakref.ref(self)
        scheduler.admission.enter(self, tokens, seconds, continues=continues)

    def submit(self, pairs: EncodedPairs, terms: Terms) -> Future[Outcome]:
        """As `Scheduler.submit`; its tokens take the place of those announced.

        Of a call that comes in parts (`terms.work_behind`), what is announced for the others continues to count.
        """
        return self.scheduler.submit(pairs, terms, self, terms.expected if terms.work_behind else None)

    def leave(self) -> None:
        """End the call: it submits nothing more. What it has submitted is answered all the same."""
        if self.scheduler.admission.leave(self):
            self.scheduler.wake()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self.open:
            self.leave()

    def __del__(self) -> None:
        """Leave where an interrupt came before the `with` block, or within its end."""
        if self.open:
            self.leave()


class Admission:
    """Counts waiting tokens and open calls. Safe to use from several threads.

    Each change of several counts stands in a row of statements without a call, which CPython does not interrupt for a
    signal: after a KeyboardInterrupt anywhere the counts are right.
    """

    def __init__(self, times: RunTimes, most_tokens: int | None) -> None:
        """Start with nothing waiting.

        Args:
            times: how fast waiting tokens are worked off.
            most_tokens: that may wait; None for the default beside an event loop, and for no bound elsewhere.
        """
        self.bounds = Bounds(tokens=most_tokens)
        self.bounds_beside_loop = Bounds(LONGEST_WAIT, most_tokens or QUEUE_TOKENS)
        self._times = times
        # Reentrant: a call that nobody holds any more leaves from the garbage collector, in whatever thread it runs.
        self._lock = threading.RLock()
        self._closed = self._abandoned = False
        # How many calls need each loop, and the thread that ran it last.
        self._of_loops: dict[AbstractEventLoop, tuple[int, int]] = {}
        self._open: dict[weakref.ref[AdmittedCall], None] = {}
        self.tokens = 0
        self.calls = 0
        self.refused = 0

    @property
    def closed(self) -> bool:
        """Whether no call is accepted any more."""
        return self._closed

    def enter(self, call: AdmittedCall, tokens: int, seconds: float, *, continues: bool) -> None:
        """Accept a call; for arguments and exceptions see `AdmittedCall`."""
        self.check_process()
        with self._lock:
            if self._closed:
                raise ClosedError("this reranker was closed; make a new one")
            if not continues:
                bounds = self.bounds if call.loop is None else self.bounds_beside_loop
                self._check_wait(call, seconds, bounds.seconds)
                self._check_tokens(call, tokens, seconds, bounds.tokens)
            count = 0 if call.loop is None else self._of_loops.get(call.loop, (0, 0))[0]
            of_loop = (count + 1, threading.get_ident())
            self._open[call.reference] = None
            self.tokens += tokens
            self.calls += 1
            call.announced = tokens
            call.seconds = seconds
            call.open = True
            if call.loop is not None:
                self._of_loops[call.loop] = of_loop

    def submitted(self, call: AdmittedCall, waiting: int, part: float | None) -> None:
        """Count what a call has submitted, in place of what it announced.

        Args:
            call: whose.
            waiting: tokens that wait now.
            part: how many of the announced seconds that was; None for all of them.
        """
        with self._lock:
            if part is None or part >= call.seconds:
                taken, seconds = call.announced, 0.0
            else:
                taken, seconds = round(call.announced * part / call.seconds), call.seconds - part
            self.tokens += waiting - taken
            call.announced -= taken
            call.seconds = seconds

    def change(self, tokens: int) -> None:
        """Correct the waiting tokens by a difference."""
        with self._lock:
            self.tokens += tokens

    def leave(self, call: AdmittedCall) -> bool:
        """Account for a call's end, and for what it announced and has not submitted; a second time does nothing.

        Returns:
            Whether somebody may wait for it, because no calls are accepted any more.
        """
        with self._lock:
            if not call.open:
                return self._closed
            count, thread = (1, 0) if call.loop is None else self._of_loops.get(call.loop, (1, 0))
            of_loop = (count - 1, thread)
            self._open.pop(call.reference, None)
            self.tokens -= call.announced
            self.calls -= 1
            call.announced = 0
            call.seconds = 0.0
            call.open = False
            if call.loop is not None:
                self._of_loops[call.loop] = of_loop
                if count <= 1:
                    del self._of_loops[call.loop]
            return self._closed

    def announced_work(self) -> list[WaitingWork]:
        """What open calls have not submitted yet."""
        with self._lock:
            calls = [call for reference in self._open if (call := reference()) is not None]
            return [WaitingWork(call.seconds, call.seconds, call.terms) for call in calls if call.seconds > 0]

    def waited_for(self, blocked: AbstractEventLoop | None, thread: int | None = None) -> int:
        """Open calls that can still continue: not those of a closed loop, or of one that a waiting thread would run.

        Args:
            blocked: an event loop whose thread waits for their end, or None.
            thread: the number of a thread that waits for their end; it runs no loop meanwhile that it ran last and that
                has stopped. None for no thread.
        """
        with self._lock:
            stuck = [
                count
                for loop, (count, ran_in) in self._of_loops.items()
                if loop is blocked or loop.is_closed() or (ran_in == thread and not loop.is_running())
            ]
            return self.calls - sum(stuck)

    def close(self) -> None:
        """Accept nobody any more."""
        with self._lock:
            self._closed = True

    def check_process(self) -> None:
        """Refuse to go on with what began in the parent process, whose threads do not exist here.

        Raises:
            ClosedError: this is a child of fork.
        """
        if self._abandoned:
            raise ClosedError("this call began before the fork, in the parent process; ask again in the child")

    def abandon_after_fork(self) -> None:
        """In a child process: accept nobody, and forget a lock that one of the parent's threads may have held."""
        self._abandoned = True
        self._lock = threading.RLock()

    def _check_wait(self, call: AdmittedCall, seconds: float, longest: float | None) -> None:
        # Where all that waits is done long before, the calls need not be looked at: the usual case costs nothing.
        if longest is None or self.tokens * _SURE <= longest * self._times.tokens_per_second:
            return
        wait = call.scheduler.expected_wait(seconds, call.terms)
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

    def _check_tokens(self, call: AdmittedCall, tokens: int, seconds: float, most: int | None) -> None:
        if most is None or not tokens or not self.tokens or self.tokens + tokens <= most:
            return
        self.refused += 1
        excess = min(self.tokens, self.tokens + tokens - most)
        retry = max(_SHORTEST_RETRY, excess / self._times.tokens_per_second)
        wait = call.scheduler.expected_wait(seconds, call.terms)
        raise Overloaded(
            f"{self.tokens} tokens wait to be scored and this call would add {tokens}; at most {most} may wait "
            f"(max_queue_tokens). It would have waited {wait:.2f} s. Try again in about {retry:.2f} s",
            retry_after=retry,
            expected_wait=wait,
        )
