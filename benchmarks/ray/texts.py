"""Pairs of many lengths for Ray's measurements, from the standard library's docstrings."""

from __future__ import annotations

import numpy as np

from crossrank.benchmarks.harness.passages import standard_library_passages
from crossrank.benchmarks.harness.workloads import Workload, WorkloadMaker
from crossrank.models.embedded import embedded_artifact

SHORTEST, LONGEST = 32, 160


def workload(count: int) -> Workload:
    """One query with documents; pairs of 32 to 160 tokens, evenly spread and in random order."""
    maker = WorkloadMaker(standard_library_passages(), embedded_artifact() / "tokenizer.json", max_length=512)
    lengths = np.linspace(max(SHORTEST, maker.shortest_pair), LONGEST, count).astype(int)
    return maker.of_pair_lengths(np.random.default_rng(0).permutation(lengths).tolist())
