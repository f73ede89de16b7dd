"""What callers give: taken where it has a meaning, refused by position where it has none, and never changed."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crossrank.engine.text.documents import as_list, checked_top_k, document_texts, encodable, pair_texts, query_text
from crossrank.errors import InvalidInputError


@pytest.mark.parametrize(
    "documents",
    [
        ["a", {"text": "b", "id": 7}],
        ("a", {"text": "b"}),
        (item for item in ["a", "b"]),
        dict.fromkeys(["a", "b"]).keys(),
        np.asarray(["a", "b"]),
    ],
    ids=lambda value: type(value).__name__,
)
def test_any_iterable_of_texts_and_mappings_is_taken(documents):
    assert document_texts(as_list(documents)) == ["a", "b"]


@pytest.mark.parametrize("documents", ["one text", b"bytes", {"text": "one"}, None, 5], ids=repr)
def test_one_document_in_place_of_a_list_is_refused(documents):
    kind = type(documents).__name__
    with pytest.raises(InvalidInputError, match=f"documents is a {kind}: a list of strings or of mappings"):
        as_list(documents)


class Table:
    """As tables do, it iterates over the names of its columns."""

    def __iter__(self):
        return iter(["title", "text"])

    def iterrows(self):
        return enumerate([{"title": "a", "text": "b"}])


@pytest.mark.parametrize("documents", [np.array("cats"), Table()], ids=lambda value: type(value).__name__)
def test_what_does_not_iterate_over_documents_is_refused(documents):
    with pytest.raises(InvalidInputError, match="a list of strings or of mappings"):
        as_list(documents)
    assert as_list(np.array(["cats", "dogs"])) == ["cats", "dogs"]


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_a_column_of_a_table_is_taken_and_a_table_is_not(library):
    module = pytest.importorskip(library)
    frame = module.DataFrame({"title": ["A", "B"], "text": ["a", "b"]})
    rows = frame.to_dict("records") if library == "pandas" else frame.to_dicts()
    assert document_texts(as_list(frame["text"])) == ["a", "b"]
    assert document_texts(as_list(rows)) == ["a", "b"]
    with pytest.raises(InvalidInputError, match=r"documents is a DataFrame: .*; a column of a table is one"):
        as_list(frame)
    with pytest.raises(InvalidInputError, match=r"^documents\[1\] is .*: .*; leave missing values out"):
        document_texts(as_list(module.Series(["a", None, "c"])))
    assert pair_texts(zip(frame["title"], frame["text"], strict=True)) == (["A", "B"], ["a", "b"])


@pytest.mark.parametrize("dtype", ["object", "str", "string", "category"])
def test_columns_of_pandas_are_taken_in_their_order_whatever_their_type_and_index(dtype):
    pd = pytest.importorskip("pandas")
    column = pd.Series(["b", "a", "b"], index=[5, 5, 0], dtype=dtype)
    assert document_texts(as_list(column)) == ["b", "a", "b"]
    holed = pd.Series(["b", None], dtype=dtype)
    with pytest.raises(InvalidInputError, match=r"^documents\[1\] is (None|NaN|NAType): .*; leave missing values out"):
        document_texts(as_list(holed))


BAD = [
    (None, "is None: .* leave missing values out"),
    (b"bytes", "is bytes"),
    (7, "is int"),
    (0.5, "is float: a string expected, or a mapping with a 'text' field$"),
    (["nested"], "is list"),
    (float("nan"), "is NaN: .* leave missing values out"),
    (np.float64("nan"), "is NaN"),
    ({"text": None}, r"\['text'\] is None"),
    ({"text": b"x"}, r"\['text'\] is bytes"),
    ({"body": "x", 5: 1}, r"is a mapping without a 'text' field; its fields are \['5', 'body'\]"),
    ({}, "is a mapping without a 'text' field"),
]


@pytest.mark.parametrize(("document", "message"), BAD, ids=lambda value: repr(value)[:30])
def test_a_document_that_is_no_text_is_refused_by_its_position(document, message):
    with pytest.raises(InvalidInputError, match=rf"^documents\[2\]{'' if '[' in message[:3] else ' '}{message}"):
        document_texts(["fine", {"text": "fine"}, document, "fine"])


def test_the_errors_are_value_errors_as_python_has_it():
    with pytest.raises(ValueError, match="documents"):
        as_list("text")


@pytest.mark.parametrize(
    ("pairs", "message"),
    [
        ("qd", "pairs is a str"),
        (None, "pairs is a NoneType"),
        ({"q": "d"}, "pairs is a dict"),
        ([("q", "d"), "qd"], r"pairs\[1\] is 'qd'"),
        ([("q",)], r"pairs\[0\] is \('q',\)"),
        ([("q", "d", "e")], r"pairs\[0\]"),
        ([("q", "d"), (None, "d")], r"query of pairs\[1\] is a NoneType"),
        ([("q", "d"), ("q", 5)], r"document of pairs\[1\] is int"),
        ([None], r"pairs\[0\] is None"),
    ],
)
def test_what_is_no_pair_is_refused_by_its_position(pairs, message):
    with pytest.raises(InvalidInputError, match=message):
        pair_texts(pairs)


def test_pairs_are_split_in_their_order():
    assert pair_texts(iter([("q", "a"), ["r", {"text": "b"}]])) == (["q", "r"], ["a", "b"])
    assert pair_texts([]) == ([], [])


@pytest.mark.parametrize("query", [None, b"q", 5, ["q"], {"text": "q"}], ids=repr)
def test_a_query_that_is_no_string_is_refused(query):
    with pytest.raises(InvalidInputError, match=f"query is a {type(query).__name__}: a string expected"):
        query_text(query)


@pytest.mark.parametrize(("top_k", "expected"), [(None, 5), (0, 0), (3, 3), (5, 5), (99, 5), (np.int64(2), 2)])
def test_top_k_is_never_more_than_there_is(top_k, expected):
    assert checked_top_k(top_k, 5) == expected


@pytest.mark.parametrize("top_k", [-1, True, False, 1.0, "3", np.float32(2), [1]], ids=repr)
def test_a_top_k_that_is_no_count_is_refused(top_k):
    with pytest.raises(InvalidInputError, match=r"top_k=.*a whole number of at least 0 expected"):
        checked_top_k(top_k, 5)


@given(st.text(st.characters(), max_size=30))
def test_whatever_text_becomes_encodable_and_keeps_its_length(text):
    clean = encodable(text)
    clean.encode("utf-8")
    assert len(clean) == len(text)
    for before, after in zip(text, clean, strict=True):
        assert after == ("\ufffd" if "\ud800" <= before <= "\udfff" else before)
