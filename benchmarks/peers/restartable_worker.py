"""A contender whose process is ended between its turns if it holds much memory, and started again when needed.

Some contenders hold gigabytes after one large call. With all of them loaded at once a machine of ordinary size would
run out of memory, or swap while another contender is timed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from crossrank.benchmarks.harness.workloads import Workload
    from crossrank.benchmarks.peers.worker_process import Loaded, WorkerProcess

LARGEST_IDLE_MIB = 2048.0
"""A process that holds more than this is ended after its turn."""


class RestartableWorker:
    """One contender and its process, until it is closed.

    Attributes:
        loaded: what the contender reported when it loaded first.
        starts: how often a process was started.
    """

    def __init__(
        self, start: Callable[[], tuple[WorkerProcess, Loaded]], *, largest_idle_mib: float = LARGEST_IDLE_MIB
    ) -> None:
        """Start a process and load the contender.

        Args:
            start: starts a process and loads the contender; returns the process and what the contender reported.
            largest_idle_mib: memory that a process may hold between turns.

        Raises:
            WorkerError: the process cannot be started, or the contender cannot be loaded.
        """
        self._start = start
        self._largest_idle_mib = largest_idle_mib
        self._warm_workloads: set[str] = set()
        self._peak_mib = 0.0
        self.starts = 1
        self._worker: WorkerProcess | None
        self._worker, self.loaded = start()

    def prepare(self, workload: Workload) -> None:
        """Start a process if there is none, and send it a workload that is new to it, with one call to warm up.

        Raises:
            WorkerError: the process or the call failed.
        """
        if self._worker is None:
            self._worker, _ = self._start()
            self.starts += 1
        if workload.name not in self._warm_workloads:
            self._worker.send_workload(workload)
            self._worker.time(workload.name)
            self._warm_workloads.add(workload.name)

    def time(self, workload: Workload, *, calls: int = 1) -> list[float]:
        """Make calls one after the other; returns the seconds of each.

        Raises:
            WorkerError: the process or a call failed.
        """
        self.prepare(workload)
        assert self._worker is not None
        return self._worker.time(workload.name, calls=calls)

    def scores(self, workload: Workload) -> list[float]:
        """Scores of a workload's documents, in their order.

        Raises:
            WorkerError: the process or the call failed.
        """
        self.prepare(workload)
        assert self._worker is not None
        return self._worker.scores(workload.name)

    def end_turn(self) -> None:
        """Record the peak of memory, and end the process if it holds too much.

        Raises:
            WorkerError: the process has ended by itself.
        """
        if self._worker is None:
            return
        memory = self._worker.memory()
        self._peak_mib = max(self._peak_mib, memory.peak_mib)
        if memory.resident_mib > self._largest_idle_mib:
            self.close()

    def peak_mib(self) -> float:
        """Peak resident memory of all its processes so far, in MiB.

        Raises:
            WorkerError: the process has ended by itself.
        """
        self.end_turn()
        return self._peak_mib

    def close(self) -> None:
        """End the process, if there is one."""
        worker, self._worker = self._worker, None
        self._warm_workloads.clear()
        if worker is not None:
            worker.close()
