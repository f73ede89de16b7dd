"""Asking for the optional packages an export needs, with a message that says how to get them."""

from __future__ import annotations

import importlib
import importlib.metadata
from typing import TYPE_CHECKING, Literal, TypeAlias, get_args

from crossrank.errors import InvalidInputError, MissingDependencyError

if TYPE_CHECKING:
    from collections.abc import Iterable

Exporter: TypeAlias = Literal["optimum", "torch"]
"""What makes the ONNX graph of a PyTorch checkpoint."""

EXPORTERS: tuple[Exporter, ...] = get_args(Exporter)
"""In the order they are taken where the caller names none."""

EXPORT_MODULES = ("torch", "transformers", "onnx")
"""What the export of a PyTorch checkpoint imports, besides its exporter."""

_EXPORTER_MODULES: dict[Exporter, tuple[str, ...]] = {
    # The second one is what an optimum fails to import that suits no transformers as new as the installed one.
    "optimum": ("optimum.exporters.onnx", "optimum.exporters.onnx.model_configs"),
    "torch": ("onnxscript",),
}
_EXPORTER_EXTRAS: dict[Exporter, str] = {"optimum": "optimum", "torch": "export"}
_EXPORTER_DISTRIBUTIONS: dict[Exporter, str] = {"optimum": "optimum-onnx", "torch": "onnxscript"}

IMPORT_MODULES = ("onnx", "sympy")
"""What the import of an ONNX file imports; sympy is for onnxruntime's fusions, whose error does not name it."""

_DISTRIBUTIONS = ("onnx", "tokenizers")
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


def checked_exporter(exporter: str | None) -> Exporter | None:
    """An exporter as the caller names it; None for the first that is installed.

    Raises:
        InvalidInputError: there is none of that name.
    """
    for name in EXPORTERS:
        if exporter == name:
            return name
    if exporter is None:
        return None
    raise InvalidInputError(f"exporter={exporter!r}: one of {', '.join(EXPORTERS)} expected")


def require_export(exporter: Exporter | None) -> Exporter:
    """Import what the export of a checkpoint needs, and choose its exporter.

    Args:
        exporter: the one to use; None for the first that can be imported.

    Raises:
        MissingDependencyError: that exporter, or something else the export needs, is not installed.
    """
    purpose = "exporting a checkpoint"
    require(EXPORT_MODULES, extra="export", purpose=purpose)
    if exporter is None:
        chosen = next((name for name in EXPORTERS if all(map(_can_import, _EXPORTER_MODULES[name]))), EXPORTERS[-1])
    else:
        chosen = exporter
        purpose += f" with exporter {exporter!r}"
    require(_EXPORTER_MODULES[chosen], extra=_EXPORTER_EXTRAS[chosen], purpose=purpose)
    return chosen


def library_versions(exporter: Exporter | None = None) -> dict[str, str]:
    """Versions of the libraries an export's bytes depend on, by distribution name, sorted.

    Args:
        exporter: what made the graph; None for a file that existed already, which takes neither torch nor transformers.
    """
    names: tuple[str, ...] = _DISTRIBUTIONS
    if exporter is not None:
        names = (*names, "torch", "transformers", _EXPORTER_DISTRIBUTIONS[exporter])
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


def _can_import(module: str) -> bool:
    try:
        importlib.import_module(module)
    except ImportError:
        return False
    return True
