"""Folders in BEIR's layout: what is read, and what is refused with its place."""

from __future__ import annotations

import pytest

from crossrank.benchmarks.harness.passages import beir_passages
from crossrank.errors import InvalidInputError
from crossrank.evaluation.beir import read_collection, read_judged_collection


def test_reading_joins_titles_and_orders_runs_by_rank(collection):
    found = read_collection(collection)
    assert found.documents == {"a": "Rivers the river heats cold water", "b": "every reader", "c": "bread in winter"}
    assert list(found.queries) == ["2", "1"]
    assert found.runs == {"1": ("c", "a"), "2": ("a", "b")}
    assert found.judgements == {"1": {"a": 2, "c": 1}, "2": {"b": 1}}
    assert beir_passages(collection).natural == ("Rivers the river heats cold water", "every reader")


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("corpus.jsonl", '{"_id": "a"}\n', r"corpus.jsonl, line 1.*'text'"),
        ("queries.jsonl", "not json\n", r"queries.jsonl, line 1 is not JSON"),
        ("qrels/test.tsv", "query-id\tcorpus-id\tscore\n1\ta\n", r"test.tsv, line 2"),
        ("bm25.trec", "1 Q0 z 1 2.0 bm25\n", r"bm25.trec, line 1: document 'z'"),
        ("bm25.trec", "1 a 1\n", r"bm25.trec, line 1"),
        ("bm25.trec", "1 Q0 a 1 2.0 x\n1 Q0 c 2 1.5 x\n1 Q0 a 3 1.0 x\n", r"bm25.trec, line 3: .*'a' comes twice"),
        ("qrels/test.tsv", "1\ta\t1\n1\tc\t1\n1\ta\t2\n", r"test.tsv, line 3: .*'a' has grade 2 .* had 1"),
        (
            "corpus.jsonl",
            '{"_id": "a", "text": "x"}\n{"_id": "a", "text": "y"}\n',
            r"corpus.jsonl, line 2: .* second time",
        ),
        ("qrels/test.tsv", "1\ta\t1.0\n1\tc\t1\n", r"test.tsv, line 1: .*a whole number"),
        ("qrels/test.tsv", "1\ta\tnan\n1\tc\t1\n", r"test.tsv, line 1: .*a whole number"),
        ("qrels/test.tsv", "1\ta\t" + "9" * 5000, r"test.tsv, line 1: .*a whole number"),
        ("qrels/test.tsv", "1\ta\t\n1\tc\t1\n", r"test.tsv, line 1: .*a whole number"),
        ("bm25.trec", "1 Q0 a first 2.0 bm25\n", r"bm25.trec, line 1.*rank and score numbers"),
        ("bm25.trec", "1 Q0 a \u00b2 2.0 bm25\n", r"bm25.trec, line 1.*rank and score numbers"),
        ("bm25.trec", "1 Q0 a 1 nan bm25\n", r"bm25.trec, line 1.*rank and score numbers"),
        ("qrels/test.tsv", "1\ta\t1\n1\tc\t--1\n", r"test.tsv, line 2.*a whole number"),
        ("qrels/test.tsv", "1\ta\t1\n1\tc\t\u00b2\n", r"test.tsv, line 2.*a whole number"),
        ("qrels/test.tsv", "1\ta\t1\n1\tc\t" + "9" * 5000, r"test.tsv, line 2.*a whole number"),
        ("corpus.jsonl", '{"_id": ' + "9" * 5000 + ', "text": "a"}\n', r"corpus.jsonl, line 1 is not JSON"),
        ("corpus.jsonl", "[" * 100_000 + "\n", r"corpus.jsonl, line 1 is not JSON"),
    ],
)
def test_damaged_files_are_refused_with_file_and_line(collection, file, text, message):
    (collection / file).write_text(text, encoding="utf-8")
    with pytest.raises(InvalidInputError, match=message):
        read_collection(collection)


@pytest.mark.parametrize("file", ["corpus.jsonl", "queries.jsonl", "qrels/test.tsv", "bm25.trec"])
def test_files_that_are_not_utf8_are_refused_by_name(collection, file):
    with (collection / file).open("ab") as stream:
        stream.write("caf\u00e9".encode("latin-1"))
    with pytest.raises(InvalidInputError, match=rf"{file} is not UTF-8"):
        read_collection(collection)


def test_where_ranks_tie_the_higher_score_is_first(collection):
    lines = ["1 Q0 a 0 1.5 x", "1 Q0 b 0 -2 x", "1 Q0 c 0 9.5 x", "2 Q0 c 1 1 x", "2 Q0 b 1 1e0 x", "2 Q0 a 0 0 x"]
    (collection / "bm25.trec").write_text("\n".join(lines))
    assert read_collection(collection).runs == {"1": ("c", "a", "b"), "2": ("a", "b", "c")}


def test_of_several_judgement_files_test_tsv_is_taken_and_without_it_none(collection):
    qrels = collection / "qrels"
    (qrels / "dev.tsv").write_text("1\tb\t1\n")
    (qrels / "train.tsv").write_text("2\ta\t1\n")
    assert read_collection(collection).judgements == {"1": {"a": 2, "c": 1}, "2": {"b": 1}}
    (qrels / "test.tsv").unlink()
    with pytest.raises(InvalidInputError, match=r"qrels has dev.tsv, train.tsv; test.tsv or a single file expected"):
        read_collection(collection)
    (qrels / "train.tsv").unlink()
    assert read_collection(collection).judgements == {"1": {"b": 1}}


@pytest.mark.parametrize("header", ["", "query-id\tcorpus-id\tscore\n", "qid\tdocid\trelevance grade\n"])
def test_a_header_is_a_first_line_without_a_grade(collection, header):
    (collection / "qrels" / "test.tsv").write_text(header + "1\ta\t2\n")
    assert read_collection(collection).judgements == {"1": {"a": 2}}


def test_a_folder_with_several_runs_needs_one_named(collection, tmp_path):
    other = tmp_path / "other.trec"
    other.write_text("1 Q0 b 1 2.0 x\n")
    (collection / "second.trec").write_text("1 Q0 b 1 2.0 x\n")
    with pytest.raises(InvalidInputError, match=r"2 \*.trec files"):
        read_collection(collection)
    assert read_collection(collection, other).runs == {"1": ("b",)}


def test_what_is_no_judged_collection_is_refused(collection, tmp_path):
    with pytest.raises(InvalidInputError, match="is not there"):
        read_collection(tmp_path)
    (collection / "bm25.trec").unlink()
    assert read_collection(collection).runs == {}
    with pytest.raises(InvalidInputError, match=r"one \*.trec run expected"):
        read_judged_collection(collection)
