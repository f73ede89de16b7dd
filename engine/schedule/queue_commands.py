"""What the threads tell the owner of the queue."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop

    from crossrank.engine.plan.cost import CostModel
    from crossrank.engine.runtime.runner import RunResult
    from crossrank.engine.schedule.admission import AdmittedCall
    from crossrank.engine.schedule.request import Request, Run


@dataclass(frozen=True, slots=True)
class Submit:
    """A request came in, of a call that announced work: `part` seconds of it (None: all) are this request's."""

    request: Request
    call: AdmittedCall
    part: float | None


@dataclass(frozen=True, slots=True)
class Cancel:
    """Nobody waits for a request any more."""

    number: int


@dataclass(frozen=True, slots=True)
class RunFinished:
    """A worker is done with a run: it has a result, or it failed, or (neither) nobody wanted it any more.

    A result and an error at once: some outputs are no numbers.
    """

    run: Run
    result: RunResult | None
    error: Exception | None


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
    """Finish (drain) or refuse what waits, then end; for `blocked` and `thread` see `Admission.waited_for`."""

    drain: bool
    blocked: AbstractEventLoop | None = None
    thread: int | None = None


@dataclass(frozen=True, slots=True)
class Wake:
    """Something outside changed: look whether there is something to do."""


Command: TypeAlias = Submit | Cancel | RunFinished | WorkerDied | Recalibrated | Close | Wake
