"""Checks that pyarrow is installed, which reads and writes the files."""

from __future__ import annotations

import importlib

from crossrank.errors import MissingDependencyError


def require_pyarrow() -> None:
    """Check that pyarrow can be imported.

    Raises:
        MissingDependencyError: it is not installed.
    """
    try:
        importlib.import_module("pyarrow")
    except ImportError as error:
        raise MissingDependencyError(
            f"files of pairs are read with pyarrow; install it with pip install 'crossrank[bulk]' ({error})"
        ) from error
