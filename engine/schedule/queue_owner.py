"""The one thread that owns the queue: it takes commands, hands runs to workers, and answers requests.

Nothing else touches waiting requests, so there is no state to lock and no order of locks to get wrong. A command is
a message in a queue; whoever sends one never waits for it.
"""

from __future__ import annotations

import contextlib
import heapq
import time
from concurrent.futures import InvalidStateError
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING

import numpy as np

from crossrank.engine.schedule.ordering import WaitingWork
from crossrank.engine.schedule.queue_commands import (
    Cancel,
    Close,
    Command,
    Recalibrated,
    RunFinished,
    Submit,
    Wake,
    WorkerDied,
)
from crossrank.engine.schedule.run_results import take_failure, take_outputs
from crossrank.errors import ClosedError, CrossrankError, InferenceError

if TYPE_CHECKING:
    from collections.abc import Callable

    from crossrank.engine.plan.run_times import RunTimes
    from crossrank.engine.schedule.admission import Admission
    from crossrank.engine.schedule.request import Request, Run
    from crossrank.engine.schedule.run_queue import RunQueue
    from crossrank.engine.schedule.statistics import FailureKind, Statistics
    from crossrank.engine.schedule.workers import Workers

_LONGEST_WAIT = 3600.0
"""Seconds after which the owner looks again."""
_DRAINING_WAIT = 1.0
"""The same while it waits for the last calls: an event loop that one of them needs may be closed without a word."""
_SPARE_TIMERS = 64
_COMMANDS_AT_ONCE = 64
"""Commands obeyed before runs are handed out again: a flood of requests must not leave the workers idle."""


