"""What a call needs of the model that scores it; `LoadedModel` is the one there is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from crossrank.engine.call.candidates import CandidateFinder
    from crossrank.engine.schedule.scheduler import Scheduler


class ScoringModel(Protocol):
    """A model that is ready to score."""

    @property
    def finder(self) -> CandidateFinder:
        """Finds out what of a call has to be scored."""
        ...

    @property
    def documents_at_once(self) -> int | None:
        """Documents encoded while others are scored, in calls without a deadline; None: all are encoded first."""
        ...

    def scheduler(self) -> Scheduler:
        """The scheduler of this process.

        Raises:
            ClosedError: the model was closed.
        """
        ...

    def relevance(self, outputs: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """The model's outputs, float32 (n, labels), to logits, float32 (n,)."""
        ...

    def activated(self, logits: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Logits to scores, float32 (n,) to float32 (n,)."""
        ...
