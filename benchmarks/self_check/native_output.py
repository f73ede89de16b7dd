"""What libraries print past Python: there, and nowhere else, onnxruntime tells why CUDA's libraries do not load."""

from __future__ import annotations

import os
import re
import tempfile
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_STANDARD_ERROR = 2
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")


@contextmanager
def collected_output() -> Iterator[list[str]]:
    """Collect lines printed to standard error instead of showing them; the list is filled at the end.

    For a program of its own: everything the process prints there meanwhile is collected.
    """
    lines: list[str] = []
    with tempfile.TemporaryFile() as collected:
        shown = os.dup(_STANDARD_ERROR)
        os.dup2(collected.fileno(), _STANDARD_ERROR)
        try:
            yield lines
        finally:
            os.dup2(shown, _STANDARD_ERROR)
            os.close(shown)
            collected.seek(0)
            text = _COLOUR.sub("", collected.read().decode(errors="replace"))
            lines += [line for line in text.splitlines() if line.strip()]


def failures(lines: list[str]) -> list[str]:
    """The messages of onnxruntime's lines that tell of an error, without date and place."""
    return [line.rpartition(" : FAIL : ")[2].strip() for line in lines if ":onnxruntime:" in line and "[E:" in line]
