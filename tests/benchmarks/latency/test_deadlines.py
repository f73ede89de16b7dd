"""What is reported of rankings under time limits: quality, documents scored, and whether the limit was kept."""

from __future__ import annotations

import json

import pytest

from crossrank import RankResult, Reranker
from crossrank.benchmarks.harness.plots import write_plots
from crossrank.benchmarks.harness.report import report_tables
from crossrank.benchmarks.latency.deadlines import measure_deadlines
from crossrank.cli.app import app
from crossrank.errors import InvalidInputError

LONG, SHORT = 600_000, 1e-6
"""Milliseconds in which everything is scored, and nothing."""


def test_no_time_leaves_the_candidates_order_and_much_time_all_scores(tiny_artifact, folder):
    found = measure_deadlines(
        tiny_artifact, folder, precision="fp32", limits_ms=(SHORT, LONG, None), candidates=42, rounds=2
    )
    short, long, whole = found["limits"]
    assert [limit["calls"] for limit in found["limits"]] == [4, 4, 2], "without a limit once is enough"
    assert (short["scored"], long["scored"], whole["scored"]) == (0, 42, 42)
    assert short["ndcg"] == pytest.approx(found["first_stage"])
    assert long["ndcg"] == pytest.approx(whole["ndcg"])
    assert long["ndcg"] != pytest.approx(short["ndcg"])
    assert (long["kept"], found["queries"], found["candidates"]) == (1.0, 2, 42)
    assert "kept" not in whole


def test_a_limit_that_is_not_kept_shows(tiny_artifact, folder, monkeypatch):
    def slow(self, query, documents, **options):
        import time

        time.sleep(0.05)
        return real(self, query, documents, **options)

    real = Reranker.rank
    monkeypatch.setattr(Reranker, "rank", slow)
    (limit,) = measure_deadlines(tiny_artifact, folder, precision="fp32", limits_ms=(1,), candidates=42)["limits"]
    assert limit["kept"] == 0
    assert limit["over_seconds"]["p50"] >= 0.045


def test_the_candidates_are_the_runs_then_others_of_the_corpus(tiny_artifact, folder, monkeypatch):
    asked = []

    def watch(self, query, documents, **options) -> RankResult:
        asked.append(list(documents))
        return real(self, query, documents, **options)

    real = Reranker.rank
    monkeypatch.setattr(Reranker, "rank", watch)
    run = folder / "bm25.trec"
    run.write_text("q0 Q0 d7 1 2.0 x\nq0 Q0 d3 2 1.0 x\nq2 Q0 d1 1 1.0 x\n")
    measure_deadlines(tiny_artifact, folder, precision="fp32", limits_ms=(SHORT,), candidates=5)
    documents = [json.loads(line)["text"] for line in (folder / "corpus.jsonl").read_text().splitlines()]
    assert asked[-2] == [documents[index] for index in (7, 3, 0, 1, 2)]
    assert asked[-1] == [documents[index] for index in (1, 0, 2, 3, 4)]


def test_without_judgements_or_a_run_there_is_nothing_to_measure(tiny_artifact, folder):
    (folder / "bm25.trec").unlink()
    with pytest.raises(InvalidInputError, match=r"one \*\.trec run expected"):
        measure_deadlines(tiny_artifact, folder, precision="fp32")


@pytest.mark.parametrize("text", ["q0\td1\t0\n", "other\td1\t1\n"], ids=["nothing relevant", "other queries"])
def test_judgements_that_tell_nothing_of_the_queries_are_refused(tiny_artifact, folder, text):
    (folder / "qrels" / "test.tsv").write_text(text)
    with pytest.raises(InvalidInputError, match="small: none of its 3 queries"):
        measure_deadlines(tiny_artifact, folder, precision="fp32", candidates=42)


def test_the_command_writes_table_and_plot(tiny_artifact, folder, tmp_path):
    from typer.testing import CliRunner

    options = ["--deadlines", folder, "--candidates", 42, "--limits", "1,600000", "--precision", "fp32", "--no-latency"]
    report = tmp_path / "report.json"
    given = ["bench", "--model", tiny_artifact, *options, "--json", report, "--plots", tmp_path]
    done = CliRunner().invoke(app, [str(item) for item in given])
    assert done.exit_code == 0, done.output
    result = json.loads(report.read_text())
    (found,) = result["deadlines"]
    assert [limit["limit_ms"] for limit in found["limits"]] == [1, 600_000, None]
    assert (tmp_path / "deadlines.png").stat().st_size > 1000
    assert write_plots({"deadlines": [found]}, tmp_path) == [tmp_path / "deadlines.png"]
    (table,) = (table for table in report_tables(result) if "limit" in table.title)
    assert [row[1] for row in table.rows] == ["0 (candidates' order)", "1", "600000", "none"]
