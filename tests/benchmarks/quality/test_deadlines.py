"""Figures of rankings under time limits: quality, documents scored, and whether the limit was kept."""

from __future__ import annotations

import json
import shutil

import pytest

from crossrank import RankResult, Reranker
from crossrank.benchmarks.quality.deadlines import rank_under_limits
from crossrank.cli.app import app
from crossrank.errors import InferenceError, InvalidInputError

LONG, SHORT = 600_000, 1e-6
"""Milliseconds in which everything is scored, and in which nothing is."""


def test_without_time_the_first_stage_order_stays_and_with_enough_time_everything_is_scored(tiny_artifact, folder):
    result = rank_under_limits(
        tiny_artifact, folder, precision="fp32", limits_ms=(SHORT, LONG, None), candidates=42, rounds=2
    )
    short, long, unlimited = result.limits
    assert [limit.calls for limit in result.limits] == [4, 4, 2], "without a limit one round is enough"
    assert (short.scored, long.scored, unlimited.scored) == (0, 42, 42)
    assert short.ndcg == pytest.approx(result.first_stage)
    assert long.ndcg == pytest.approx(unlimited.ndcg)
    assert long.ndcg != pytest.approx(short.ndcg)
    assert (long.kept, result.queries, result.candidates) == (1.0, 2, 42)
    assert unlimited.kept is None


def test_a_limit_that_is_not_kept_is_reported(tiny_artifact, folder, monkeypatch):
    def slow(self, query, documents, **options):
        import time

        time.sleep(0.05)
        return real(self, query, documents, **options)

    real = Reranker.rank
    monkeypatch.setattr(Reranker, "rank", slow)
    (limit,) = rank_under_limits(tiny_artifact, folder, precision="fp32", limits_ms=(1,), candidates=42).limits
    assert limit.kept == 0
    assert limit.over_seconds.p50 >= 0.045


def test_the_candidates_are_those_of_the_run_then_others_of_the_corpus(tiny_artifact, folder, monkeypatch):
    ranked = []

    def record(self, query, documents, **options) -> RankResult:
        ranked.append(list(documents))
        return real(self, query, documents, **options)

    real = Reranker.rank
    monkeypatch.setattr(Reranker, "rank", record)
    run = folder / "bm25.trec"
    run.write_text("q0 Q0 d7 1 2.0 x\nq0 Q0 d3 2 1.0 x\nq2 Q0 d1 1 1.0 x\n")
    rank_under_limits(tiny_artifact, folder, precision="fp32", limits_ms=(SHORT,), candidates=5)
    documents = [json.loads(line)["text"] for line in (folder / "corpus.jsonl").read_text().splitlines()]
    assert ranked[-2] == [documents[index] for index in (7, 3, 0, 1, 2)]
    assert ranked[-1] == [documents[index] for index in (1, 0, 2, 3, 4)]


def test_a_folder_without_a_run_is_refused(tiny_artifact, folder):
    (folder / "bm25.trec").unlink()
    with pytest.raises(InvalidInputError, match=r"one \*\.trec run expected"):
        rank_under_limits(tiny_artifact, folder, precision="fp32")


@pytest.mark.parametrize("text", ["q0\td1\t0\n", "other\td1\t1\n"], ids=["nothing relevant", "other queries"])
def test_judgements_without_a_relevant_document_for_any_query_are_refused(tiny_artifact, folder, text):
    (folder / "qrels" / "test.tsv").write_text(text)
    with pytest.raises(InvalidInputError, match="small: none of its 3 queries"):
        rank_under_limits(tiny_artifact, folder, precision="fp32", candidates=42)


def test_the_command_writes_table_and_plot(tiny_artifact, folder, tmp_path):
    from typer.testing import CliRunner

    options = ["--collection", folder, "--candidates", 42, "--limits", "1,600000", "--precision", "fp32"]
    report = tmp_path / "report.json"
    arguments = ["bench", "deadlines", "--model", tiny_artifact, *options, "--json", report, "--plots", tmp_path]
    done = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert done.exit_code == 0, done.output
    (figures,) = json.loads(report.read_text())["deadlines"]
    assert [limit["limit_ms"] for limit in figures["limits"]] == [1, 600_000, None]
    assert (tmp_path / "deadlines.png").stat().st_size > 1000
    rows = done.stdout.partition("Ranking under a time limit: small")[2]
    assert "0 (first-stage order)" in rows
    assert "600000" in rows
    assert "none" in rows


def test_collections_before_one_that_fails_are_kept(tiny_artifact, folder, tmp_path, monkeypatch):
    from typer.testing import CliRunner

    def fail(artifact, collection, **options):
        if collection.name == "other":
            raise InferenceError("no memory")
        return rank_under_limits(artifact, collection, **options)

    monkeypatch.setattr("crossrank.benchmarks.quality.deadlines.rank_under_limits", fail)
    other = shutil.copytree(folder, tmp_path / "other")
    report = tmp_path / "report.json"
    options = ["--candidates", 42, "--limits", "1", "--rounds", 1, "--json", report, "--markdown", tmp_path / "r.md"]
    arguments = ["bench", "deadlines", "-m", tiny_artifact, "--collection", folder, "--collection", other, *options]
    done = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert done.exit_code == 1
    assert "no memory" in done.stderr
    assert [figures["collection"] for figures in json.loads(report.read_text())["deadlines"]] == ["small"]
    assert "Ranking under a time limit: small" in done.stdout
    assert "Ranking under a time limit: small" in (tmp_path / "r.md").read_text()
