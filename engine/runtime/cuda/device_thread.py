"""The one thread in which everything happens that touches a device.

Not a `ThreadPoolExecutor`: finalizers end it, and they run wherever Python collects garbage, also inside an
executor's own locks.
"""

from __future__ import annotations

import threading
from concurrent.futures import Future
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

from crossrank.errors import ClosedError

if TYPE_CHECKING:
    from collections.abc import Callable

_Result = TypeVar("_Result")
_Tasks: TypeAlias = "SimpleQueue[tuple[Callable[[], Any], Future[Any] | None] | None]"


class DeviceThread:
    """Runs the functions it is given, one after the other, until it is stopped. Safe to use from several threads."""

    def __init__(self, name: str) -> None:
        """Start the thread.

        Args:
            name: of the thread.
        """
        self._tasks: _Tasks = SimpleQueue()
        self._lock = threading.Lock()
        self._stopped = False
        # A daemon: an interpreter that ends stops it by itself, see `grid_runner.py`.
        self._thread = threading.Thread(target=_work, args=(self._tasks,), name=name, daemon=True)
        self._thread.start()

    def do(self, work: Callable[[], _Result]) -> _Result:
        """The result of a function that the thread calls; what it raises is raised here.

        Raises:
            ClosedError: the thread was stopped.
        """
        done: Future[_Result] = Future()
        with self._lock:
            if self._stopped:
                raise ClosedError("this device's session was closed; make a new reranker")
            self._tasks.put((work, done))
        return done.result()

    def stop(self, last: Callable[[], object]) -> None:
        """Let the thread end after what it was given before, and after one function more."""
        with self._lock:
            if not self._stopped:
                self._stopped = True
                self.stop_unused(last)

    def stop_unused(self, last: Callable[[], object]) -> None:
        """As `stop`, for finalizers: takes no lock, because nobody else can use this any more."""
        self._tasks.put((last, None))
        self._tasks.put(None)

    def join(self, timeout: float | None = None) -> None:
        """Wait for the thread to end."""
        self._thread.join(timeout)


def _work(tasks: _Tasks) -> None:
    while _do_one(tasks):
        pass


def _do_one(tasks: _Tasks) -> bool:
    """Run the next task; its references end with this function, because the next task may come much later."""
    task = tasks.get()
    if task is None:
        return False
    work, done = task
    try:
        result = work()
    except BaseException as error:  # whoever waits must learn of it
        if done is not None:
            done.set_exception(error)
    else:
        if done is not None:
            done.set_result(result)
    return True
