"""A call that was accepted, from its first moment to its end."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

from crossrank.engine.schedule.admission import Bounds, CallRecord
from crossrank.engine.schedule.request import Terms

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop
    from concurrent.futures import Future
    from types import TracebackType

    from crossrank.engine.schedule.request import Outcome
    from crossrank.engine.schedule.scheduler import Scheduler
    from crossrank.engine.text.encoding import EncodedPairs


class AdmittedCall:
    """A call that was accepted: it may submit pairs, also after `close(drain=True)` began. Ends with its `with` block.

    Attributes:
        scheduler: that accepted it.
        seconds: predicted for its runs when it was accepted, on one core.
    """

    _record = CallRecord()  # of nobody, until it is accepted

    def __init__(
        self,
        scheduler: Scheduler,
        tokens: int = 0,
        *,
        seconds: float = 0.0,
        terms: Terms | None = None,
        bounds: Bounds | None = None,
        continues: bool = False,
        loop: AbstractEventLoop | None = None,
    ) -> None:
        """Ask the scheduler to accept a call; use it in a `with` statement.

        Args:
            scheduler: whose queue.
            tokens: tokens that will wait of it, as far as known; corrected by what it submits.
            seconds: predicted for all its work, on one core.
            terms: its place in the order; None for those of a call that begins now.
            bounds: what it is refused for; None takes the scheduler's.
            continues: whether it is the rest of a call that was accepted before, and so is not refused.
            loop: the event loop without which it cannot continue: a `close` that blocks this loop does not wait for it.

        Raises:
            Overloaded: it would wait too long, or too much waits already.
            ClosedError: `close` was called, or this is a child of fork and the call began in its parent.
        """
        scheduler.check_process()
        self.scheduler = scheduler
        self.seconds = seconds
        self._bounds = scheduler.bounds if bounds is None else bounds
        self._record = CallRecord(loop, Terms(arrival=scheduler.clock()) if terms is None else terms)
        scheduler.admission.enter(
            self._record,
            tokens,
            seconds,
            bounds=self._bounds,
            tokens_per_second=scheduler.times.tokens_per_second,
            expected_wait=self._expected_wait,
            continues=continues,
        )

    def announce(self, tokens: int) -> None:
        """Say how many tokens it will submit, where that was not known when it was accepted.

        Raises:
            Overloaded: too much waits already.
        """
        self.scheduler.admission.announce(
            self._record,
            tokens,
            bounds=self._bounds,
            tokens_per_second=self.scheduler.times.tokens_per_second,
            expected_wait=self._expected_wait,
        )

    def submit(self, pairs: EncodedPairs, terms: Terms) -> Future[Outcome]:
        """As `Scheduler.submit`; its tokens take the place of those announced. No pairs are answered at once.

        Of a call that comes in parts (`terms.work_behind`), what is announced for the others continues to count.
        """
        part = terms.expected if terms.work_behind else None
        if not len(pairs):
            self.scheduler.admission.submitted(self._record, 0, part)
            return self.scheduler.nothing()
        return self.scheduler.submit(pairs, terms, self._record, part)

    def leave(self) -> None:
        """End the call: it submits nothing more. What it has submitted is answered all the same."""
        self.scheduler.left(self._record)

    def _expected_wait(self) -> float:
        return self.scheduler.expected_wait(self.seconds, self._record.terms)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.leave()

    def __del__(self) -> None:
        """Leave where an interrupt came before the `with` block, or within its end."""
        if self._record.open:
            self.leave()
