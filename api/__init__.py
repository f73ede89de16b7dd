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
    from crossrank.engine.documents import Document
    from crossrank.engine.results import DocumentWindow, RankedDocument, RankResult, RerankerInfo
    from crossrank.engine.score_cache import ScoreCacheInfo
    from crossrank.engine.statistics import BatchObserved, Health, RerankerStats
    from crossrank.engine.windows import Windows
    from crossrank.models.errors import (
        ArtifactError,
        ClosedError,
        CrossrankError,
        DeadlineExceeded,
        ExportError,
        FidelityError,
        InferenceError,
        InvalidInputError,
        MissingDependencyError,
        ModelNotFoundError,
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
    "BatchObserved": "crossrank.engine.statistics",
    "Cascade": "crossrank.cascade",
    "CascadeResult": "crossrank.stages",
    "DeadlineExceeded": "crossrank.models.errors",
    "Health": "crossrank.engine.statistics",
    "Overloaded": "crossrank.models.errors",
    "RerankerStats": "crossrank.engine.statistics",
    "Document": "crossrank.engine.documents",
    "DocumentWindow": "crossrank.engine.results",
    "RankResult": "crossrank.engine.results",
    "RankedDocument": "crossrank.engine.results",
    "Reranker": "crossrank.reranker",
    "RerankerInfo": "crossrank.engine.results",
    "ScoreCacheInfo": "crossrank.engine.score_cache",
    "Stage": "crossrank.stages",
    "StageRun": "crossrank.stages",
    "Windows": "crossrank.engine.windows",
    "ArtifactError": "crossrank.models.errors",
    "ClosedError": "crossrank.models.errors",
    "CrossrankError": "crossrank.models.errors",
    "ExportError": "crossrank.models.errors",
    "FidelityError": "crossrank.models.errors",
    "InferenceError": "crossrank.models.errors",
    "InvalidInputError": "crossrank.models.errors",
    "MissingDependencyError": "crossrank.models.errors",
    "ModelNotFoundError": "crossrank.models.errors",
    "PrecisionError": "crossrank.models.errors",
    "ProviderError": "crossrank.models.errors",
    "TruncationWarning": "crossrank.models.errors",
    "UnsupportedCheckpointError": "crossrank.models.errors",
}

__all__ = [
    "ArtifactError",
    "AsyncReranker",
    "BatchObserved",
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

# The official builds of onnxruntime from 1.29 on send usage data to Microsoft unless this says otherwise when they are
# loaded, and whatever part of crossrank loads onnxruntime, this module is loaded before. It is for users to allow it.
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
