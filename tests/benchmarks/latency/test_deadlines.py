"""Figures of rankings under time limits: quality, documents scored, and whether the limit was kept."""

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
"""Milliseconds in which everything is scored, and in which nothing is."""


def test_without_time_the_first_stage_order_stays_and_with_enough_time_everything_is_scored(tiny_artifact, folder):
    result = measure_deadlines(
        tiny_artifact, folder, precision="fp32", limits_ms=(SHORT, LONG, None), candidates=42, rounds=2
    )
    short, long, unlimited = result["limits"]
    assert [limit["calls"] for limit in result["limits"]] == [4, 4, 2], "without a limit one round is enough"
    assert (short["scored"], long["scored"], unlimited["scored"]) == (0, 42, 42)
    assert short["ndcg"] == pytest.approx(result["first_stage"])
    assert long["ndcg"] == pytest.approx(unlimited["ndcg"])
    assert long["ndcg"] != pytest.approx(short["ndcg"])
    assert (long["kept"], result["queries"], result["candidates"]) == (1.0, 2, 42)
    assert "kept" not in unlimited


def test_a_limit_that_is_not_kept_is_reported(tiny_artifact, folder, monkeypatch):
    def slow(self, query, documents, **options):
        import time

        time.sleep(0.05)
        return real(self, query, documents, **options)

    real = Reranker.rank
    monkeypatch.setattr(Reranker, "rank", slow)
    (limit,) = measure_deadlines(tiny_artifact, folder, precision="fp32", limits_ms=(1,), candidates=42)["limits"]
    assert limit["kept"] == 0
    assert limit["over_seconds"]["p50"] >= 0.045


def test_the_candidates_are_those_of_the_run_then_others_of_the_corpus(tiny_artifact, folder, monkeypatch):
    ranked = []

    def record(self, query, documents, **options) -> RankResult:
        ranked.append(list(documents))
        return real(self, query, documents, **options)

    real = Reranker.rank
    monkeypatch.setattr(Reranker, "rank", record)
    run = folder / "bm25.trec"
    run.write_text("q0 Q0 d7 1 2.0 x\nq0 Q0 d3 2 1.0 x\nq2 Q0 d1 1 1.0 x\n")
    measure_deadlines(tiny_artifact, folder, precision="fp32", limits_ms=(SHORT,), candidates=5)
    documents = [json.loads(line)["text"] for line in (folder / "corpus.jsonl").read_text().splitlines()]
    assert ranked[-2] == [documents[index] for index in (7, 3, 0, 1, 2)]
    assert ranked[-1] == [documents[index] for index in (1, 0, 2, 3, 4)]


def test_a_folder_without_a_run_is_refused(tiny_artifact, folder):
    (folder / "bm25.trec").unlink()
    with pytest.raises(InvalidInputError, match=r"one \*\.trec run expected"):
        measure_deadlines(tiny_artifact, folder, precision="fp32")


@pytest.mark.parametrize("text", ["q0\td1\t0\n", "other\td1\t1\n"], ids=["nothing relevant", "other queries"])
def test_judgements_without_a_relevant_document_for_any_query_are_refused(tiny_artifact, folder, text):
    (folder / "qrels" / "test.tsv").write_text(text)
    with pytest.raises(InvalidInputError, match="small: none of its 3 queries"):
        measure_deadlines(tiny_artifact, folder, precision="fp32", candidates=42)


def test_the_command_writes_table_and_plot(tiny_artifact, folder, tmp_path):
    from typer.testing import CliRunner

    options = ["--deadlines", folder, "--candidates", 42, "--limits", "1,600000", "--precision", "fp32", "--no-latency"]
    report = tmp_path / "report.json"
    arguments = ["bench", "--model", tiny_artifact, *options, "--json", report, "--plots", tmp_path]
    done = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert done.exit_code == 0, done.output
    result = json.loads(report.read_text())
    (figures,) = result["deadlines"]
    assert [limit["limit_ms"] for limit in figures["limits"]] == [1, 600_000, None]
    assert (tmp_path / "deadlines.png").stat().st_size > 1000
    assert write_plots({"deadlines": [figures]}, tmp_path) == [tmp_path / "deadlines.png"]
    (table,) = (table for table in report_tables(result) if "limit" in table.title)
    assert [row[1] for row in table.rows] == ["0 (first-stage order)", "1", "600000", "none"]
