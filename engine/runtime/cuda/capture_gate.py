"""Keeps crossrank's other threads from using GPUs while a CUDA graph is captured.

onnxruntime captures in CUDA's global mode: during a capture, CUDA refuses any call of another thread that may allocate
memory or wait for a device, and the capture fails. Without this lock, several devices or several rerankers would break
each other's captures. Other code in the process (torch, say) does not take this lock.
"""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


class CaptureGate:
    """A read-write lock: any number of users, or one capture. A waiting capture goes before users that come later."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._users = 0
        self._capturing = False
        self._waiting_captures = 0

    @contextmanager
    def use(self) -> Iterator[None]:
        """Use a device; waits while a graph is being captured or a capture is waiting."""
        with self._changed:
            self._changed.wait_for(lambda: not self._capturing and not self._waiting_captures)
            self._users += 1
        try:
            yield
        finally:
            with self._changed:
                self._users -= 1
                self._changed.notify_all()

    @contextmanager
    def capture(self) -> Iterator[None]:
        """Capture a graph; waits until no one uses a device or captures."""
        with self._changed:
            self._waiting_captures += 1
            try:
                self._changed.wait_for(lambda: not self._capturing and not self._users)
            finally:
                self._waiting_captures -= 1
            self._capturing = True
        try:
            yield
        finally:
            with self._changed:
                self._capturing = False
                self._changed.notify_all()


GATE = CaptureGate()
"""The lock that all device code of this process shares."""
