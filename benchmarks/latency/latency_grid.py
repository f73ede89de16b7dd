"""Latency and throughput for every combination of precision, document length and top-k."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from crossrank.benchmarks.harness.engine_options import engine_options
from crossrank.benchmarks.harness.sampling import call_times, latency

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from crossrank.benchmarks.harness.sampling import Effort
    from crossrank.benchmarks.harness.workloads import DocumentLength, WorkloadMaker
    from crossrank.models.manifest import Precision, Provider


def measure_latency(
    artifacts: Mapping[Precision, Path],
    maker: WorkloadMaker,
    *,
    lengths: Sequence[DocumentLength],
    top_ks: Sequence[int],
    effort: Effort,
    provider: Provider = "cpu",
    progress: Callable[[str], None] = lambda _: None,
) -> list[dict[str, Any]]:
    """Time whole calls of `Reranker.rank`, text to ranking, for every combination.

    Args:
        artifacts: the artifact of each precision.
        maker: makes the documents.
        lengths: document lengths.
        top_ks: numbers of documents.
        effort: how often each is called.
        provider: execution provider.
        progress: called with each step as it begins.
    """
    from crossrank import Reranker

    rows = []
    for precision, folder in artifacts.items():
        with Reranker(folder, precision=precision, **engine_options(provider)) as reranker:
            reranker.warmup()
            for length in lengths:
                for top_k in top_ks:
                    workload = maker.of_length(length, top_k)
                    progress(f"latency: {precision}, {workload.title}")
                    documents = list(workload.documents)
                    times = call_times(lambda: reranker.rank(workload.query, documents), effort)  # noqa: B023
                    percentiles = latency(times)
                    rows.append(
                        {
                            "precision": precision,
                            "documents": length,
                            "top_k": top_k,
                            "mean_pair_tokens": sum(workload.pair_tokens) / top_k,
                            "latency": percentiles.as_json(),
                            "pairs_per_second": top_k / percentiles.p50,
                        }
                    )
    return rows
