"""Asking for the optional packages of the benchmarks: before anything is measured, and again where they are used."""

from __future__ import annotations

import importlib

from crossrank.models.errors import MissingDependencyError


def require_ir_measures() -> None:
    """Refuse to judge rankings without ir-measures.

    Raises:
        MissingDependencyError: it is not installed.
    """
    _require("ir_measures", "ranking quality needs ir-measures")


def require_matplotlib() -> None:
    """Refuse to draw without matplotlib, and have it draw without a display.

    Raises:
        MissingDependencyError: it is not installed.
    """
    _require("matplotlib", "plots need matplotlib")
    import matplotlib as mpl

    mpl.use("Agg")


def _require(module: str, what: str) -> None:
    try:
        importlib.import_module(module)
    except ImportError as error:
        raise MissingDependencyError(f"{what}; install it with pip install 'crossrank[bench]' ({error})") from error
