"""The interface between the scheduler and whatever runs its batches."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple, Protocol, TypeAlias

from crossrank.engine.text.encoded import TokenArrays

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt


class RunResult(NamedTuple):
    """What a run gave.

    Attributes:
        outputs: float32 (b, labels).
        seconds: what the run alone took, without waiting for a processor and without loading.
        typical: whether later runs of the kind take about as long; the first of a shape on a GPU takes longer.
    """

    outputs: npt.NDArray[np.float32]
    seconds: float
    typical: bool = True


RunBatch: TypeAlias = Callable[[TokenArrays], RunResult]


class Runner(Protocol):
    """A loaded graph that runs batches: on cores (`CpuRunner`), on GPUs (`DevicePool`), or as a test pretends.

    Its methods may be called from any thread. The worker threads that call `run` are the scheduler's; what threads a
    runner needs besides it starts and ends itself.
    """

    @property
    def processors(self) -> int:
        """How many runs execute at once."""
        ...

    @property
    def workers(self) -> int:
        """Threads that keep the processors busy, each assembling a batch and waiting for its run."""
        ...

    @property
    def labels(self) -> int:
        """Columns of the outputs."""
        ...

    @property
    def run_on_all_cores(self) -> RunBatch | None:
        """Like `run`, on all processors at once, while nothing else runs; None where a run takes one processor."""
        ...

    def run(self, arrays: TokenArrays) -> RunResult:
        """Run a batch on a processor, the first that is free.

        Raises:
            InferenceError: onnxruntime failed; a `NoNumberError` has the outputs.
            ClosedError: `close` was called.
        """
        ...

    def load_all(self) -> None:
        """Load or capture everything that would otherwise be loaded or captured at its first use."""
        ...

    def close(self) -> None:
        """Free all sessions, after the runs in progress. May be called twice."""
        ...

    def leak(self) -> None:
        """In a child of `fork`: never destroy native objects, whose threads and devices only exist in the parent."""
        ...
