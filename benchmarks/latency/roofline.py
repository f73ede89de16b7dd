"""The roofline: which share of this machine's ceiling for matrix products scoring reaches, by length of the pairs."""

from __future__ import annotations

import statistics
import time
from typing import TYPE_CHECKING, Any

from crossrank.benchmarks.harness.engine_options import engine_options
from crossrank.benchmarks.latency.ceiling import Ceiling
from crossrank.benchmarks.latency.operations import operations_per_pair
from crossrank.engine.config import DEFAULT_BATCH_TOKENS
from crossrank.engine.runtime.cores import available_cores
from crossrank.errors import InvalidInputError
from crossrank.models.artifact import Artifact

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from crossrank.benchmarks.harness.workloads import WorkloadMaker
    from crossrank.benchmarks.latency.matrix_products import ProductPrecision
    from crossrank.models.manifest import Precision, Provider

PAIR_TOKENS = (32, 128, 256, 512)
_PAIRS_PER_CORE = 8
_PRECISIONS: dict[Provider, tuple[ProductPrecision, ...]] = {"cpu": ("fp32", "int8"), "cuda": ("fp16", "fp32")}
_PRODUCT_SECONDS = 0.1


def measure_roofline(
    artifacts: Mapping[Precision, Path],
    maker: WorkloadMaker,
    *,
    rounds: int = 5,
    provider: Provider = "cpu",
    pair_tokens: Sequence[int] = PAIR_TOKENS,
    progress: Callable[[str], None] = lambda _: None,
) -> dict[str, Any]:
    """Measure ceiling and scoring in turn, round by round, on all cores or on a GPU.

    The share is that of scoring documents which were encoded before; whole calls, from text to scores, are timed as
    well. Only operations that the scores need are counted. The share is taken round by round, because the speed of a
    shared machine drifts.

    Args:
        artifacts: the artifact of each precision; fp32 and int8 are measured on the CPU, fp16 and fp32 on CUDA.
        maker: makes the pairs.
        rounds: how often each length is measured.
        provider: execution provider.
        pair_tokens: lengths to measure.
        progress: called with each step as it begins.

    Raises:
        MissingDependencyError: onnx is not installed.
        InvalidInputError: a manifest lacks the model's dimensions.
    """
    rows = []
    for precision in _PRECISIONS[provider]:
        if precision in artifacts:
            for tokens in pair_tokens:
                progress(f"roofline: {precision}, {tokens} tokens")
                rows.append(_row(artifacts[precision], precision, maker, tokens, rounds, provider))
    return {"provider": provider, "cores": available_cores(), "rounds": rounds, "rows": rows}


def _row(
    folder: Path, precision: ProductPrecision, maker: WorkloadMaker, tokens: int, rounds: int, provider: Provider
) -> dict[str, Any]:
    from crossrank import Reranker

    manifest = Artifact.open(folder).manifest
    architecture = manifest.architecture
    if not (architecture.hidden_size and architecture.intermediate_size and architecture.num_hidden_layers):
        raise InvalidInputError(
            f"{folder}: its manifest lacks the model's dimensions, which the roofline needs; an artifact of a model "
            "with them in its config.json expected"
        )
    cores = available_cores()
    # A GPU needs a whole run of pairs to be busy, a core needs one pair.
    pairs = DEFAULT_BATCH_TOKENS["cuda"] // tokens if provider == "cuda" else _PAIRS_PER_CORE * cores
    rows = pairs * tokens if provider == "cuda" else tokens
    workload = maker.of_pair_length(tokens, pairs)
    ceiling = Ceiling(architecture, rows, precision, threads=cores, provider=provider)
    times, call_times, ceilings = [], [], []
    with Reranker(folder, precision=precision, **engine_options(provider)) as reranker:
        reranker.score(workload.query, workload.documents)
        prepared = reranker.prepare(workload.documents)
        for _ in range(rounds):
            ceilings.append(ceiling.measure(_PRODUCT_SECONDS))
            started = time.perf_counter()
            reranker.score(workload.query, prepared)
            scored = time.perf_counter()
            reranker.score(workload.query, workload.documents)
            times.append(scored - started)
            call_times.append(time.perf_counter() - scored)
    operations = operations_per_pair(architecture, tokens, labels=manifest.num_labels)
    seconds = statistics.median(times) / len(workload.documents)
    shares = [operations.total * pairs / (elapsed * rate) for elapsed, rate in zip(times, ceilings, strict=True)]
    return {
        "precision": precision,
        "pair_tokens": tokens,
        "pairs": len(workload.documents),
        "operations_per_pair": operations.total,
        "seconds_per_pair": seconds,
        "call_seconds_per_pair": statistics.median(call_times) / len(workload.documents),
        "reached_operations_per_second": operations.total / seconds,
        "ceiling_operations_per_second": ceiling.rate,
        "shape_operations_per_second": ceiling.shape_rates(),
        "share": statistics.median(shares),
        "shares": shares,
    }
