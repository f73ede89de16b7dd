"""Logits to scores: sigmoid without overflow, and the log-odds of one of several labels."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crossrank.engine.runtime.logits import activate, relevance_logits


def test_identity_changes_nothing():
    logits = np.asarray([-3.5, 0.0, 1e30], dtype=np.float32)
    assert activate(logits, "identity").tolist() == logits.tolist()


@given(st.lists(st.floats(-80, 80, width=32), min_size=1))
def test_sigmoid_is_the_logistic_function_in_float32(values):
    logits = np.asarray(values, dtype=np.float32)
    scores = activate(logits, "sigmoid")
    assert scores.dtype == np.float32
    np.testing.assert_allclose(scores, 1 / (1 + np.exp(-logits.astype(np.float64))), rtol=1e-6)


def test_sigmoid_of_huge_logits_neither_overflows_nor_warns():
    logits = np.asarray([-3e38, -1000, 0, 1000, 3e38], dtype=np.float32)
    with np.errstate(all="raise", under="ignore"):
        assert activate(logits, "sigmoid").tolist() == [0, 0, 0.5, 1, 1]


def test_no_logits_give_no_scores():
    empty = np.empty(0, dtype=np.float32)
    assert activate(empty, "sigmoid").shape == activate(empty, "identity").shape == (0,)


def test_one_label_is_the_logit_itself():
    assert relevance_logits(np.asarray([[1.5], [-2]], dtype=np.float32), 0).tolist() == [1.5, -2]


@pytest.mark.parametrize(("positive", "expected"), [(0, [3.0, -1.0]), (1, [-3.0, 1.0])])
def test_two_labels_give_the_logit_of_the_softmax_probability(positive, expected):
    outputs = np.asarray([[2, -1], [0, 1]], dtype=np.float32)
    logits = relevance_logits(outputs, positive)
    assert logits.tolist() == expected
    softmax = np.exp(outputs) / np.exp(outputs).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(activate(logits, "sigmoid"), softmax[:, positive], rtol=1e-6)


@given(st.lists(st.lists(st.floats(-30, 30, width=32), min_size=4, max_size=4), min_size=1), st.integers(0, 3))
def test_several_labels_give_the_logit_of_the_softmax_probability(rows, positive):
    outputs = np.asarray(rows, dtype=np.float32)
    logits = relevance_logits(outputs, positive)
    assert (logits.dtype, logits.shape) == (np.float32, (len(rows),))
    weights = np.exp(outputs.astype(np.float64))
    softmax = weights / weights.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(activate(logits, "sigmoid"), softmax[:, positive], rtol=1e-4, atol=1e-7)
    for row, logit in zip(outputs, logits, strict=True):
        assert relevance_logits(row[None], positive)[0] == logit, "a pair's logit depends on no other's"


def test_outputs_that_are_no_numbers_give_none():
    outputs = np.asarray([[1, np.nan, 0], [np.inf, np.inf, 0], [1, 2, 3]], dtype=np.float32)
    with np.errstate(all="raise"):
        logits = relevance_logits(outputs, 0)
    assert np.isfinite(logits).tolist() == [False, False, True]
