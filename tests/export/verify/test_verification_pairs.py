"""Verification pairs: how a file of them is read, and the shape and spread of those that ship."""

import json
from importlib import resources

import pytest

from crossrank.errors import InvalidInputError
from crossrank.export.verify.pairs import load_queries

DOCUMENTS_PER_QUERY = 20


@pytest.fixture(scope="module")
def text():
    return resources.files("crossrank.export.verify").joinpath("verification_pairs.jsonl").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def rows(text):
    return [json.loads(line) for line in text.splitlines()]


def test_texts_no_tokenizer_takes_are_made_encodable(tmp_path):
    path = tmp_path / "pairs.jsonl"
    path.write_text(r'{"query": "a\ud800", "documents": ["b", "\udfff c"]}')
    (item,) = load_queries(path)
    assert (item.query, item.documents) == ("a\ufffd", ("b", "\ufffd c"))


@pytest.mark.parametrize("line", ["{", '{"query": ' + "9" * 5000 + "}", "[" * 100_000])
def test_lines_that_are_no_json_are_named(line, tmp_path):
    path = tmp_path / "pairs.jsonl"
    path.write_text('{"query": "a", "documents": ["b", "c"]}\n' + line)
    with pytest.raises(InvalidInputError, match=r"line 2: no JSON"):
        load_queries(path)


def test_the_file_is_small_enough_to_ship(text):
    assert len(text.encode("utf-8")) < 1_500_000


def test_every_row_has_one_query_and_twenty_documents(rows):
    assert len(rows) >= 24
    for row in rows:
        assert set(row) == {"query", "documents"}
        assert isinstance(row["query"], str)
        assert row["query"].strip() == row["query"] != ""
        assert len(row["documents"]) == DOCUMENTS_PER_QUERY


def test_documents_are_texts_and_differ_within_a_query(rows):
    for row in rows:
        assert all(isinstance(document, str) and document.strip() for document in row["documents"])
        assert len({" ".join(document.split()) for document in row["documents"]}) == DOCUMENTS_PER_QUERY


def test_no_document_of_a_query_is_part_of_another(rows):
    """A passage beside a page that holds it would tie in rank, and ties make rank correlation meaningless."""
    for row in rows:
        for document in row["documents"]:
            assert sum(document in other for other in row["documents"]) == 1, (row["query"], document[:60])


def test_queries_differ_and_are_keywords_questions_and_long_ones(rows):
    queries = [row["query"] for row in rows]
    assert len(set(queries)) == len(queries)
    lengths = [len(query.split()) for query in queries]
    assert sum(length <= 6 for length in lengths) >= 3
    assert sum(30 <= length <= 60 for length in lengths) >= 2
    assert sum(query.split()[0] in {"how", "what", "why", "can"} for query in queries) >= 5


def test_lengths_are_spread_from_a_few_words_to_pages(rows):
    lengths = [len(document.split()) for row in rows for document in row["documents"]]
    shares = {
        "tiny": sum(n <= 9 for n in lengths) / len(lengths),
        "short": sum(10 <= n < 60 for n in lengths) / len(lengths),
        "medium": sum(60 <= n < 150 for n in lengths) / len(lengths),
        "long": sum(n >= 150 for n in lengths) / len(lengths),
    }
    assert 0.05 <= shares["tiny"] <= 0.15, shares
    assert 0.25 <= shares["short"] <= 0.45, shares
    assert 0.25 <= shares["medium"] <= 0.45, shares
    assert 0.12 <= shares["long"] <= 0.28, shares
    assert sum(n >= 300 for n in lengths) >= 10


def test_each_query_meets_every_length(rows):
    for row in rows:
        lengths = sorted(len(document.split()) for document in row["documents"])
        assert lengths[0] <= 10, row["query"]
        assert lengths[-1] >= 150, row["query"]


def test_the_documents_are_varied(rows):
    distinct = {document for row in rows for document in row["documents"]}
    assert len(distinct) >= 200


@pytest.mark.parametrize("sample", ["é", "ü", "ñ", "光", "η", "🌋", "→|->", "```|def |git ", "§"])
def test_accents_other_scripts_emoji_and_code_occur(text, sample):
    assert any(piece in text for piece in sample.split("|"))
