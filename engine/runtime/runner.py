"""The interface between the scheduler and whatever runs its batches."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    import numpy as np
    import numpy.typing as npt

    from crossrank.engine.text.encoding import TokenArrays


class BatchRunner(Protocol):
    """Runs a batch."""

    def run(self, arrays: TokenArrays, *, all_cores: bool = False) -> npt.NDArray[np.float32]:
        """Outputs of a batch, float32 (b, labels); with `all_cores` one run uses all cores and nothing else runs."""
        ...

    @property
    def typical(self) -> bool:
        """Whether the last run's time says something about later runs; read by the thread that holds the turn."""
        ...


class Runner(BatchRunner, Protocol):
    """What a scheduler runs batches on: a `CpuRunner`, a `DevicePool`, or a test's simulation of time and faults."""

    @property
    def workers(self) -> int:
        """Threads that assemble batches and run them."""
        ...

    @property
    def processors(self) -> int:
        """How many runs execute at once."""
        ...

    @property
    def splits_runs(self) -> bool:
        """Whether one run may take all processors (`all_cores`)."""
        ...

    @property
    def labels(self) -> int:
        """Columns of the outputs."""
        ...

    def turn(self, *, all_cores: bool = False) -> AbstractContextManager[BatchRunner]:
        """Wait for a free processor and load what the run needs, so that the run alone can be timed."""
        ...

    def load_all(self) -> None:
        """Load or capture everything that would otherwise be loaded or captured at its first use."""
        ...

    def close(self) -> None:
        """Free what garbage collection of the object would not free."""
        ...

    def abandon_after_fork(self) -> None:
        """In a forked child: never destroy native objects that only work in the parent."""
        ...
