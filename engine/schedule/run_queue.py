"""The waiting requests, and which run to start next. Holds no threads and reads no clock.

A run is chosen only when a worker can take it, so that a small request that comes in between is not behind runs that
were chosen long before.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import islice
from typing import TYPE_CHECKING

from crossrank.engine.plan.makespan import threads_inside_operators
from crossrank.engine.plan.planner import one_batch
from crossrank.engine.schedule.ordering import WaitingRequests
from crossrank.engine.schedule.request import Run

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy as np
    import numpy.typing as npt

    from crossrank.engine.plan.batch_kinds import BatchKind, RunSize
    from crossrank.engine.plan.cost import CostModel
    from crossrank.engine.plan.run_times import RunTimes
    from crossrank.engine.schedule.request import Part, Request

_REQUESTS_LOOKED_AT = 32
_BATCHES_LOOKED_AT = 8
"""How far a run looks for pairs to share it: a candidate costs a microsecond, and nobody far down waits for it."""


TRY_AGAIN_SECONDS = 1.0
"""How long predictions are believed by an idle engine that starts nothing because of them."""


class RunQueue:
    """Requests whose batches wait. For one thread.

    Attributes:
        cut_short: requests that lost batches to their deadline since the list was last emptied.
    """

    def __init__(
        self,
        kind: BatchKind,
        times: RunTimes,
        workers: int,
        release: Callable[[int], None],
        *,
        splits_runs: bool = True,
    ) -> None:
        """Start empty.

        Args:
            kind: which batches may share a run, and how long it takes.
            times: predicts runs, for deadlines.
            workers: runs that go on at once.
            release: called with the tokens that no longer wait.
            splits_runs: whether one run may take all workers.
        """
        self.kind = kind
        self._times = times
        self._workers = workers
        self._release = release
        self._splits_runs = splits_runs
        self._waiting = WaitingRequests(times)
        self._since = 0.0
        self._believed_since: float | None = None
        self.cut_short: list[Request] = []

    def __len__(self) -> int:
        """Requests that wait for runs."""
        return len(self._waiting)

    def recalibrate(self, cost: CostModel) -> None:
        """Predict by another cost model from now on."""
        self.kind = replace(self.kind, cost=cost)

    def add(self, request: Request, now: float) -> None:
        """Let a request wait for runs."""
        if request.batches:
            if self._believed_since is None:
                self._believed_since = now
            if not self._waiting:
                self._since = now
            self._waiting.add(request)

    def drop(self, request: Request) -> None:
        """Forget what of a request has not started."""
        if request.batches:
            self._release(request.drop_batches())
            self._waiting.emptied()

    def retry(self, part: Part, groups: Sequence[npt.NDArray[np.int64]]) -> None:
        """Let pairs of a run that failed wait again; from now on their request shares no runs with others.

        Args:
            part: the pairs of one request in that run.
            groups: which of them are tried together, each int64 (b,).
        """
        request = part.request
        if request.given_up:
            return
        request.apart = True
        waited = bool(request.batches)
        batches = [one_batch(indices, request.pairs.lengths[indices], self.kind) for indices in groups]
        self._release(-request.put_back(batches))
        self._waiting.add_again(request, waited=waited)

    def held_until(self, max_wait: float) -> float | None:
        """When an idle worker should start, if pairs may still come that make the first run fuller; else None.

        Nobody waits for others where a call has a deadline: it would lose its time to pairs that its runs do not take.

        Args:
            max_wait: seconds to wait for other pairs at most.
        """
        if max_wait <= 0 or not self._waiting or not self.kind.shares_runs:
            return None
        if any(request.terms.deadline is not None for request in self._waiting):
            return None
        if sum(request.waiting_tokens for request in self._waiting) >= self.kind.max_batch_tokens:
            return None
        return self._since + max_wait

    def next_run(self, now: float, *, idle: bool) -> Run | None:
        """Take the next run, or None where nothing waits.

        Args:
            now: on the scheduler's clock.
            idle: whether no run is in progress, so that one may take all cores.
        """
        all_cores = idle and self._splits_runs and self._few_enough_for_all_cores()
        while (request := self._waiting.first()) is not None:
            self._skip_what_is_late(request, now, all_cores=all_cores, idle=idle)
            if request.batches:
                return self._start(request, now, all_cores=all_cores)
            self._waiting.emptied()
        return None

    def _skip_what_is_late(self, request: Request, now: float, *, all_cores: bool, idle: bool) -> None:
        """Drop batches that are predicted not to finish by the deadline.

        Predictions learn from runs alone. Where a stall made them so large that nothing is started any more, an idle
        engine starts a batch all the same from time to time, and forgets what it believed.
        """
        if request.terms.deadline is None:
            return
        left = request.terms.deadline - now
        before = len(request.batches)
        while request.batches and self._times.careful(request.batches[0].seconds, all_cores=all_cores) > left:
            if idle and left > 0 and self._believed_for(now) > TRY_AGAIN_SECONDS:
                self._times.forget()
                break
            self._release(request.take().tokens)
        if len(request.batches) < before:
            self.cut_short.append(request)

    def _believed_for(self, now: float) -> float:
        """Seconds since the last run, or the first request, was there to learn from."""
        return 0.0 if self._believed_since is None else now - self._believed_since

    def _start(self, request: Request, now: float, *, all_cores: bool) -> Run:
        self._believed_since = now
        part = request.take()
        self._waiting.batch_taken(request)
        parts = [part]
        size: RunSize = part.batch
        if self.kind.shares_runs and self._waiting:
            for other in self._company(request):
                for index in range(min(_BATCHES_LOOKED_AT, len(other.batches)) - 1, -1, -1):
                    batch = other.batches[index]
                    if not self.kind.may_join(size, batch):
                        continue
                    joined = self.kind.joined(size, batch)
                    if self._pays(size, batch, joined) and self._in_time(other, joined.seconds, now):
                        parts.append(other.take(index))
                        self._waiting.batch_taken(other)
                        size = joined
        for item in parts:
            self._release(item.tokens)
            item.request.in_flight += 1
            if item.request.started is None:
                item.request.started, item.request.all_cores = now, all_cores
        return Run(tuple(parts), size.length, size.seconds, size.run_tokens, all_cores=all_cores)

    def _pays(self, alone: RunSize, other: RunSize, joined: RunSize) -> bool:
        """Whether joining saves the waiting requests more than it costs the one that would have run alone.

        One run instead of two saves a run's fixed cost, minus what padding adds, for every request that waits. The
        request whose turn it is waits longer, because its run has more rows.
        """
        saved = alone.seconds + other.seconds - joined.seconds
        return saved * len(self._waiting) >= joined.seconds - alone.seconds

    def _company(self, request: Request) -> list[Request]:
        """Other requests whose batches may join; none where a deadline leaves no time for more rows."""
        if request.terms.deadline is not None or request.apart:
            return []
        others = islice(self._waiting, _REQUESTS_LOOKED_AT)
        return [other for other in others if other is not request and not other.apart]

    def _in_time(self, request: Request, seconds: float, now: float) -> bool:
        """Whether a run of so many predicted seconds would be done by a request's deadline."""
        deadline = request.terms.deadline
        return deadline is None or now + self._times.careful(seconds) <= deadline

    def _few_enough_for_all_cores(self) -> bool:
        """Whether all that waits would finish sooner one by one on all cores.

        The last run of a request whose others shared the cores stays with them: it would gain little, and might have to
        wait for the session of all cores to be loaded.
        """
        seconds: list[float] = []
        for request in self._waiting:
            if request.started is not None and not request.all_cores:
                return False
            seconds.extend(batch.seconds for batch in request.batches)
            if len(seconds) > 2 * self._workers:
                return False
        return threads_inside_operators(seconds, self._workers, self.kind.cost.operator_efficiency)
