"""The thread of a device: work in order, errors raised in the caller, and a stop that always ends it."""

import gc
import threading
import weakref

import pytest

from crossrank.engine.runtime.cuda.device_thread import DeviceThread
from crossrank.errors import ClosedError


def test_everything_is_done_in_one_other_thread_in_order():
    thread, done = DeviceThread("device", int), []
    for number in range(10):
        assert (
            thread.do(lambda number=number: done.append((number, threading.current_thread().name)) or number) == number
        )
    assert done == [(number, "device") for number in range(10)]


def test_an_error_is_raised_in_the_caller_and_the_thread_goes_on():
    thread = DeviceThread("device", int)
    for error in (ValueError("no"), KeyboardInterrupt()):

        def fail(error=error):
            raise error

        with pytest.raises(type(error)):
            thread.do(fail)
    assert thread.do(lambda: 5) == 5


def test_it_ends_after_the_functions_it_was_given_and_one_more():
    done = []
    thread = DeviceThread("device", lambda: done.append("last"))
    gate = threading.Event()
    caller = threading.Thread(target=thread.do, args=(lambda: gate.wait(30) and done.append("run"),))
    caller.start()
    while thread._tasks.qsize():
        pass
    thread.stop()
    thread.stop()
    with pytest.raises(ClosedError):
        thread.do(lambda: 1)
    gate.set()
    thread.join(30)
    caller.join(30)
    assert done == ["run", "last"]


def test_it_keeps_no_reference_to_finished_work():
    class Thing:
        pass

    thread, thing = DeviceThread("device", int), Thing()
    seen = weakref.ref(thing)
    thread.do(lambda thing=thing: id(thing))
    del thing
    thread.do(int)
    gc.collect()
    assert seen() is None
