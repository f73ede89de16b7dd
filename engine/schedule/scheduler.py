"""Many callers, one queue: everything a reranker scores goes through its scheduler.

    callers ──▶ Admission ──▶ commands ──▶ QueueOwner ──▶ Workers ──▶ Executor (sessions)
       ▲                                     │   ▲            │
       └────────── future of the request ◀───┘   └── finished ┘

A scheduler belongs to one process. Its threads start with the first request; they hold none of the objects users
hold, so a reranker that is dropped without `close` ends them.
"""

from __future__ import annotations

import asyncio
import atexit
import itertools
import os
import threading
import time
import weakref
from concurrent.futures import Future
from queue import SimpleQueue
from typing import TYPE_CHECKING

import numpy as np

from crossrank.engine.plan.planner import plan
from crossrank.engine.plan.run_times import RunTimes
from crossrank.engine.schedule.admission import Admission, Bounds
from crossrank.engine.schedule.encoders import Encoders
from crossrank.engine.schedule.ordering import place_of, work_ahead
from crossrank.engine.schedule.queue_commands import Cancel, Close, Command, Recalibrated, Submit, Wake
from crossrank.engine.schedule.queue_owner import QueueOwner
from crossrank.engine.schedule.request import Outcome, new_request
from crossrank.engine.schedule.run_queue import RunQueue
from crossrank.engine.schedule.statistics import Health, Statistics
from crossrank.engine.schedule.workers import Workers
from crossrank.errors import ClosedError

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop
    from collections.abc import Callable

    from crossrank.engine.plan.cost import CostModel
    from crossrank.engine.plan.grouping import Grouping
    from crossrank.engine.runtime.runner import Runner
    from crossrank.engine.schedule.admission import CallRecord
    from crossrank.engine.schedule.request import Terms
    from crossrank.engine.schedule.statistics import BatchObserver, RerankerStats
    from crossrank.engine.text.encoding import EncodedPairs, PairEncoder

_EXIT_SECONDS = 10.0
"""How long the interpreter's end waits for runs in progress: destroying a session under them could crash."""


