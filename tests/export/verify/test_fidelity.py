"""The measures of rank fidelity, against their definitions."""

from __future__ import annotations

import math
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crossrank.errors import FidelityError
from crossrank.export.verify.fidelity import kendall_tau, measure, significant, top_overlap


def _tau_by_definition(left, right):
    concordant = discordant = only_left = only_right = 0
    for i, j in combinations(range(len(left)), 2):
        a, b = np.sign(left[i] - left[j]), np.sign(right[i] - right[j])
        concordant += a * b > 0
        discordant += a * b < 0
        only_left += a != 0 and b == 0
        only_right += a == 0 and b != 0
    decided = concordant + discordant
    return (concordant - discordant) / math.sqrt((decided + only_left) * (decided + only_right))


@pytest.mark.parametrize(
    ("left", "right", "expected"),
    [
        ([1, 2, 3, 4], [10, 20, 30, 40], 1.0),
        ([1, 2, 3, 4], [4, 3, 2, 1], -1.0),
        ([1, 2, 3], [1, 3, 2], 1 / 3),
        # One tie on the left: two pairs agree, none disagrees, n0 = 3: 2 / sqrt(2 * 3).
        ([1, 1, 2], [1, 2, 3], 2 / math.sqrt(6)),
        ([5, 5, 5], [5, 5, 5], 1.0),
        ([5, 5, 5], [1, 2, 3], 0.0),
        ([1], [2], 1.0),
        ([], [], 1.0),
    ],
)
def test_kendall_tau_of_small_lists(left, right, expected):
    assert kendall_tau(np.asarray(left, np.float32), np.asarray(right, np.float32)) == pytest.approx(expected)


@given(st.lists(st.tuples(st.integers(-4, 4), st.integers(-4, 4)), min_size=2, max_size=15))
def test_kendall_tau_is_its_definition(items):
    left, right = (np.asarray(column, dtype=np.float32) for column in zip(*items, strict=True))
    if len(set(left)) < 2 or len(set(right)) < 2:
        return
    tau = kendall_tau(left, right)
    assert tau == pytest.approx(_tau_by_definition(left, right))
    assert tau == pytest.approx(kendall_tau(right, left))
    assert kendall_tau(left, -right) == pytest.approx(-tau)


def test_top_overlap_counts_the_reference_firsts():
    reference = np.arange(20, dtype=np.float32)
    scores = reference.copy()
    assert top_overlap(reference, scores) == 1.0
    scores[[10, 0]] = scores[[0, 10]]
    assert top_overlap(reference, scores) == pytest.approx(0.9)
    assert top_overlap(reference, -reference) == 0.0
    assert top_overlap(reference[:3], -reference[:3]) == 1.0


def test_measure_takes_the_worst_run():
    reference = [np.array([1.0, 2.0, 3.0], np.float32), np.array([3.0, 1.0], np.float32)]
    same = [logits.copy() for logits in reference]
    moved = [np.array([1.0, 2.0, 1.5], np.float32), np.array([3.0, 1.0], np.float32)]

    fidelity = measure(reference, [same, moved], name="fp32")

    assert (fidelity.reference, fidelity.queries, fidelity.pairs) == ("fp32", 2, 5)
    assert fidelity.max_abs_logit_difference == 1.5
    assert fidelity.kendall_tau == pytest.approx((1 / 3 + 1) / 2, abs=1e-6)
    assert fidelity.top10_overlap == 1.0


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_score_that_is_no_number_fails(bad):
    reference = [np.array([1.0, 2.0], np.float32)]
    with pytest.raises(FidelityError, match="no numbers"):
        measure(reference, [[np.array([1.0, bad], np.float32)]], name="fp32")
    with pytest.raises(FidelityError, match="no numbers"):
        measure([np.array([1.0, bad], np.float32)], [reference], name="fp32")


def test_significant_rounds_to_digits_and_not_to_places():
    assert significant(0.000123456789) == 0.000123457
    assert significant(123456.789) == 123457.0
    assert significant(0.0) == 0.0
