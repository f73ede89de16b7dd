"""The check that a pair's score does not depend on the batch."""

from __future__ import annotations

import numpy as np

from crossrank.engine.runtime.batch_invariance import rows_of_length, scores_ignore_other_pairs
from crossrank.engine.text.encoded import TokenArrays


def rows(count, length=6):
    ids = np.random.default_rng(0).integers(1, 100, (count, length))
    return TokenArrays(ids, np.ones_like(ids), np.zeros_like(ids))


def independent(arrays):
    return arrays.input_ids.sum(axis=1, keepdims=True).astype(np.float32) / 7


def test_a_graph_that_scores_each_row_independently_passes():
    assert scores_ignore_other_pairs(independent, rows(5))


def test_one_bit_in_one_batch_size_fails():
    def leaky(arrays):
        scores = independent(arrays)
        if len(scores) == 4:
            scores[2] = np.nextafter(scores[2], np.float32(np.inf))
        return scores

    assert not scores_ignore_other_pairs(leaky, rows(5))


def test_a_different_routine_for_single_rows_fails():
    def gemv(arrays):
        return independent(arrays) * np.float32(1 if len(arrays.input_ids) > 1 else 1 + 1e-6)

    assert not scores_ignore_other_pairs(gemv, rows(3))


def test_rows_are_real_pairs_cut_to_one_length(default_encoder):
    texts = [f"{word} " * 12 for word in ("one", "two", "three", "four", "five")]
    pairs = default_encoder.pair(
        [default_encoder.encode_query(text) for text in texts], np.arange(5), default_encoder.encode_documents(texts)
    )
    arrays = rows_of_length(default_encoder, pairs, 16, 3)
    assert arrays.input_ids.shape == arrays.token_type_ids.shape == (3, 16)
    assert arrays.attention_mask.all()
    assert len(np.unique(arrays.input_ids, axis=0)) == 3
    assert rows_of_length(default_encoder, pairs, 400, 3) is None
