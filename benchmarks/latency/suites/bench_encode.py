"""Time from texts to token arrays."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from crossrank.engine.text.encoding import PairEncoder

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_benchmark.fixture import BenchmarkFixture

    from crossrank.benchmarks.harness.workloads import Workload
    from crossrank.engine.text.encoded import EncodedPairs
    from crossrank.models.artifact import Artifact


@pytest.fixture(scope="module")
def encoder(artifact: Artifact) -> PairEncoder:
    """The engine's encoder for the model."""
    manifest = artifact.manifest
    return PairEncoder.load(
        artifact.path(manifest.tokenizer), max_length=manifest.max_length, pad_token_id=manifest.pad_token_id
    )


def test_encode(
    benchmark: BenchmarkFixture,
    encoder: PairEncoder,
    workload: Callable[[str, int], Workload],
    length: str,
    top_k: int,
) -> None:
    """Encode a query and its documents and pair them."""
    texts = workload(length, top_k)

    def encode() -> EncodedPairs:
        query = encoder.encode_query(texts.query)
        documents = encoder.encode_documents(texts.documents)
        return encoder.pair([query], np.zeros(top_k, dtype=np.int64), documents)

    pairs = benchmark(encode)
    assert pairs.lengths.tolist() == list(texts.pair_tokens)
