"""What the service's tests share: documents, and what the engine itself says of them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from served_app import DOCUMENTS, QUERY

from crossrank import Reranker


@dataclass(frozen=True)
class Expected:
    """What a reranker in this process gives."""

    logits: np.ndarray
    scores: np.ndarray
    order: list[int]


@pytest.fixture(scope="session")
def expected(tiny_artifact: Path) -> Expected:
    with Reranker(tiny_artifact, activation="identity") as reranker:
        logits = reranker.score(QUERY, DOCUMENTS)
    scores = 1 / (1 + np.exp(-logits.astype(np.float64)))
    return Expected(logits, scores, np.argsort(-logits, kind="stable").tolist())
