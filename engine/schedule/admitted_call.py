"""A call that was let into the queue, from its first moment to its end."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

from crossrank.engine.schedule.admission import Ticket

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop
    from concurrent.futures import Future
    from types import TracebackType

    from crossrank.engine.schedule.request import Outcome, Terms
    from crossrank.engine.schedule.scheduler import Scheduler
    from crossrank.engine.text.encoding import EncodedPairs


class AdmittedCall:
    """A call that was let in: it may submit pairs, also after `close(drain=True)` began. Ends with its `with` block.

    Attributes:
        scheduler: that let it in.
    """

    _ticket = Ticket()  # of nobody, until it is let in

    def __init__(
        self,
        scheduler: Scheduler,
        tokens: int = 0,
        *,
        queue_seconds: float | None = None,
        goes_on: bool = False,
        loop: AbstractEventLoop | None = None,
    ) -> None:
        """Let a call into the queue; use it in a `with` statement.

        Args:
            scheduler: whose queue.
            tokens: tokens it will let wait, as far as known; corrected by what it submits.
            queue_seconds: bounds what waits to so many seconds of work, where no number of tokens was fixed.
            goes_on: whether it is the rest of a call that was let in before, and so is not refused for overload.
            loop: the event loop that it needs to go on: a `close` that blocks this loop does not wait for it.

        Raises:
            Overloaded: too much waits already.
            ClosedError: `close` was called, or this is a child of fork and the call began in its parent.
        """
        scheduler.check_process()
        self.scheduler = scheduler
        self._queue_seconds = queue_seconds
        self._ticket = Ticket(loop)
        scheduler.admission.enter(
            self._ticket,
            tokens,
            tokens_per_second=scheduler.times.tokens_per_second,
            queue_seconds=queue_seconds,
            goes_on=goes_on,
        )

    def announce(self, tokens: int) -> None:
        """Tell how many tokens it will submit, where that was not known when it was let in.

        Raises:
            Overloaded: too much waits already.
        """
        self.scheduler.admission.announce(
            self._ticket,
            tokens,
            tokens_per_second=self.scheduler.times.tokens_per_second,
            queue_seconds=self._queue_seconds,
        )

    def submit(self, pairs: EncodedPairs, terms: Terms) -> Future[Outcome]:
        """As `Scheduler.submit`; its tokens take the place of those announced. No pairs are answered at once.

        Of a call that comes in parts (`terms.work_behind`), what is announced for the others goes on to count.
        """
        part = int(pairs.lengths.sum()) if terms.work_behind else None
        if not len(pairs):
            self.scheduler.admission.submitted(self._ticket, 0, part)
            return self.scheduler.nothing()
        return self.scheduler.submit(pairs, terms, self._ticket, part)

    def leave(self) -> None:
        """End the call: it submits nothing more. What it has submitted is answered all the same."""
        self.scheduler.left(self._ticket)

    def __enter__(self) -> Self:
        """Nothing more to do: it was let in when it was made."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """The call is over."""
        self.leave()

    def __del__(self) -> None:
        """Leave where an interrupt came before the `with` block, or within its end."""
        if self._ticket.inside:
            self.leave()
