"""The two drivers of a call: what its steps wait for comes back to them, whatever it is."""

import asyncio
import time
from concurrent.futures import CancelledError, Future

import pytest
from fake_runner import COST

from crossrank.engine.call.drivers import Encode, wait_beside_loop, wait_in_thread
from crossrank.engine.plan.run_times import RunTimes
from crossrank.engine.schedule.encoders import Encoders, OutOfTime
from crossrank.engine.schedule.encoding_pieces import Piece
from crossrank.engine.schedule.request import Terms

PIECE = Piece(0.0)


def in_thread(steps):
    return wait_in_thread(steps, Encoders(RunTimes(COST, workers=2), time.monotonic))


def beside_loop(steps):
    return asyncio.run(wait_beside_loop(steps, Encoders(RunTimes(COST, workers=2), time.monotonic)))


@pytest.fixture(params=[in_thread, beside_loop])
def drive(request):
    return request.param


def encode(work, deadline=None):
    def pieces():
        yield PIECE
        return work()

    return Encode(pieces(), Terms(arrival=0.0, deadline=deadline), 0.0, PIECE)


def done(result=None, error=None):
    future = Future()
    if error is None:
        future.set_result(result)
    else:
        future.set_exception(error)
    return future


def test_results_are_sent_in_and_the_last_one_is_returned(drive):
    def steps():
        encoded = yield encode(lambda: "encoded")
        scored = yield done("scored")
        return encoded, scored

    assert drive(steps()) == ("encoded", "scored")


@pytest.mark.parametrize("fails", [lambda error: done(error=error), lambda error: encode(lambda: [][error])])
def test_an_error_is_raised_where_the_steps_wait_and_may_be_answered_there(drive, fails):
    def steps(answered):
        try:
            yield fails(ValueError("no"))
        except (ValueError, TypeError):
            if not answered:
                raise
        return (yield done("went on"))

    assert drive(steps(answered=True)) == "went on"
    with pytest.raises((ValueError, TypeError)):
        drive(steps(answered=False))


def test_a_deadline_during_encoding_is_told_to_the_steps(drive):
    def steps():
        try:
            yield encode(lambda: time.sleep(0.2), deadline=time.monotonic() + 0.02)
        except OutOfTime:
            return "late"

    assert drive(steps()) == "late"


def test_a_caller_who_is_interrupted_or_cancelled_ends_the_steps():
    ended = []

    def steps(future):
        try:
            yield future
        finally:
            future.cancel()
            ended.append(future.cancelled())

    interrupted = Future()
    interrupted.result = lambda: (_ for _ in ()).throw(KeyboardInterrupt)
    with pytest.raises(KeyboardInterrupt):
        in_thread(steps(interrupted))

    async def main():
        task = asyncio.create_task(
            wait_beside_loop(steps(Future()), Encoders(RunTimes(COST, workers=2), time.monotonic))
        )
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises((asyncio.CancelledError, CancelledError)):
            await task

    asyncio.run(main())
    assert ended == [True, True]
