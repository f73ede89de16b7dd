"""Captures what onnxruntime prints while it loads a provider.

Where CUDA does not start, only these lines give the reason; the exception just says that nodes were left for the CPU.
"""

from __future__ import annotations

import contextlib
import os
import re
import sys
import tempfile
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_STANDARD_ERROR = 2
_COLOURS = re.compile(r"\x1b\[[0-9;]*m")
_LINE = re.compile(r"\[([WEF]):onnxruntime:.*?\] (?:.* : FAIL : )?(.*)")
_UNHELPFUL = "No registered plugin EP device"
_ADVICE = ". Please install all dependencies"


@contextmanager
def caught_messages() -> Iterator[list[str]]:
    """Capture the messages that onnxruntime writes to standard error, without colours and source locations.

    It writes to the file descriptor, not to `sys.stderr`, so the descriptor is redirected meanwhile. Lines that others
    write to it in that time are passed on afterwards.

    Yields:
        A list that holds the messages once the `with` statement has ended.
    """
    messages: list[str] = []
    with contextlib.ExitStack() as stack:
        try:
            original = os.dup(_STANDARD_ERROR)
            stack.callback(os.close, original)
            caught = stack.enter_context(tempfile.TemporaryFile())
        except OSError:  # standard error is closed, or there is no folder for a temporary file
            yield messages
            return
        os.dup2(caught.fileno(), _STANDARD_ERROR)
        try:
            yield messages
        finally:
            os.dup2(original, _STANDARD_ERROR)
            caught.seek(0)
            messages += _extract_messages(caught.read().decode(errors="replace"))


def _extract_messages(text: str) -> list[str]:
    """The messages of onnxruntime; all other lines are written to standard error."""
    messages = []
    for line in _COLOURS.sub("", text).splitlines():
        match = _LINE.search(line)
        if match is None:
            if line.strip():
                sys.stderr.write(line + "\n")
        elif _UNHELPFUL not in match[2]:
            messages.append(match[2].split(_ADVICE)[0].strip())
    return messages
