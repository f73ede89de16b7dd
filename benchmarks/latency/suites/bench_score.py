"""Time of whole calls, from text to scores."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_benchmark.fixture import BenchmarkFixture

    from crossrank.benchmarks.harness.workloads import Workload
    from crossrank.reranker import Reranker


def test_score(
    benchmark: BenchmarkFixture,
    reranker: Reranker,
    workload: Callable[[str, int], Workload],
    length: str,
    top_k: int,
) -> None:
    """Score documents of one length."""
    texts = workload(length, top_k)
    scores = benchmark.pedantic(
        reranker.score, (texts.query, list(texts.documents)), rounds=3, warmup_rounds=1, iterations=1
    )
    assert scores.shape == (top_k,)
