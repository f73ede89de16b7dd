"""Fork and the interpreter's end, for everything that belongs to one process.

A child of `fork` has the memory of its parent and none of its threads. Locks that these held stay locked there, and a
native object that waits for its own threads when it is destroyed never ends. So whoever holds such things registers
here, and forgets them in a child before anything else runs there.

Threads that use onnxruntime are asked to end, and waited for, before Python and its libraries are taken apart under
them. They are daemons, so that nothing else makes the interpreter wait for them.
"""

from __future__ import annotations

import atexit
import os
import threading
import weakref
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

_EXIT_SECONDS = 10.0
"""How long the interpreter's end waits for a thread: destroying a session under its run could crash."""


class BoundToProcess(Protocol):
    """What holds threads, locks that threads take, or native objects."""

    def forget_after_fork(self) -> None:
        """In a child of `fork`: let go of what only works in the parent; other threads do not exist yet."""
        ...


_bound: weakref.WeakSet[BoundToProcess] = weakref.WeakSet()
_ends: dict[threading.Thread, Callable[[], object]] = {}


def bind(holder: BoundToProcess) -> None:
    """Let an object forget what it holds in every child of this process, as long as it lives."""
    _bound.add(holder)


def in_children(do: Callable[[], object]) -> None:
    """Call a function in every child of `fork`, where the platform has one."""
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=do)


def leak(native: object) -> None:
    """Keep an object from ever being destroyed."""
    import ctypes

    ctypes.pythonapi.Py_IncRef(ctypes.py_object(native))


def start_thread(name: str, work: Callable[[], object], end: Callable[[], object]) -> threading.Thread:
    """Start a thread that ends in good order when the interpreter does.

    Args:
        name: of the thread.
        work: what it does.
        end: asks it to end soon; must not wait, and must not hold who may be dropped while the thread lives.
    """

    def run() -> None:
        try:
            work()
        finally:
            _ends.pop(threading.current_thread(), None)

    thread = threading.Thread(target=run, name=name, daemon=True)
    _ends[thread] = end
    thread.start()
    return thread


def _forget() -> None:
    _ends.clear()
    for holder in list(_bound):
        holder.forget_after_fork()


def _end_threads() -> None:
    for thread, end in reversed(list(_ends.items())):  # who uses another thread was started after it
        end()
        thread.join(_EXIT_SECONDS)


in_children(_forget)
atexit.register(_end_threads)
