"""What the scheduler needs of whatever runs batches."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    import numpy as np
    import numpy.typing as npt

    from crossrank.engine.text.encoding import TokenArrays


class BatchRunner(Protocol):
    """What runs a batch."""

    def run(self, arrays: TokenArrays, *, all_cores: bool = False) -> npt.NDArray[np.float32]:
        """Outputs of a batch, float32 (b, labels); `all_cores` means on all cores, with nothing beside it."""
        ...

    @property
    def typical(self) -> bool:
        """Whether the last run took as long as such runs take; asked by who had the turn."""
        ...


class Runner(BatchRunner, Protocol):
    """What a scheduler runs batches on: an `CpuRunner`, a `DevicePool`, or what a test makes of time and faults."""

    @property
    def workers(self) -> int:
        """Threads that lay out batches and have them run."""
        ...

    @property
    def processors(self) -> int:
        """How many runs go on at once."""
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
        """Wait for a processor, with what such a run needs, so that the run's own time can be taken."""
        ...

    def load_all(self) -> None:
        """Load or capture what would otherwise come at first need."""
        ...

    def close(self) -> None:
        """Free what would not be freed with the object."""
        ...

    def abandon_after_fork(self) -> None:
        """In a child process: leave alone what does not exist here."""
        ...
