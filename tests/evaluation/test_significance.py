"""The paired test against all signs, tried one by one."""

from __future__ import annotations

import itertools
from math import erfc

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from crossrank.evaluation.significance import RESAMPLES, compare_paired

VALUES = st.lists(st.sampled_from([0.0, 0.25, 0.5, 0.631, 1.0]), min_size=1, max_size=9)


def brute_force(own, reference):
    """Share of all sign patterns whose mean is at least as far from 0, in the farther of the two directions twice."""
    differences = own - reference
    observed = differences.mean()
    means = [np.mean(differences * signs) for signs in itertools.product((1.0, -1.0), repeat=len(differences))]
    above = np.mean([mean >= observed - 1e-12 for mean in means])
    below = np.mean([mean <= observed + 1e-12 for mean in means])
    return min(1.0, 2 * min(above, below))


@given(VALUES.flatmap(lambda values: st.tuples(st.just(values), st.permutations(values))))
@example(([0.0, 0.0, 0.5, 1.0, 0.0, 0.0, 0.0, 0.0, 0.631], [0.0, 0.631, 0.0, 0.0, 0.5, 0.0, 0.0, 1.0, 0.0]))
def test_few_queries_are_tested_with_every_sign(values_of_both):
    own, reference = (np.asarray(values) for values in values_of_both)
    comparison = compare_paired(own, reference)
    assert comparison.p_value == pytest.approx(brute_force(own, reference))
    assert comparison.difference == pytest.approx(np.mean(own) - np.mean(reference))
    assert comparison.better == sum(left > right for left, right in zip(own, reference, strict=True))
    assert comparison.worse == sum(left < right for left, right in zip(own, reference, strict=True))


def test_many_queries_are_tested_with_random_signs_that_the_seed_decides():
    rng = np.random.default_rng(1)
    own, reference = rng.random(60) + 0.05, rng.random(60)
    first = compare_paired(own, reference, seed=3)
    assert compare_paired(own, reference, seed=3) == first
    assert compare_paired(own, reference, seed=4).p_value == pytest.approx(first.p_value, abs=0.03)
    # The mean of random signs is about normal for 60 queries.
    differences = own - reference
    z = abs(differences.mean()) / np.sqrt((differences**2).sum()) * 60
    assert first.p_value == pytest.approx(erfc(z / np.sqrt(2)), abs=0.03)


def test_a_clear_difference_has_the_smallest_p_there_is_and_none_has_one():
    own = np.linspace(0.5, 1, 40)
    assert compare_paired(own, own - 0.4).p_value == pytest.approx(2 / (RESAMPLES + 1))
    assert compare_paired(own, own).p_value == 1
    assert compare_paired(np.array([0.7]), np.array([0.1])).p_value == 1, "one query says nothing"


def test_a_mean_of_zero_is_no_difference_however_the_sum_is_rounded():
    """Permuted values have the same mean, though their differences added up in another order may miss 0 by a bit."""
    own = np.array([0.0, 0.0, 0.5, 1.0, 0.0, 0.0, 0.0, 0.0, 0.631])
    for seed in range(50):
        assert compare_paired(own, np.random.default_rng(seed).permutation(own)).p_value == 1
