"""Asking for the optional packages an export needs, with a message that says how to get them."""

from __future__ import annotations

import importlib
import importlib.metadata
from typing import TYPE_CHECKING

from crossrank.errors import MissingDependencyError

if TYPE_CHECKING:
    from collections.abc import Iterable

EXPORT_MODULES = ("torch", "transformers", "optimum.exporters.onnx", "onnx")
"""What the export of a PyTorch checkpoint imports."""

IMPORT_MODULES = ("onnx", "sympy")
"""What the import of an ONNX file imports; sympy is for onnxruntime's fusions, whose error does not name it."""

_DISTRIBUTIONS = ("torch", "transformers", "optimum-onnx", "onnx", "tokenizers")
_RUNTIMES = ("onnxruntime", "onnxruntime-gpu")


def require(modules: Iterable[str], *, extra: str, purpose: str) -> None:
    """Import optional modules, or say which extra brings them.

    Args:
        modules: names to import.
        extra: the extra of crossrank that installs them.
        purpose: what needs them, for the message.

    Raises:
        MissingDependencyError: one of them, or onnxruntime, is not installed.
    """
    for module in modules:
        _require_one(module, f"{purpose} needs {module}; install it with: pip install 'crossrank[{extra}]'")
    _require_one(
        "onnxruntime",
        f"{purpose} needs onnxruntime to verify the graphs; install one of its two builds with: "
        f"pip install 'crossrank[cpu,{extra}]' or pip install 'crossrank[gpu,{extra}]'",
    )


def library_versions(*, with_torch: bool = True) -> dict[str, str]:
    """Versions of the libraries an export's bytes depend on, by distribution name, sorted.

    Args:
        with_torch: whether torch, transformers and optimum took part (they do not when an ONNX file is imported).
    """
    names = _DISTRIBUTIONS if with_torch else ("onnx", "tokenizers")
    versions = {name: importlib.metadata.version(name) for name in names}
    for name in _RUNTIMES:
        try:
            versions["onnxruntime"] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
        break
    return dict(sorted(versions.items()))


def _require_one(module: str, message: str) -> None:
    try:
        importlib.import_module(module)
    except ImportError as error:
        raise MissingDependencyError(f"{message} ({error})") from error
