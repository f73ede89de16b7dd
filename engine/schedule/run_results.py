"""What a run gave, handed to the requests whose pairs were in it; what fails is narrowed down to single pairs.

A run that fails is tried again in parts: first each request's pairs by themselves, then halves of them, down to one
pair. So one bad document costs its pair and nobody else. Holds no threads and reads no clock.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from crossrank.engine.runtime.session import NO_NUMBER_CAUSES
from crossrank.engine.schedule.request import FailedPair
from crossrank.errors import CrossrankError, InferenceError

if TYPE_CHECKING:
    import numpy.typing as npt

    from crossrank.engine.schedule.request import Request, Run
    from crossrank.engine.schedule.run_queue import RunQueue

GIVE_UP_AFTER = 16
"""Pairs of a request that failed alone, with none scored, after which the engine is at fault and not the documents."""


def take_outputs(run: Run, outputs: npt.NDArray[np.float32], queue: RunQueue) -> None:
    """Give the requests of a run their outputs; a pair without a number is tried again alone before it is blamed.

    Args:
        run: finished.
        outputs: float32 (rows, labels).
        queue: where pairs wait that are tried again.
    """
    valid = np.logical_and.reduce(np.isfinite(outputs), axis=1)
    start = 0
    for part in run.parts:
        request, end = part.request, start + len(part.indices)
        own, rows = valid[start:end], outputs[start:end]
        start = end
        request.in_flight -= 1
        if request.done:
            continue
        if own.all():
            request.outputs[part.indices] = rows
            request.scored[part.indices] = True
            continue
        request.outputs[part.indices[own]] = rows[own]
        request.scored[part.indices[own]] = True
        if run.rows == 1:
            request.failed[int(part.indices[0])] = FailedPair(_no_number(rows), in_run=False)
        else:
            queue.retry(part, [np.asarray([index]) for index in part.indices[~own]])


def take_failure(run: Run, error: Exception, queue: RunQueue) -> None:
    """Try the pairs of a run that failed again in smaller parts; of a single pair, keep the error.

    Args:
        run: failed.
        error: why.
        queue: where pairs wait that are tried again.
    """
    wanted = [part for part in run.parts if not part.request.done]
    for part in run.parts:
        part.request.in_flight -= 1
    for part in wanted:
        pairs = len(part.indices)
        if len(wanted) > 1:
            queue.retry(part, [part.indices])
        elif pairs > 1:
            queue.retry(part, [part.indices[: pairs // 2], part.indices[pairs // 2 :]])
        else:
            _pair_failed(part.request, int(part.indices[0]), error, queue)


def own_error(error: Exception) -> CrossrankError:
    """The error of a run as its caller gets it: a copy of its own, because raising one writes into it."""
    if isinstance(error, CrossrankError):
        own: CrossrankError = type(error)(*error.args)
        own.__cause__ = error.__cause__
        return own
    wrapped = InferenceError(f"a run failed: {error!r}")
    wrapped.__cause__ = error
    return wrapped


def _pair_failed(request: Request, index: int, error: Exception, queue: RunQueue) -> None:
    request.failed[index] = FailedPair(own_error(error), in_run=True)
    if len(request.failed) >= GIVE_UP_AFTER and not request.scored.any():
        request.given_up = True
        queue.drop(request)


def _no_number(outputs: npt.NDArray[np.float32]) -> InferenceError:
    kind = "NaN" if np.isnan(outputs).any() else "infinity"
    return InferenceError(f"the model gave a score that is no number ({kind}) for this pair; {NO_NUMBER_CAUSES}")
