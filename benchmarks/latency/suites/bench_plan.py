"""Time of planning: from lengths of pairs to batches."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from crossrank.benchmarks.harness.lengths import mixed_lengths
from crossrank.benchmarks.harness.workloads import MIXED_LONGEST, MIXED_MEAN, MIXED_SHORTEST
from crossrank.engine.config import DEFAULT_BATCH_TOKENS
from crossrank.engine.plan.batch_kinds import KINDS
from crossrank.engine.plan.cost import CostModel
from crossrank.engine.plan.planner import plan
from crossrank.engine.runtime.cores import available_cores

if TYPE_CHECKING:
    from pytest_benchmark.fixture import BenchmarkFixture

    from crossrank.models.artifact import Artifact
    from crossrank.models.manifest import Batching


@pytest.mark.parametrize("batching", ["padded", "single"])
def test_plan(benchmark: BenchmarkFixture, artifact: Artifact, top_k: int, batching: Batching) -> None:
    """Plan pairs of mixed lengths."""
    lengths = np.asarray(
        mixed_lengths(top_k, shortest=MIXED_SHORTEST, longest=MIXED_LONGEST, mean=MIXED_MEAN), dtype=np.int64
    )
    cost = CostModel.of(artifact.manifest.architecture)
    batches = benchmark(plan, lengths, KINDS[batching](cost, DEFAULT_BATCH_TOKENS["cpu"]), available_cores())
    assert sorted(np.concatenate([batch.indices for batch in batches]).tolist()) == list(range(top_k))
