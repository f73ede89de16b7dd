"""BEIR folders and the quality measured on them."""

from __future__ import annotations

import json
import math

import pytest
from typer.testing import CliRunner

from crossrank.benchmarks.harness.passages import beir_passages
from crossrank.cli.app import app
from crossrank.errors import InvalidInputError
from crossrank.evaluation.beir import read_collection
from crossrank.evaluation.measures import measure_quality, ndcg
from crossrank.reranker import Reranker

DOCUMENTS = {"a": ("Rivers", "the river heats cold water"), "b": ("", "every reader"), "c": (None, "bread in winter")}


@pytest.fixture
def collection(tmp_path):
    folder = tmp_path / "small"
    (folder / "qrels").mkdir(parents=True)
    documents = [{"_id": name, "title": title, "text": text} for name, (title, text) in DOCUMENTS.items()]
    queries = [{"_id": "2", "text": "who reads"}, {"_id": "1", "text": "cold water"}]
    for name, records in (("corpus", documents), ("queries", queries)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    (folder / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\n1\ta\t2\n1\tc\t1\n2\tb\t1\n")
    lines = ["1 Q0 c 1 9.5 bm25", "1 Q0 a 2 9.1 bm25", "2 Q0 b 2 3.0 bm25", "2 Q0 a 1 4.0 bm25"]
    (folder / "bm25.trec").write_text("\n".join(lines) + "\n")
    return folder


def test_reading_joins_titles_and_orders_runs_by_rank(collection):
    found = read_collection(collection)
    assert found.documents == {"a": "Rivers the river heats cold water", "b": "every reader", "c": "bread in winter"}
    assert list(found.queries) == ["2", "1"]
    assert found.runs == {"1": ("c", "a"), "2": ("a", "b")}
    assert found.judgements == {"1": {"a": 2, "c": 1}, "2": {"b": 1}}
    assert beir_passages(collection).natural == ("Rivers the river heats cold water", "every reader")


def test_quality_is_that_of_the_rankings(collection, tiny_artifact):
    found = measure_quality({"fp32": tiny_artifact, "int8": tiny_artifact}, collection)
    # BM25 has the grade 2 document second of two, and the only relevant one second.
    first = (1 + 3 / math.log2(3)) / (3 + 1 / math.log2(3))
    assert found["bm25"] == pytest.approx((first + 1 / math.log2(3)) / 2)
    with Reranker(tiny_artifact, precision="fp32") as reranker:
        river, bread = reranker.score("cold water", ["Rivers the river heats cold water", "bread in winter"])
        other, reader = reranker.score("who reads", ["Rivers the river heats cold water", "every reader"])
    expected = ((1.0 if river > bread else first) + (1.0 if reader > other else 1 / math.log2(3))) / 2
    assert found["precisions"]["fp32"] == pytest.approx(expected)
    assert found["agreement"][0]["precisions"] == ["fp32", "int8"]
    assert -1 <= found["agreement"][0]["kendall_tau"] <= 1
    assert measure_quality({"fp32": tiny_artifact}, collection, queries=1)["queries"] == 1


def test_the_command_prints_and_writes_quality_and_takes_documents_from_a_folder(collection, tiny_artifact, tmp_path):
    arguments = ["--model", tiny_artifact, "--quality", collection, "--text", collection, "--documents", "mixed"]
    arguments += ["--top-k", "3", "--seconds", "0", "--json", tmp_path / "result.json"]
    done = CliRunner().invoke(app, ["bench", *map(str, arguments)])
    assert done.exit_code == 0, done.output
    result = json.loads((tmp_path / "result.json").read_text())
    assert result["text"] == {**result["text"], "source": "BEIR folder small", "query": "who reads"}
    assert {row["documents"] for row in result["latency"]} == {"mixed"}
    assert f"{result['quality'][0]['precisions']['int8']:.4f}" in done.stdout


def test_queries_without_anything_relevant_count_as_nothing():
    assert ndcg({"1": {"a": 1}, "2": {}}, {"1": {"a": 1.0}, "2": {"a": 1.0}}) == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("corpus.jsonl", '{"_id": "a"}\n', r"corpus.jsonl, line 1.*'text'"),
        ("queries.jsonl", "not json\n", r"queries.jsonl, line 1 is not JSON"),
        ("qrels/test.tsv", "query-id\tcorpus-id\tscore\n1\ta\n", r"test.tsv, line 2"),
        ("bm25.trec", "1 Q0 z 1 2.0 bm25\n", r"bm25.trec, line 1: document 'z'"),
        ("bm25.trec", "1 a 1\n", r"bm25.trec, line 1"),
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


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("bm25.trec", "other Q0 a 1 2.0 bm25\n"),
        ("qrels/test.tsv", "1\ta\t0\n1\tc\t-1\n"),
        ("qrels/test.tsv", "other\ta\t1\n"),
    ],
    ids=["run of other queries", "nothing relevant", "judgements of other queries"],
)
def test_a_run_or_judgements_that_tell_nothing_of_the_queries_are_refused(collection, tiny_artifact, file, text):
    (collection / file).write_text(text)
    with pytest.raises(InvalidInputError, match=r"small: of its first 2 queries .* expected"):
        measure_quality({"fp32": tiny_artifact}, collection)


def test_what_is_no_collection_is_refused(collection, tmp_path, tiny_artifact):
    with pytest.raises(InvalidInputError, match="is not there"):
        read_collection(tmp_path)
    (collection / "bm25.trec").unlink()
    with pytest.raises(InvalidInputError, match=r"one \*.trec run expected"):
        measure_quality({"fp32": tiny_artifact}, collection)
