"""Collections made of dictionaries and of data frames."""

from __future__ import annotations

import numpy as np
import pytest

from crossrank.errors import InvalidInputError
from crossrank.evaluation import Collection

DOCUMENTS = {"a": "rivers", "b": "readers"}
QUERIES = {"1": "cold water"}
JUDGED = {"1": {"a": 2, "b": 0}}
RUN = {"1": {"b": 2.5, "a": 1.0}}


class Frame:
    """What pandas and polars have in common: columns by name."""

    def __init__(self, **columns):
        self._columns = columns

    @property
    def columns(self):
        return list(self._columns)

    def __getitem__(self, name):
        return self._columns[name]


def frames():
    return (
        Frame(doc_id=["a", "b"], title=["x", "y"], text=["rivers", "readers"]),
        Frame(query_id=np.array([1]), text=["cold water"]),
        Frame(query_id=[1, 1], doc_id=["a", "b"], relevance=np.array([2, 0])),
        Frame(query_id=[1, 1], doc_id=["a", "b"], score=np.array([1.0, 2.5], dtype=np.float32)),
    )


def test_dictionaries_and_data_frames_make_the_same_collection():
    expected = Collection(DOCUMENTS, QUERIES, JUDGED, {"1": ("b", "a")}, "mine")
    assert Collection.from_tables(DOCUMENTS, QUERIES, JUDGED, RUN, name="mine") == expected
    assert Collection.from_tables(*frames(), name="mine") == expected
    assert Collection.from_tables(DOCUMENTS, QUERIES, JUDGED, {"1": ["b", "a"]}, name="mine") == expected


def test_documents_of_equal_score_keep_their_order():
    run = {"1": {"b": 1.0, "a": 1.0}}
    assert Collection.from_tables(DOCUMENTS, QUERIES, JUDGED, run).runs == {"1": ("b", "a")}


@pytest.mark.parametrize(
    ("changed", "value", "message"),
    [
        ("documents", {"a": 3}, "documents, position 0: a string expected"),
        ("documents", {}, "no documents given"),
        ("documents", ["a"], r"documents is a list: a mapping, or a data frame with the columns doc_id, text"),
        ("documents", Frame(doc_id=["a"], body=["x"]), "documents has the columns doc_id, body; text expected"),
        ("documents", Frame(doc_id=["a", "a"], text=["x", "y"]), "documents, position 1: identifier 'a'"),
        ("judgements", {"1": {"a": 1.5}}, "judgements, position 0: a whole number"),
        ("judgements", {"1": {"a": float("nan")}}, "judgements, position 0: a whole number"),
        ("judgements", {"1": {"a": "1"}}, "judgements, position 0: a whole number"),
        (
            "judgements",
            Frame(query_id=[1, 1], doc_id=["a", "a"], relevance=[1, 2]),
            "judgements, position 1: .* grade 2 .* had 1",
        ),
        ("run", {"1": {"b": 1.0, "z": 2.0}}, "run, position 1: document 'z' of query '1'"),
        ("run", {"1": ["b", "b"]}, "run, position 1: document 'b' comes twice"),
        ("run", {"1": {"b": float("nan")}}, "run, position 0: a number expected as score"),
        ("run", {"1": "ab"}, r"run, query '1': .* best first, expected"),
    ],
)
def test_what_makes_no_collection_is_refused_with_its_place(changed, value, message):
    given = {"documents": DOCUMENTS, "queries": QUERIES, "judgements": JUDGED, "run": RUN} | {changed: value}
    with pytest.raises(InvalidInputError, match=message):
        Collection.from_tables(**given)