class QueueOwner:
    """State and loop of the owner's thread.

    Attributes:
        commands: where others put what they have to tell.
        broken: why the thread ended by an error of its own, or None.
        ended: whether the thread has ended; whoever submits after that calls `refuse_everything`.
    """

    def __init__(
        self,
        queue: RunQueue,
        workers: Workers,
        *,
        commands: SimpleQueue[Command],
        times: RunTimes,
        admission: Admission,
        statistics: Statistics,
        max_wait: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Start with nothing waiting.

        Args:
            queue: decides what runs next.
            workers: run it.
            commands: the owner's inbox.
            times: learns from every run.
            admission: bounds what waits; asked whether calls are open when draining.
            statistics: counts everything.
            max_wait: seconds an idle worker waits for a fuller first run.
            clock: seconds that only grow; deadlines are points on it.
        """
        self.commands = commands
        self.broken: BaseException | None = None
        self.ended = False
        self._queue = queue
        self._workers = workers
        self._times = times
        self._admission = admission
        self._statistics = statistics
        self._max_wait = max_wait
        self._clock = clock
        self._requests: dict[int, Request] = {}
        self._timers: list[tuple[float, int]] = []
        self._in_flight = 0
        # Enough ahead that a processor never waits for this thread, few enough that small requests get in between.
        self._most_in_flight = max(workers.count, workers.processors + (workers.processors + 1) // 2)
        self._all_cores_in_flight = False
        self._closing: Close | None = None
        self._obeying: Command | None = None

    def waiting_work(self) -> list[WaitingWork]:
        """What of the requests has not started, as seen from any thread."""
        return [
            WaitingWork(
                request.remaining,
                (request.remaining + request.terms.work_behind) * request.as_expected,
                request.terms,
            )
            for request in list(self._requests.values())
        ]

    @property
    def unanswered(self) -> int:
        """Requests not answered yet, as seen from any thread."""
        return len(self._requests)

    def loop(self) -> None:
        """Obey commands until closed: the thread's target."""
        try:
            while not self._is_over():
                self._obey_all(self._next_timeout())
                now = self._clock()
                self._answer_late_requests(now)
                self._hand_out_runs(now)
        except BaseException as error:  # whoever waits must learn that nobody works
            self.broken = error
        finally:
            self.ended = True
            self.refuse_everything()
            self._workers.stop()

    def refuse_everything(self) -> None:
        """After the thread's end: answer what is here and what came in since, from any thread."""
        command = self._obeying  # the one it broke on
        while True:
            counted = isinstance(command, Submit) and command.request.number in self._requests
            if isinstance(command, Submit) and not counted and not command.request.done:
                self._count(command)
            try:
                command = self.commands.get_nowait()
            except Empty:
                break
        for request in list(self._requests.values()):
            if self.broken is None:
                self._fail(request, _closed(), "closed")
            else:
                error = InferenceError(f"the scheduler failed: {self.broken!r}; make a new reranker")
                self._fail(request, error, "worker")

    def _is_over(self) -> bool:
        if self._closing is None or self._requests or self._in_flight:
            return False
        if not self._closing.drain:
            return True
        # In this order: a call that has left has put its last request into the inbox before.
        waited_for = self._admission.waited_for(self._closing.blocked, self._closing.thread)
        return waited_for == 0 and self.commands.empty()

    def _next_timeout(self) -> float | None:
        """Seconds until something is to be done without a command; None for never."""
        at = self._timers[0][0] if self._timers else None
        held = self._held_until()
        if held is not None and (at is None or held < at):
            at = held
        if at is None:
            return None if self._closing is None else _DRAINING_WAIT
        # Not longer than platforms can wait, whatever a deadline says.
        return min(max(0.0, at - self._clock()), _LONGEST_WAIT if self._closing is None else _DRAINING_WAIT)

    def _held_until(self) -> float | None:
        """When an idle engine starts what waits for others to share its run; None for at once, as while closing."""
        if self._in_flight or self._closing is not None:
            return None
        return self._queue.held_until(self._max_wait)

    def _obey_all(self, timeout: float | None) -> None:
        """Wait for a command, then obey what else there is: what came in together is put in order together."""
        with contextlib.suppress(Empty):
            command = self.commands.get(timeout=timeout)
            for left in range(_COMMANDS_AT_ONCE - 1, -1, -1):
                self._obeying = command
                self._obey(command)
                self._obeying = None
                if left:
                    command = self.commands.get_nowait()

    def _obey(self, command: Command) -> None:
        match command:
            case RunFinished():
                self._run_finished(command)
            case Submit():
                self._count(command)
                self._submitted(command.request)
            case Cancel(number):
                if (gone := self._requests.get(number)) is not None:
                    self._end(gone, "cancelled")
            case WorkerDied():
                self._worker_died(command)
            case Recalibrated(cost):
                self._times.reset(cost)
                self._queue.recalibrate(cost)
            case Close():
                self._close(command)
            case Wake():
                pass

    def _count(self, command: Submit) -> None:
        request = command.request
        self._requests[request.number] = request
        self._admission.submitted(command.call, request.waiting_tokens, command.part)

    def _submitted(self, request: Request) -> None:
        self._statistics.submitted(request.terms.encode_seconds)
        self._queue.add(request, self._clock())
        if self._closing is not None and not self._closing.drain:
            self._fail(request, _closed(), "closed")
            return
        if request.terms.deadline is not None:
            heapq.heappush(self._timers, (request.terms.deadline, request.number))
            if len(self._timers) > 2 * len(self._requests) + _SPARE_TIMERS:
                self._timers = [timer for timer in self._timers if timer[1] in self._requests]
                heapq.heapify(self._timers)
        self._settle(request)

    def _hand_out_runs(self, now: float) -> None:
        held = self._held_until()
        if held is not None and now < held:
            return
        while len(self._queue) and not self._all_cores_in_flight and self._in_flight < self._most_in_flight:
            run = self._queue.next_run(now, idle=self._in_flight == 0)
            if run is None:
                break
            self._in_flight += 1
            self._all_cores_in_flight = run.all_cores
            self._workers.hand_out(run)
        if self._queue.cut_short:
            cut, self._queue.cut_short = self._queue.cut_short, []
            for request in cut:
                self._settle(request)

    def _run_finished(self, finished: RunFinished) -> None:
        run = finished.run
        self._run_ended(run)
        if (result := finished.result) is not None:
            if result.typical:
                self._times.observe(run.seconds, result.seconds, run.tokens, all_cores=run.all_cores)
            self._statistics.run(run.rows, run.tokens, run.run_tokens, result.seconds)
            take_outputs(run, result.outputs, self._queue)
        elif finished.error is not None:
            take_failure(run, finished.error, self._queue)
        else:
            for part in run.parts:
                part.request.in_flight -= 1
        if finished.error is not None:
            self._statistics.last_error = str(finished.error)
        for part in run.parts:
            self._settle(part.request)

    def _worker_died(self, died: WorkerDied) -> None:
        self._run_ended(died.run)
        self._statistics.last_error = f"a worker thread died: {died.error!r}"
        self._statistics.worker_replaced()
        for part in died.run.parts:
            part.request.in_flight -= 1
            error = InferenceError(f"the thread that scored this died of {died.error!r}; it was replaced, try again")
            error.__cause__ = died.error
            self._fail(part.request, error, "worker")
        self._workers.replace(died.worker)

    def _run_ended(self, run: Run) -> None:
        self._in_flight -= 1
        if run.all_cores:
            self._all_cores_in_flight = False

    def _answer_late_requests(self, now: float) -> None:
        while self._timers and self._timers[0][0] <= now:
            _, number = heapq.heappop(self._timers)
            request = self._requests.get(number)
            if request is None or request.terms.deadline is None:
                continue
            self._queue.drop(request)
            last = request.terms.deadline + request.terms.grace
            if request.in_flight and now < last:
                heapq.heappush(self._timers, (last, number))  # what runs now was expected to be done by now
            else:
                self._deliver(request)

    def _settle(self, request: Request) -> None:
        """Answer a request that has nothing waiting and nothing running."""
        if not request.done and not request.batches and not request.in_flight:
            self._deliver(request)

    def _deliver(self, request: Request) -> None:
        request.settle_failures()
        complete = np.count_nonzero(request.scored) + len(request.failed) == len(request.scored)
        # Its caller may have scores of other chunks, so it is told what failed, and decides whether that is an error.
        failure: FailureKind | None = None
        if request.all_runs_failed():
            failure = "inference"
        elif not complete and not request.scored.any():
            failure = "deadline"
        outcome = request.outcome()
        self._end(request, failure, partial=not complete)
        with contextlib.suppress(InvalidStateError):  # cancelled at this moment
            request.future.set_result(outcome)

    def _fail(self, request: Request, error: CrossrankError, kind: FailureKind) -> None:
        if request.done:
            return
        self._end(request, kind)
        with contextlib.suppress(InvalidStateError):  # cancelled at this moment
            request.future.set_exception(error)

    def _end(self, request: Request, failure: FailureKind | None, *, partial: bool = False) -> None:
        """Forget a request; runs of it in progress end by themselves."""
        self._queue.drop(request)
        request.done = True
        self._requests.pop(request.number, None)
        waited = None if request.started is None else request.started - request.terms.arrival
        self._statistics.answer(failure, waited, partial=partial)

    def _close(self, close: Close) -> None:
        if self._closing is None or not close.drain:
            self._closing = close
        if not close.drain:
            for request in list(self._requests.values()):
                self._fail(request, _closed(), "closed")


def _closed() -> ClosedError:
    return ClosedError("the reranker was closed while it scored; make a new one")
