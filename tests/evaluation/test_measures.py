"""Measures against values worked out by hand."""

from __future__ import annotations

from math import log2

import pytest

from crossrank.errors import InvalidInputError
from crossrank.evaluation.measures import check_measures, ndcg, values_per_query

JUDGED = {"q": {"a": 3, "b": 1, "c": 0, "d": 2, "e": -1}}
RANKING = {"q": ["c", "b", "e", "a"]}
"""d is relevant and not retrieved."""


@pytest.mark.parametrize(
    ("measure", "gain", "expected"),
    [
        ("nDCG@10", "linear", (1 / log2(3) + 3 / log2(5)) / (3 + 2 / log2(3) + 1 / log2(4))),
        ("nDCG@10", "exponential", (1 / log2(3) + 7 / log2(5)) / (7 + 3 / log2(3) + 1 / log2(4))),
        ("nDCG@2", "linear", (1 / log2(3)) / (3 + 2 / log2(3))),
        ("MRR@10", "linear", 1 / 2),
        ("RR(rel=2)@10", "exponential", 1 / 4),
        ("MRR@1", "linear", 0),
        ("Recall@10", "linear", 2 / 3),
        ("Recall@2", "exponential", 1 / 3),
        ("AP", "linear", (1 / 2 + 2 / 4) / 3),
        ("P@4", "linear", 2 / 4),
    ],
)
def test_measures_are_as_worked_out_by_hand(measure, gain, expected):
    assert values_per_query([measure], JUDGED, RANKING, gain=gain)[measure]["q"] == pytest.approx(expected)


def test_several_measures_are_those_of_each_alone():
    names = ["nDCG@10", "MRR@10", "RR@10", "RR(rel=2)@10", "R@2", "Recall@10", "nDCG@2"]
    for gain in ("linear", "exponential"):
        together = values_per_query(names, JUDGED, RANKING, gain=gain)
        assert list(together) == names
        assert together == {name: values_per_query([name], JUDGED, RANKING, gain=gain)[name] for name in names}


def test_the_order_given_is_judged_whatever_the_names():
    judged = {"q": {"x": 1}}
    for names in (["a", "x", "z"], ["z", "x", "a"]):
        assert values_per_query(["MRR@10"], judged, {"q": names}, gain="linear") == {"MRR@10": {"q": 0.5}}


def test_queries_without_anything_relevant_count_as_nothing():
    assert ndcg({"1": {"a": 1}, "2": {}, "3": {"a": 0}}, {"1": ["a"], "2": ["a"], "3": ["a"]}) == pytest.approx(1 / 3)


@pytest.mark.parametrize(
    "name",
    ["foo@3", "nDCG@0", "nDCG@x", "", "Recall", "NumQ", "nDCG(gains={1:3})@10", "nDCG(dcg='exp-log2')@10"],
)
def test_measures_that_cannot_be_computed_are_refused(name):
    with pytest.raises(InvalidInputError, match="expected"):
        check_measures([name], "linear")


def test_a_gain_that_is_none_and_no_measure_are_refused():
    with pytest.raises(InvalidInputError, match="gain 'square': one of linear, exponential"):
        check_measures(["nDCG@10"], "square")
    with pytest.raises(InvalidInputError, match=r"measures=\[\]: a list of one or more"):
        check_measures([], "linear")


@pytest.mark.parametrize(("gain", "most"), [("linear", 2**16 - 1), ("exponential", 16)])
def test_grades_beyond_what_is_computed_are_refused(gain, most):
    assert values_per_query(["nDCG@10"], {"q": {"a": most}}, {"q": ["a"]}, gain=gain)["nDCG@10"]["q"] == 1
    with pytest.raises(InvalidInputError, match=f"grade {most + 1} with {gain} gain"):
        values_per_query(["nDCG@10"], {"q": {"a": most + 1}}, {"q": ["a"]}, gain=gain)
