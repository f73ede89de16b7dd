"""Checks that optional packages are installed: before anything is measured, and again where they are used."""

from __future__ import annotations

import importlib

from crossrank.errors import MissingDependencyError


def require_ir_measures() -> None:
    """Check that ir-measures can be imported, which computes nDCG.

    Raises:
        MissingDependencyError: ir-measures is not installed.
    """
    _require("ir_measures", "ranking quality needs ir-measures", extra="bench")


def require_scipy() -> None:
    """Refuse to compare models without scipy, whose permutation test is used.

    Raises:
        MissingDependencyError: scipy is not installed.
    """
    _require("scipy.stats", "the significance test needs scipy", extra="bench")


def require_matplotlib() -> None:
    """Check that matplotlib can be imported, and set it to draw without a display.

    Raises:
        MissingDependencyError: matplotlib is not installed.
    """
    _require("matplotlib", "plots need matplotlib", extra="bench")
    import matplotlib as mpl

    mpl.use("Agg")


def require_onnx() -> None:
    """Check that onnx can be imported, which builds the graphs that the ceiling is measured with.

    Raises:
        MissingDependencyError: onnx is not installed.
    """
    _require("onnx", "the ceiling is measured on small graphs made with the onnx package", extra="onnx")


def _require(module: str, what: str, *, extra: str) -> None:
    try:
        importlib.import_module(module)
    except ImportError as error:
        raise MissingDependencyError(f"{what}; install it with pip install 'crossrank[{extra}]' ({error})") from error
