"""Writing a text file whole or not at all."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


def write_file(path: Path, text: str) -> None:
    """Write a text as UTF-8, whole or not at all where its folder allows that; the folder is created if necessary."""
    path.parent.mkdir(parents=True, exist_ok=True)
    special = path.is_symlink() or (path.exists() and not path.is_file())  # /dev/stdout, a pipe
    if special or not os.access(path.parent, os.W_OK):
        path.write_text(text, encoding="utf-8")
        return
    temporary = path.with_name(f"{path.name}.{os.getpid()}")
    try:
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
