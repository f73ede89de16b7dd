"""Benchmark text: the same at every call, and of the given lengths as the engine itself counts them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from tiny_checkpoints import make_texts

from crossrank.benchmarks.harness.lengths import mixed_lengths
from crossrank.benchmarks.harness.passages import Passages, standard_library_passages
from crossrank.benchmarks.harness.workloads import WorkloadMaker
from crossrank.engine.text.encoding import PairEncoder
from crossrank.errors import InvalidInputError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from crossrank.benchmarks.harness.workloads import Workload

FAMILIES = ("bert", "xlm-roberta", "modernbert")


def tokenizer_of(tiny_checkpoint: Callable[..., Path], family: str) -> Path:
    return tiny_checkpoint(family) / "tokenizer.json"


def engine_lengths(workload: Workload, tokenizer: Path) -> list[int]:
    encoder = PairEncoder.load(tokenizer, max_length=5000, pad_token_id=0)
    documents = encoder.encode_documents(workload.documents)
    query = encoder.encode_query(workload.query)
    return encoder.pair([query], np.zeros(len(documents), dtype=np.int64), documents).lengths.tolist()


@pytest.fixture(scope="module")
def passages() -> Passages:
    return Passages("made", "the river heats cold water", tuple(dict.fromkeys(make_texts(40))))


@pytest.mark.parametrize("family", FAMILIES)
def test_documents_have_the_tokens_asked_for(tiny_checkpoint, passages, family):
    tokenizer = tokenizer_of(tiny_checkpoint, family)
    maker = WorkloadMaker(passages, tokenizer, max_length=512)
    for workload in (maker.of_pair_length(32, 5), maker.of_length("short", 12), maker.of_length("long", 3)):
        assert engine_lengths(workload, tokenizer) == list(workload.pair_tokens)
    lengths = maker.of_pair_length(200, 30).pair_tokens
    if family == "bert":
        assert set(lengths) == {200}
    else:  # few words of the tiny vocabularies are one token
        assert min(lengths) >= 190
        assert max(lengths) <= 200


def test_the_mixed_set_has_its_bounds_and_mean_in_pair_tokens(tiny_checkpoint):
    tokenizer = tokenizer_of(tiny_checkpoint, "bert")
    workload = WorkloadMaker(standard_library_passages(), tokenizer, max_length=512).mixed(100)
    lengths = engine_lengths(workload, tokenizer)
    assert (min(lengths), max(lengths)) == (51, 512)
    assert np.mean(lengths) == pytest.approx(233, abs=0.5)
    assert lengths != sorted(lengths), "a contender that does not sort must not find them sorted"


def test_more_documents_than_passages_are_still_different_documents(tiny_checkpoint, passages):
    maker = WorkloadMaker(passages, tokenizer_of(tiny_checkpoint, "bert"), max_length=512)
    count = 3 * len(passages.texts)
    documents = maker.of_length("middle", count).documents
    assert len(documents) == count
    assert len(set(documents)) > 0.95 * count


def test_docstrings_are_the_same_at_every_call():
    first = standard_library_passages()
    standard_library_passages.cache_clear()
    assert standard_library_passages().digest == first.digest
    assert len(first.texts) > 500
    assert not any("0x" in text and " at 0x" in text for text in first.texts)


def test_a_model_with_a_small_maximum_gets_a_mixed_set_that_fits_it(tiny_checkpoint, passages):
    workload = WorkloadMaker(passages, tokenizer_of(tiny_checkpoint, "bert"), max_length=64).mixed(20)
    assert max(workload.pair_tokens) == 64
    assert min(workload.pair_tokens) < 64


def test_a_pair_shorter_than_its_query_is_refused(tiny_checkpoint, passages):
    maker = WorkloadMaker(passages, tokenizer_of(tiny_checkpoint, "bert"), max_length=64)
    with pytest.raises(InvalidInputError, match="the query takes"):
        maker.of_pair_length(4, 1)


@pytest.mark.parametrize(("count", "mean"), [(100, 233), (1000, 120), (10, 300)])
def test_mixed_lengths_meet_mean_and_bounds(count, mean):
    lengths = mixed_lengths(count, shortest=51, longest=512, mean=mean)
    assert (min(lengths), max(lengths), len(lengths)) == (51, 512, count)
    assert np.mean(lengths) == pytest.approx(mean, abs=1)
