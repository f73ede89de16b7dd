"""Turns cross-encoder checkpoints into verified artifacts.

`export` takes a PyTorch checkpoint and needs the `export` extra (torch, transformers, onnxscript);
`import_onnx` takes an ONNX file that exists already and needs only the `onnx` extra. Importing this package
loads none of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from crossrank.export.from_onnx import import_onnx
    from crossrank.export.pipeline import export
    from crossrank.export.report import ExportEvent, ExportReport

__all__ = ["ExportEvent", "ExportReport", "export", "import_onnx"]

_HOMES = {
    "ExportEvent": "crossrank.export.report",
    "ExportReport": "crossrank.export.report",
    "export": "crossrank.export.pipeline",
    "import_onnx": "crossrank.export.from_onnx",
}


def __getattr__(name: str) -> Any:
    """Load a public name when it is first asked for (PEP 562)."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(_HOMES[name]), name)
