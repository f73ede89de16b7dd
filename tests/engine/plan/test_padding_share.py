"""The share of padding tokens on real documents; counts, not times."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import crossrank.export
from crossrank.engine.config import DEFAULT_BATCH_TOKENS
from crossrank.engine.plan.batch_kinds import KINDS
from crossrank.engine.plan.cost import CostModel
from crossrank.engine.plan.planner import plan
from crossrank.models.manifest import Architecture

TOP_K = 100


COST = CostModel.of(Architecture(model_type="bert", hidden_size=384, num_hidden_layers=6, intermediate_size=1536))


@pytest.fixture(scope="module")
def documents():
    """Titles, definitions, package descriptions and abstracts, the documents that exports are verified on."""
    path = Path(crossrank.export.__file__).parent / "verify" / "verification_pairs.jsonl"
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return [document for line in lines for document in line["documents"]]


@pytest.mark.parametrize("batching", ["padded", "packed", "equal_length", "single"])
@pytest.mark.parametrize("workers", [1, 2, 8])
@pytest.mark.parametrize("seed", range(4))
def test_under_three_percent_of_the_tokens_are_padding(batching, workers, seed, default_encoder, documents):
    chosen = np.random.default_rng(seed).choice(len(documents), TOP_K, replace=False)
    encoded = default_encoder.encode_documents([documents[index] for index in chosen])
    query = default_encoder.encode_query("how does the immune system recognise a virus")
    lengths = default_encoder.pair([query], np.zeros(TOP_K, dtype=np.int64), encoded).lengths
    batches = plan(lengths, KINDS[batching](COST, DEFAULT_BATCH_TOKENS["cpu"]), workers)
    real, run = int(lengths.sum()), sum(batch.run_tokens for batch in batches)
    assert (run - real) / run < (0.03 if batching == "padded" else 1e-9)
    if batching != "single":
        assert len(batches) < TOP_K
