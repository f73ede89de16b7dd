"""Keeps everything else away from the GPUs of this process while a CUDA graph is captured.

onnxruntime captures in CUDA's global mode: as long as it lasts, a call of any other thread that may allocate or wait
for a device is refused, and the capture spoilt. Several devices, or several rerankers, would break each other. Code of
others in the process (torch, say) is not held back by this.
"""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


class CaptureGate:
    """Admits any number of users, or a single capture. A waiting capture goes before users that come later."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._users = 0
        self._capturing = False
        self._waiting = 0

    @contextmanager
    def use(self) -> Iterator[None]:
        """Enter as a user, after any capture."""
        with self._changed:
            self._changed.wait_for(lambda: not self._capturing and not self._waiting)
            self._users += 1
        try:
            yield
        finally:
            with self._changed:
                self._users -= 1
                self._changed.notify_all()

    @contextmanager
    def capture(self) -> Iterator[None]:
        """Enter as a capture, alone."""
        with self._changed:
            self._waiting += 1
            try:
                self._changed.wait_for(lambda: not self._capturing and not self._users)
            finally:
                self._waiting -= 1
            self._capturing = True
        try:
            yield
        finally:
            with self._changed:
                self._capturing = False
                self._changed.notify_all()


GATE = CaptureGate()
"""The gate of this process."""
