"""Many callers, one queue: everything a reranker scores goes through its scheduler.

    callers ─▶ Admission ─▶ Encoders (encode, plan) ─▶ commands ─▶ QueueOwner ─▶ Workers ─▶ Runner (sessions)
       ▲                                                             │   ▲            │
       └──────────────────── future of the request ◀─────────────────┘   └── finished ┘

A scheduler belongs to one process. Its threads start with the first request; they hold none of the objects users
hold, so a reranker that is dropped without `close` ends them.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import threading
import time
import weakref
from dataclasses import replace
from functools import partial
from queue import SimpleQueue
from typing import TYPE_CHECKING

from crossrank.engine import process
from crossrank.engine.plan.planner import plan
from crossrank.engine.plan.run_times import RunTimes
from crossrank.engine.schedule.admission import Admission
from crossrank.engine.schedule.encoders import Encoders
from crossrank.engine.schedule.ordering import place_of, work_ahead
from crossrank.engine.schedule.queue_commands import Cancel, Close, Command, Recalibrated, Submit, Wake
from crossrank.engine.schedule.queue_owner import QueueOwner
from crossrank.engine.schedule.request import Outcome, new_request
from crossrank.engine.schedule.run_queue import RunQueue
from crossrank.engine.schedule.statistics import Health, Statistics
from crossrank.engine.schedule.workers import Workers

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop
    from collections.abc import Callable
    from concurrent.futures import Future

    from crossrank.engine.plan.batch_kinds import BatchKind
    from crossrank.engine.plan.cost import CostModel
    from crossrank.engine.runtime.runner import Runner
    from crossrank.engine.schedule.admission import AdmittedCall
    from crossrank.engine.schedule.request import Terms
    from crossrank.engine.schedule.statistics import BatchObserver, RerankerStats
    from crossrank.engine.text.encoded import EncodedPairs
    from crossrank.engine.text.encoding import PairEncoder


class Scheduler:
    """Runs the requests of any number of callers on one runner.

    Attributes:
        processors: how many runs go on at once.
        times: the predictions corrected by observed times.
        clock: seconds that only grow; deadlines are points on it.
        admission: counts what waits.
        encoders: encode texts, in the order in which runs go.
    """

    def __init__(
        self,
        runner: Runner,
        encoder: PairEncoder,
        *,
        kind: BatchKind,
        max_queue_tokens: int | None = None,
        max_wait: float = 0.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Prepare; threads start with the first request.

        Args:
            runner: runs batches; closed when the scheduler has ended.
            encoder: lays out their arrays.
            kind: what may share a run.
            max_queue_tokens: tokens that may wait; None for the defaults of `Admission`.
            max_wait: seconds an idle worker waits for pairs that make its run fuller.
            clock: seconds that only grow; deadlines are points on it.
        """
        self._kind = kind
        self.processors = runner.processors
        self._runner = runner
        self.clock = clock
        self.times = RunTimes(kind.cost, runner.processors)
        self.admission = Admission(self.times, max_queue_tokens)
        self.encoders = Encoders(self.times, clock)
        self._max_length = encoder.max_length
        self._statistics = Statistics()
        commands: SimpleQueue[Command] = SimpleQueue()
        self._commands = commands
        self._workers = Workers(runner, encoder, commands.put)
        self._owner = QueueOwner(
            RunQueue(
                kind,
                self.times,
                runner.processors,
                _releases(self.admission),
                splits_runs=runner.run_on_all_cores is not None,
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
        self._process = os.getpid()
        process.bind(self)
        self._dropped = weakref.finalize(self, commands.put, Close(drain=True))
        self._dropped.atexit = False

    @property
    def cost(self) -> CostModel:
        """Predicts run times."""
        return self._kind.cost

    def submit(self, pairs: EncodedPairs, terms: Terms, call: AdmittedCall, part: float | None) -> Future[Outcome]:
        """Plan pairs and let them wait for their runs; for accepted calls (`AdmittedCall.submit`).

        Args:
            pairs: n pairs of this scheduler's encoder.
            terms: what their caller asks for.
            call: whose.
            part: how many of the seconds that it announced are these; None for all of them.

        Returns:
            A future; cancelling it drops what has not started.
        """
        batches = plan(pairs.lengths, self._kind, self.processors)
        request = new_request(next(self._numbers), pairs, batches, self._runner.labels, terms)
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
        return max(1.0, tokens / length) * self.cost.seconds(1, length)

    def expected_wait(self, seconds: float, terms: Terms) -> float:
        """Seconds that a call which comes now would wait for those that go before it; runs in progress do not count.

        Args:
            seconds: predicted for its own work, on one core.
            terms: its place in the order.
        """
        waiting = itertools.chain(self._owner.waiting_work(), self.admission.announced_work())
        ahead = work_ahead(place_of(seconds, terms, self.times), waiting, self.times)
        return ahead * self.times.factor / self.processors

    def wake(self) -> None:
        """Let the owner look whether there is something to do: a call ended that `close` may wait for."""
        self._commands.put(Wake())

    def recalibrate(self, cost: CostModel) -> None:
        """Plan and predict with another cost model."""
        self._kind = replace(self._kind, cost=cost)
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
        """Accept no more calls, end the calls in progress, end the threads, and close the runner.

        Called on an event loop, or in the thread of one that has stopped, it blocks that loop, so calls that need it to
        submit more get a ClosedError when it runs on.

        Args:
            drain: whether calls in progress get their scores; else they get a ClosedError, and only runs that are in
                progress are waited for.
        """
        self.admission.close()
        if os.getpid() != self._process:
            return
        self._commands.put(Close(drain, _loop_of_this_thread(), threading.get_ident()))
        with self._lock:
            thread = self._thread
        if thread is None:
            if not self.admission.calls:  # else the first request of one of them starts the threads
                self._runner.close()
        elif not self._workers.owns_this_thread():
            thread.join()

    def forget_after_fork(self) -> None:
        """In a child process: forget the threads, which do not exist here."""
        self.admission.abandon_after_fork()
        self.encoders.abandon_after_fork()
        self._dropped.detach()

    def _start_threads(self) -> None:
        if self._thread is None:
            with self._lock:
                if self._thread is None:
                    self._workers.start()
                    work = partial(_own, self._owner, self._workers, self._runner)
                    end = partial(self._commands.put, Close(drain=False))
                    self._thread = process.start_thread("crossrank-queue", work, end)


def _loop_of_this_thread() -> AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


def _releases(admission: Admission) -> Callable[[int], None]:
    return lambda tokens: admission.change(-tokens)


def _own(owner: QueueOwner, workers: Workers, runner: Runner) -> None:
    """The thread of an owner; it ends after its workers, when nothing can run any more."""
    owner.loop()
    workers.join()
    runner.close()
