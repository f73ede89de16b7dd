"""Who waits for a call: a thread, or a coroutine of an event loop.

What a call does is written once, as a generator of what has to be waited for (`call_steps.py`, `scoring.py`). A driver
waits and sends the result in, or throws what went wrong; the generator's own `finally` blocks clean up after both.
"""

from __future__ import annotations

import asyncio
from collections.abc import Generator
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias, TypeVar

from crossrank.engine.schedule.encoders import Encoders, OutOfTime
from crossrank.engine.schedule.request import Outcome, Terms

if TYPE_CHECKING:
    from collections.abc import Callable

    from crossrank.engine.schedule.encoding_pieces import Piece, Pieces

_Result = TypeVar("_Result")


class Encode(NamedTuple):
    """Pieces of encoding, each of which waits for its turn. Ends with `OutOfTime` where the deadline comes first.

    Attributes:
        pieces: the work; its result is sent in.
        terms: of the call.
        scoring_seconds: predicted for its runs; the call's remaining work is that and what is left to encode.
        first: what is predicted of the encoding before it was looked at.
    """

    pieces: Pieces[Any]
    terms: Terms
    scoring_seconds: float
    first: Piece


Steps: TypeAlias = Generator[Encode | Future[Outcome], Any, _Result]
"""A call, or a part of one, that yields what it waits for and returns its result."""


def wait_in_thread(steps: Steps[_Result], encoders: Encoders) -> _Result:
    """Go through all steps in the calling thread, which encodes itself where no deadline could interrupt it."""
    resume: Callable[[Any], Encode | Future[Outcome]] = steps.send
    waits_for: Encode | Future[Outcome] | None = None
    value: Any = None
    try:
        while True:
            waits_for = resume(value)
            try:
                value = encoders.run(*waits_for) if isinstance(waits_for, Encode) else waits_for.result()
                resume = steps.send
            except BaseException as error:
                resume, value = steps.throw, error
    except StopIteration as end:
        result: _Result = end.value
        return result
    finally:
        steps.close()  # where an interrupt came between two steps
        waits_for = value = None  # an error in them would hold this frame, and this frame the error


async def wait_beside_loop(steps: Steps[_Result], encoders: Encoders) -> _Result:
    """`wait_in_thread` for a coroutine: encoder threads encode, and the event loop goes on."""
    resume: Callable[[Any], Encode | Future[Outcome]] = steps.send
    waits_for: Encode | Future[Outcome] | None = None
    value: Any = None
    try:
        while True:
            waits_for = resume(value)
            try:
                if isinstance(waits_for, Encode):
                    value = await _encoded(encoders, waits_for)
                else:
                    value = await asyncio.wrap_future(waits_for)
                resume = steps.send
            except BaseException as error:
                resume, value = steps.throw, error
    except StopIteration as end:
        result: _Result = end.value
        return result
    finally:
        steps.close()
        waits_for = value = None


async def _encoded(encoders: Encoders, work: Encode) -> Any:
    future = encoders.begin(*work)
    waiter = asyncio.wrap_future(future)
    try:
        await asyncio.wait((waiter,), timeout=encoders.seconds_left(work.terms))
        if not waiter.done():
            raise OutOfTime
        return waiter.result()
    finally:
        waiter.cancel()
        future.cancel()
