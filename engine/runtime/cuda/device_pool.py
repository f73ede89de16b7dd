"""Several GPUs as one runner: each run goes to whichever is free. Not run on a GPU yet."""

from __future__ import annotations

from queue import SimpleQueue
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from crossrank.engine.runtime.cuda.grid_runner import GridRunner
    from crossrank.engine.runtime.runner import RunResult
    from crossrank.engine.text.encoded import TokenArrays

_THREADS_PER_DEVICE = 2
"""One waits for the run on the device while the other assembles the next batch."""


class DevicePool:
    """A runner for each device, as one runner.

    Attributes:
        runners: one per device.
        processors: how many runs execute at once: one per device.
        workers: threads that assemble batches and wait for their runs.
        labels: columns of the outputs.
        run_on_all_cores: None, because a run takes one device.
    """

    run_on_all_cores = None

    def __init__(self, runners: Sequence[GridRunner], labels: int) -> None:
        """Make a pool of loaded runners, which it then owns.

        Args:
            runners: one per device, at least one.
            labels: columns of the outputs.
        """
        self.runners = tuple(runners)
        self.processors = len(self.runners)
        self.workers = _THREADS_PER_DEVICE * self.processors
        self.labels = labels
        self._free: SimpleQueue[GridRunner] = SimpleQueue()
        for runner in self.runners:
            self._free.put(runner)

    def run(self, arrays: TokenArrays) -> RunResult:
        """Run a batch on the first device that is free, and wait for it.

        Raises:
            InferenceError: onnxruntime failed.
            ClosedError: `close` was called.
        """
        runner = self._free.get()
        try:
            return runner.run(arrays)
        finally:
            self._free.put(runner)

    def load_all(self) -> None:
        """Capture all shapes on every device.

        Raises:
            InferenceError: onnxruntime failed.
        """
        for runner in self.runners:
            runner.load_all()

    def close(self) -> None:
        """Free the devices' graphs, buffers and sessions."""
        for runner in self.runners:
            runner.close()

    def leak(self) -> None:
        """In a forked child, where CUDA does not work: never destroy the parent's sessions and buffers."""
        for runner in self.runners:
            runner.leak()

    def captured(self) -> str:
        """A line for people: how many shapes are captured, or why none is."""
        reasons = {runner.not_captured_because for runner in self.runners} - {None}
        if reasons:
            return f"not captured: {', '.join(sorted(str(reason) for reason in reasons))}"
        if not all(runner.capture for runner in self.runners):
            return "off"
        first = self.runners[0]
        counts = ", ".join(str(len(runner.graph_ids)) for runner in self.runners)
        summary = f"{counts} of {min(first.most_shapes, len(first.grid.shapes()))} shapes captured"
        failures = [reason for runner in self.runners for reason in runner.failed.values()]
        return f"{summary}; {len(failures)} without, because runs failed: {failures[0]}" if failures else summary
