"""crossrank: an optimized inference engine for cross-encoder rerankers on ONNX Runtime.

    >>> from crossrank import Reranker
    >>> with Reranker() as reranker:  # doctest: +SKIP
    ...     reranker.rank("how do vaccines work", ["Vaccines train ...", "Stock prices ..."], top_k=1)

Importing is cheap: onnxruntime is loaded with the first `Reranker`, torch only by an export.
"""

from __future__ import annotations

import importlib
import logging
import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from crossrank.async_reranker import AsyncReranker
    from crossrank.cascade import Cascade
    from crossrank.engine.call.results import DocumentWindow, RankedDocument, RankResult, RerankerInfo, ScoreCacheInfo
    from crossrank.engine.schedule.statistics import BatchObserved, Health, RerankerStats
    from crossrank.engine.text.documents import Document
    from crossrank.engine.text.windows import Windows
    from crossrank.errors import (
        ArtifactError,
        CacheFolderError,
        ClosedError,
        CrossrankError,
        DeadlineExceeded,
        ExportError,
        FidelityError,
        InferenceError,
        InvalidInputError,
        MissingDependencyError,
        ModelNotFoundError,
        OutputError,
        Overloaded,
        PrecisionError,
        ProviderError,
        TruncationWarning,
        UnsupportedCheckpointError,
    )
    from crossrank.reranker import Reranker
    from crossrank.stages import CascadeResult, Stage, StageRun

__version__ = "0.1.0"

_HOME = {
    "AsyncReranker": "crossrank.async_reranker",
    "BatchObserved": "crossrank.engine.schedule.statistics",
    "Cascade": "crossrank.cascade",
    "CascadeResult": "crossrank.stages",
    "DeadlineExceeded": "crossrank.errors",
    "Health": "crossrank.engine.schedule.statistics",
    "Overloaded": "crossrank.errors",
    "RerankerStats": "crossrank.engine.schedule.statistics",
    "Document": "crossrank.engine.text.documents",
    "DocumentWindow": "crossrank.engine.call.results",
    "RankResult": "crossrank.engine.call.results",
    "RankedDocument": "crossrank.engine.call.results",
    "Reranker": "crossrank.reranker",
    "RerankerInfo": "crossrank.engine.call.results",
    "ScoreCacheInfo": "crossrank.engine.call.results",
    "Stage": "crossrank.stages",
    "StageRun": "crossrank.stages",
    "Windows": "crossrank.engine.text.windows",
    "ArtifactError": "crossrank.errors",
    "CacheFolderError": "crossrank.errors",
    "ClosedError": "crossrank.errors",
    "CrossrankError": "crossrank.errors",
    "ExportError": "crossrank.errors",
    "FidelityError": "crossrank.errors",
    "InferenceError": "crossrank.errors",
    "InvalidInputError": "crossrank.errors",
    "MissingDependencyError": "crossrank.errors",
    "ModelNotFoundError": "crossrank.errors",
    "OutputError": "crossrank.errors",
    "PrecisionError": "crossrank.errors",
    "ProviderError": "crossrank.errors",
    "TruncationWarning": "crossrank.errors",
    "UnsupportedCheckpointError": "crossrank.errors",
}

__all__ = [
    "ArtifactError",
    "AsyncReranker",
    "BatchObserved",
    "CacheFolderError",
    "Cascade",
    "CascadeResult",
    "ClosedError",
    "CrossrankError",
    "DeadlineExceeded",
    "Document",
    "DocumentWindow",
    "ExportError",
    "FidelityError",
    "Health",
    "InferenceError",
    "InvalidInputError",
    "MissingDependencyError",
    "ModelNotFoundError",
    "OutputError",
    "Overloaded",
    "PrecisionError",
    "ProviderError",
    "RankResult",
    "RankedDocument",
    "Reranker",
    "RerankerInfo",
    "RerankerStats",
    "ScoreCacheInfo",
    "Stage",
    "StageRun",
    "TruncationWarning",
    "UnsupportedCheckpointError",
    "Windows",
    "__version__",
]

# The official builds of onnxruntime from 1.29 on send usage data to Microsoft unless this variable is set when they are
# loaded. This module is imported before any part of crossrank loads onnxruntime. Users may set the variable to 0.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

logging.getLogger("crossrank").addHandler(logging.NullHandler())


def __getattr__(name: str) -> Any:
    """Import a public name at its first use (PEP 562), so that importing crossrank stays cheap."""
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
