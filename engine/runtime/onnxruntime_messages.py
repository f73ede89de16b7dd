"""What onnxruntime prints while it loads a provider: only there it says why CUDA does not start.

The exception it raises then only says that nodes were left for the CPU.
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
_SAYS_NOTHING = "No registered plugin EP device"
_ADVICE = ". Please install all dependencies"


@contextmanager
def caught_messages() -> Iterator[list[str]]:
    """Catch what onnxruntime's own code writes to standard error, without its colours and places in the source.

    It writes to the process's file, past Python's, so the file is exchanged for that moment. What others wrote to it
    meanwhile is passed on.

    Yields:
        A list that holds the messages once the `with` statement has ended.
    """
    messages: list[str] = []
    with contextlib.ExitStack() as stack:
        try:
            kept = os.dup(_STANDARD_ERROR)
            stack.callback(os.close, kept)
            caught = stack.enter_context(tempfile.TemporaryFile())
        except OSError:  # closed, so nothing is printed there; or there is no folder to write to
            yield messages
            return
        os.dup2(caught.fileno(), _STANDARD_ERROR)
        try:
            yield messages
        finally:
            os.dup2(kept, _STANDARD_ERROR)
            caught.seek(0)
            messages += _sort_out(caught.read().decode(errors="replace"))


def _sort_out(text: str) -> list[str]:
    """Pick out onnxruntime's messages, and write everything else to standard error."""
    messages = []
    for line in _COLOURS.sub("", text).splitlines():
        match = _LINE.search(line)
        if match is None:
            if line.strip():
                sys.stderr.write(line + "\n")
        elif _SAYS_NOTHING not in match[2]:
            messages.append(match[2].split(_ADVICE)[0].strip())
    return messages
