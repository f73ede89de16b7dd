"""Fixtures of the adapters' tests."""

from __future__ import annotations

import os

# Before anything imports Haystack, which would report its use.
os.environ["HAYSTACK_TELEMETRY_ENABLED"] = "False"

import pytest
from adapter_cases import MODEL, QUERY, TEXTS

from crossrank import Reranker


@pytest.fixture(scope="session")
def logits() -> list[tuple[int, float]]:
    """Indices of the texts, best first, with their logits."""
    with Reranker(MODEL, activation="identity") as reranker:
        return [(item.index, item.score) for item in reranker.rank(QUERY, TEXTS)]
