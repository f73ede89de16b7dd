"""The one thread in which all code runs that uses a device.

Not a `ThreadPoolExecutor`, because finalizers have to stop the thread. They run wherever Python collects garbage, which
may be while an executor holds its lock, and would then deadlock.
"""

from __future__ import annotations

import threading
from concurrent.futures import Future
from functools import partial
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

from crossrank.engine import process
from crossrank.errors import ClosedError

if TYPE_CHECKING:
    from collections.abc import Callable

_Result = TypeVar("_Result")
_Tasks: TypeAlias = "SimpleQueue[tuple[Callable[[], Any], Future[Any] | None] | None]"


class DeviceThread:
    """Calls the functions it is given, one after the other, until it is stopped. Safe to use from several threads.

    Attributes:
        stop_unused: like `stop`, but takes no lock: for finalizers, which run when no one can use this
            object any more.
    """

    def __init__(self, name: str, last: Callable[[], object]) -> None:
        """Start the thread.

        Args:
            name: name of the thread.
            last: called in it before it ends.
        """
        self._tasks: _Tasks = SimpleQueue()
        self._lock = threading.Lock()
        self._stopped = False
        self.stop_unused = partial(_stop, self._tasks, last)
        self._thread = process.start_thread(name, partial(_work, self._tasks), self.stop_unused)

    def do(self, work: Callable[[], _Result]) -> _Result:
        """Call a function in the thread and wait for its result; an exception it raises is raised here.

        Raises:
            ClosedError: the thread was stopped.
        """
        done: Future[_Result] = Future()
        with self._lock:
            if self._stopped:
                raise ClosedError("this device's session was closed; make a new reranker")
            self._tasks.put((work, done))
        return done.result()

    def stop(self) -> None:
        """Stop the thread after the functions it was given before, and after the last one; does not wait for it."""
        with self._lock:
            if not self._stopped:
                self._stopped = True
                self.stop_unused()

    def join(self, timeout: float | None = None) -> None:
        """Wait for the thread to end."""
        self._thread.join(timeout)


def _stop(tasks: _Tasks, last: Callable[[], object]) -> None:
    tasks.put((last, None))
    tasks.put(None)


def _work(tasks: _Tasks) -> None:
    while _do_one(tasks):
        pass


def _do_one(tasks: _Tasks) -> bool:
    """Do one task. A function of its own, so that no local variable keeps a task alive while waiting for the next."""
    task = tasks.get()
    if task is None:
        return False
    work, done = task
    try:
        result = work()
    except BaseException as error:  # the waiting caller gets it
        if done is not None:
            done.set_exception(error)
    else:
        if done is not None:
            done.set_result(result)
    return True