class Scheduler:
    """Runs the requests of any number of callers on one runner.

    Attributes:
        processors: how many runs go on at once.
        cost: predicts run times.
        times: the predictions corrected by observed times.
        clock: seconds that only grow; deadlines are points on it.
        bounds: what calls are refused for that bring no bounds of their own.
        admission: counts what waits.
        encoders: encode texts, in the order in which runs go.
    """

    def __init__(
        self,
        runner: Runner,
        encoder: PairEncoder,
        *,
        grouping: Grouping,
        max_queue_tokens: int | None = None,
        max_wait: float = 0.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Prepare; threads start with the first request.

        Args:
            runner: runs batches.
            encoder: lays out their arrays.
            grouping: what may share a run.
            max_queue_tokens: tokens that may wait; None for no bound.
            max_wait: seconds an idle worker waits for pairs that make its run fuller.
            clock: seconds that only grow; deadlines are points on it.
        """
        self._grouping = grouping
        self.processors = runner.processors
        self._labels = runner.labels
        self.cost = cost = grouping.cost
        self.clock = clock
        self.times = RunTimes(cost, runner.processors)
        self.bounds = Bounds(tokens=max_queue_tokens)
        self.admission = Admission()
        self.encoders = Encoders(runner.processors, clock)
        self._max_length = encoder.max_length
        self._statistics = Statistics()
        commands: SimpleQueue[Command] = SimpleQueue()
        self._commands = commands
        self._workers = Workers(runner, encoder, commands.put)
        self._owner = QueueOwner(
            RunQueue(
                grouping,
                self.times,
                runner.processors,
                _releases(self.admission),
                splits_runs=runner.splits_runs,
            ),
            self._workers,
            commands=commands,
            times=self.times,
            admission=self.admission,
            statistics=self._statistics,
            max_wait=max_wait,
            clock=clock,
        )
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()
        self._numbers = itertools.count()
        self._abandoned = False
        self._dropped = weakref.finalize(self, commands.put, Close(drain=True))
        self._dropped.atexit = False

    def submit(self, pairs: EncodedPairs, terms: Terms, call: CallRecord, part: float | None) -> Future[Outcome]:
        """Plan pairs and let them wait for their runs; for accepted calls (`AdmittedCall.submit`).

        Args:
            pairs: n pairs of this scheduler's encoder.
            terms: what their caller asks for.
            call: whose.
            part: how many of the seconds that it announced are these; None for all of them.

        Returns:
            A future; cancelling it drops what has not started.
        """
        batches = plan(
            pairs.lengths,
            batching=self._grouping.batching,
            cost=self.cost,
            max_batch_tokens=self._grouping.max_batch_tokens,
            workers=self.processors,
            grid=self._grouping.grid,
        )
        request = new_request(next(self._numbers), pairs, batches, self._labels, terms)
        future, number, commands = request.future, request.number, self._commands
        # The number, not the request: a future that is kept must not keep the tokens.
        future.add_done_callback(lambda done: commands.put(Cancel(number)) if done.cancelled() else None)
        self._start_threads()
        # The owner counts the tokens when it takes the command: nothing is counted that an interrupt keeps from it.
        commands.put(Submit(request, call, part))
        if self._owner.ended:
            self._owner.refuse_everything()
        return future

    def expected_seconds(self, tokens: int, documents: int) -> float:
        """Predicted for the runs of documents with so many tokens together, on one core."""
        if not documents:
            return 0.0
        length = min(max(1.0, tokens / documents), self._max_length)
        cost = self.cost
        row = cost.run + cost.row + length * (cost.token + cost.token_squared * length)
        return max(1.0, tokens / length) * row

    def expected_wait(self, seconds: float, terms: Terms) -> float:
        """Seconds that a call which comes now would wait for those that go before it; runs in progress do not count.

        Args:
            seconds: predicted for its own work, on one core.
            terms: its place in the order.
        """
        waiting = itertools.chain(self._owner.waiting_work(), self.admission.announced_work())
        ahead = work_ahead(place_of(seconds, terms, self.processors), waiting, self.processors)
        return ahead * self.times.factor / self.processors

    def nothing(self) -> Future[Outcome]:
        """The answer to a request without pairs, which costs the queue nothing."""
        future: Future[Outcome] = Future()
        future.set_result(Outcome(np.empty((0, self._labels), np.float32), np.empty(0, np.bool_)))
        return future

    def left(self, call: CallRecord) -> None:
        """A call ended, or submits nothing more."""
        self.admission.leave(call)
        if self.admission.closed:
            self._commands.put(Wake())

    def recalibrate(self, cost: CostModel) -> None:
        """Plan and predict with another cost model."""
        self.cost = cost
        self._commands.put(Recalibrated(cost))

    def observe(self, observer: BatchObserver | None) -> None:
        """Call a function with every run, from a worker's thread; None ends that."""
        self._workers.observer = observer

    def stats(self) -> RerankerStats:
        """Counts since the scheduler was made."""
        return self._statistics.snapshot(
            refused=self.admission.refused,
            waiting=self._owner.unanswered,
            queue_tokens=self.admission.tokens,
            time_factor=self.times.factor,
        )

    def health(self) -> Health:
        """Whether it can score."""
        alive = self._workers.alive()
        started = self._thread is not None
        closed = self.admission.closed
        threads = not started or (alive == self._workers.count and self._owner.broken is None)
        return Health(
            ok=threads and not closed,
            workers=alive,
            workers_wanted=self._workers.count,
            workers_replaced=self._statistics.workers_replaced,
            last_error=self._statistics.last_error if self._owner.broken is None else repr(self._owner.broken),
            closed=closed,
        )

    def close(self, *, drain: bool = True) -> None:
        """Accept no more calls, end the calls in progress, and end the threads.

        Called on an event loop it blocks that loop, so calls that need it to submit more get a ClosedError when it runs
        on.

        Args:
            drain: whether calls in progress get their scores; else they get a ClosedError, and only runs that are in
                progress are waited for.
        """
        self.admission.close()
        with self._lock:
            thread = self._thread
        if thread is not None and not self._abandoned:
            self._commands.put(Close(drain, _loop_of_this_thread()))
            if not self._workers.owns_this_thread():
                thread.join()

    def check_process(self) -> None:
        """Refuse to go on with what began in the parent process, whose threads do not exist here.

        Raises:
            ClosedError: this is a child of fork.
        """
        if self._abandoned:
            raise ClosedError("this call began before the fork, in the parent process; ask again in the child")

    def abandon_after_fork(self) -> None:
        """In a child process: forget the threads, which do not exist here."""
        self._abandoned = True
        self.admission.abandon_after_fork()
        self.encoders.abandon_after_fork()
        self._dropped.detach()

    def _start_threads(self) -> None:
        if self._thread is None:
            with self._lock:
                if self._thread is None:
                    self._workers.start()
                    thread = threading.Thread(
                        target=_own, args=(self._owner, self._workers), name="crossrank-queue", daemon=True
                    )
                    _running[thread] = self._commands
                    thread.start()
                    self._thread = thread


def _loop_of_this_thread() -> AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


def _releases(admission: Admission) -> Callable[[int], None]:
    return lambda tokens: admission.change(-tokens)


_running: dict[threading.Thread, SimpleQueue[Command]] = {}
"""Owners' threads that have not ended, whoever still knows their schedulers."""


def _own(owner: QueueOwner, workers: Workers) -> None:
    """The thread of an owner; it ends after its workers."""
    try:
        owner.loop()
        workers.join()
    finally:
        _running.pop(threading.current_thread(), None)


def _end_with_the_interpreter() -> None:
    """Cancel what waits and let running batches end, before Python and onnxruntime are taken apart under them."""
    for thread, commands in list(_running.items()):
        commands.put(Close(drain=False))
        thread.join(_EXIT_SECONDS)


atexit.register(_end_with_the_interpreter)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_running.clear)
