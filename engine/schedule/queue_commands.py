"""What the threads tell the owner of the queue."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop

    import numpy as np
    import numpy.typing as npt

    from crossrank.engine.plan.cost import CostModel
    from crossrank.engine.schedule.admission import CallRecord
    from crossrank.engine.schedule.request import Request, Run


@dataclass(frozen=True, slots=True)
class Submit:
    """A request came in, of a call that announced work: `part` seconds of it (None: all) are this request's."""

    request: Request
    call: CallRecord
    part: float | None


@dataclass(frozen=True, slots=True)
class Cancel:
    """Nobody waits for a request any more."""

    number: int


@dataclass(frozen=True, slots=True)
class RunFinished:
    """A worker is done with a run: it has outputs, or it failed, or (neither) nobody wanted it any more.

    Outputs and an error at once: some outputs are no numbers. `typical` says whether such runs take so long; the first
    of a shape on a GPU takes longer.
    """

    run: Run
    outputs: npt.NDArray[np.float32] | None
    error: Exception | None
    seconds: float
    typical: bool = True


@dataclass(frozen=True, slots=True)
class WorkerDied:
    """A worker's thread ends for a reason that is no ordinary error."""

    worker: int
    run: Run
    error: BaseException


@dataclass(frozen=True, slots=True)
class Recalibrated:
    """Predictions come from another cost model from now on."""

    cost: CostModel


@dataclass(frozen=True, slots=True)
class Close:
    """Finish (drain) or refuse what waits, then end; without waiting for calls that need a `blocked` event loop."""

    drain: bool
    blocked: AbstractEventLoop | None = None


@dataclass(frozen=True, slots=True)
class Wake:
    """Something outside changed: look whether there is something to do."""


Command: TypeAlias = Submit | Cancel | RunFinished | WorkerDied | Recalibrated | Close | Wake
