"""A contender's process between its turns: kept where that costs little, ended and started again where it does not.

Some contenders hold gigabytes after one large call. With all of them loaded at once a machine of ordinary size would
kill one, or swap under those that are timed.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any, Self

from crossrank.benchmarks.peers.worker_process import WorkerError

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from crossrank.benchmarks.harness.workloads import Workload
    from crossrank.benchmarks.peers.worker_process import WorkerProcess

LARGEST_IDLE_MIB = 2048.0
"""A process that holds more than this is ended after its turn."""


class HeldWorker:
    """Gives turns to one contender. A context manager: leaving it ends the process.

    Attributes:
        load: what the first load said: its seconds, versions and scale.
        starts: how often a process was started.
    """

    def __init__(
        self, start: Callable[[], tuple[WorkerProcess, dict[str, Any]]], *, largest_idle_mib: float = LARGEST_IDLE_MIB
    ) -> None:
        """Start a process and load the contender.

        Args:
            start: starts a process and loads the contender; gives it with what its load said.
            largest_idle_mib: what a process may hold between turns.

        Raises:
            WorkerError: it cannot be started, or not be loaded.
        """
        self._start = start
        self._largest_idle_mib = largest_idle_mib
        self._told: set[str] = set()
        self._peak_mib = 0.0
        self.starts = 1
        self._worker: WorkerProcess | None
        self._worker, self.load = start()

    def get_ready(self, workload: Workload) -> None:
        """Have a process that knows a workload; one that does not yet makes a call that does not count.

        Raises:
            WorkerError: the process or the call failed.
        """
        if self._worker is None:
            self._worker, _ = self._start()
            self.starts += 1
        if workload.name not in self._told:
            self._worker.tell(workload)
            self._worker.warm_up(workload.name)
            self._told.add(workload.name)

    def time(self, workload: Workload, *, calls: int = 1) -> list[float]:
        """Seconds of calls made now, one after the other, on a process that is ready.

        Raises:
            WorkerError: the process or a call failed.
        """
        self.get_ready(workload)
        assert self._worker is not None
        return self._worker.time(workload.name, calls=calls)

    def scores(self, workload: Workload) -> list[float]:
        """Scores of a workload's documents, in their order.

        Raises:
            WorkerError: the process or the call failed.
        """
        self.get_ready(workload)
        assert self._worker is not None
        return self._worker.scores(workload.name)

    def rest(self) -> None:
        """End a turn: note the memory, and end the process where it holds too much.

        Raises:
            WorkerError: the process is gone.
        """
        if self._worker is None:
            return
        peak, resident = self._worker.memory_mib()
        self._peak_mib = max(self._peak_mib, peak)
        if resident > self._largest_idle_mib:
            self.close()

    def peak_mib(self) -> float:
        """Peak resident memory of all its processes so far, in MiB.

        Raises:
            WorkerError: the process is gone.
        """
        self.rest()
        return self._peak_mib

    def close(self) -> None:
        """End the process, if there is one."""
        worker, self._worker = self._worker, None
        self._told.clear()
        if worker is not None:
            worker.close()

    def __enter__(self) -> Self:
        """Use as a context manager."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """End the process."""
        with suppress(WorkerError):
            self.close()
