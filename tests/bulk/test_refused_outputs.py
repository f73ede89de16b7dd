"""Outputs, and scores kept beside them, that are not of this job: neither taken nor thrown away."""

import json
import sqlite3

import pytest
from bulk_jobs import StubScorer, file_names, make_rows, read_scored, run_job, write_rows
from tiny_artifacts import with_instruction

from crossrank import InferenceError, OutputError, Reranker
from crossrank.bulk import Layout, score_files

ROWS = 35


def test_an_output_that_is_there_is_only_replaced_where_that_was_asked_for(tmp_path):
    pairs = write_rows(tmp_path / "a.jsonl", make_rows(ROWS))
    out = tmp_path / "out.jsonl"
    out.write_text("precious")
    with pytest.raises(OutputError, match=r"--overwrite"):
        run_job(pairs, out)
    assert (out.read_text(), file_names(tmp_path)) == ("precious", {"a.jsonl", "out.jsonl"})
    run_job(pairs, out, overwrite=True)
    assert len(read_scored(out)) == ROWS
    with pytest.raises(OutputError, match=r"not the finished output of this very job"):
        run_job(pairs, out, scorer=StubScorer(name="other"))
    assert file_names(tmp_path) == {"a.jsonl", "out.jsonl", "out.jsonl.job.json"}


def unfinished(tmp_path, **options):
    pairs = write_rows(tmp_path / "a.jsonl", make_rows(ROWS))
    with pytest.raises(InferenceError):
        run_job(pairs, tmp_path / "out.jsonl", scorer=StubScorer(fails={"text 25"}), **options)
    return pairs


def test_an_output_that_came_meanwhile_is_not_replaced(tmp_path, small_blocks):
    pairs = unfinished(tmp_path)
    out = tmp_path / "out.jsonl"
    out.write_text("precious")
    with pytest.raises(OutputError, match=r"--overwrite"):
        run_job(pairs, out)
    assert out.read_text() == "precious"
    assert run_job(pairs, out, overwrite=True).resumed == 20


def test_scores_of_another_job_are_neither_taken_nor_thrown_away(tmp_path, small_blocks):
    pairs = unfinished(tmp_path)
    out = tmp_path / "out.jsonl"
    with pytest.raises(OutputError, match=r"model.name: 'stub', now 'other'"):
        run_job(pairs, out, scorer=StubScorer(name="other"), overwrite=True)
    with pytest.raises(OutputError, match=r"texts.reading.document: 'document', now 'query'"):
        run_job(pairs, out, layout=Layout(document="query"))
    changed = make_rows(ROWS)
    changed[30]["document"] = "changed"
    write_rows(pairs, changed)
    with pytest.raises(OutputError, match=r"sha256"):
        run_job(pairs, out)
    write_rows(pairs, make_rows(ROWS))
    assert run_job(pairs, out).resumed == 20


def test_scores_of_another_instruction_are_neither_taken_nor_thrown_away(tmp_path, tiny_artifact, small_blocks):
    artifact = with_instruction(tiny_artifact, tmp_path / "instructed")
    pairs, out = tmp_path / "pairs.jsonl", tmp_path / "out.jsonl"
    write_rows(pairs, make_rows(ROWS))

    def stop(progress):
        if progress.step == "scoring" and progress.done:
            raise KeyboardInterrupt

    with Reranker(artifact, threads=1) as reranker, pytest.raises(KeyboardInterrupt):
        score_files(reranker, pairs, out, progress=stop)
    changed = r"model.instruction: None, now 'Find recipes'"
    with (
        Reranker(artifact, threads=1, instruction="Find recipes") as reranker,
        pytest.raises(OutputError, match=changed),
    ):
        score_files(reranker, pairs, out)
    with Reranker(artifact, threads=1) as reranker:
        assert score_files(reranker, pairs, out).resumed >= 10


def test_scores_of_another_machine_are_taken_only_where_that_was_asked_for(tmp_path, small_blocks, monkeypatch):
    pairs = unfinished(tmp_path)
    out = tmp_path / "out.jsonl"
    monkeypatch.setattr("crossrank.bulk.job._processor", lambda: "another processor")
    with pytest.raises(OutputError, match=r"processor: .*, now 'another processor'.*--other-machine"):
        run_job(pairs, out)
    assert run_job(pairs, out, other_machine=True).resumed == 20
    assert len(json.loads((tmp_path / "out.jsonl.job.json").read_text())["machines"]) == 2


def test_a_foreign_work_file_is_refused_and_left_alone(tmp_path):
    pairs = write_rows(tmp_path / "a.jsonl", make_rows(ROWS))
    work = tmp_path / "out.jsonl.scoring"
    work.write_text("not a database " * 100)
    with pytest.raises(OutputError, match=r"no work file of crossrank, or damaged"):
        run_job(pairs, tmp_path / "out.jsonl")
    assert work.read_text() == "not a database " * 100


def test_a_work_file_of_another_version_is_refused(tmp_path, small_blocks):
    pairs = unfinished(tmp_path)
    with sqlite3.connect(tmp_path / "out.jsonl.scoring") as connection:
        connection.execute("UPDATE facts SET value = '2' WHERE name = 'schema'")
    connection.close()
    with pytest.raises(OutputError, match="another version"):
        run_job(pairs, tmp_path / "out.jsonl")


@pytest.mark.parametrize("gone", [0, 10])
def test_a_work_file_with_a_block_missing_is_refused(tmp_path, small_blocks, gone):
    pairs = unfinished(tmp_path)
    with sqlite3.connect(tmp_path / "out.jsonl.scoring") as connection:
        connection.execute("DELETE FROM blocks WHERE first = ?", (gone,))
    connection.close()
    if gone == 0:
        with pytest.raises(OutputError, match="damaged: it has 10 rows up to row 20"):
            run_job(pairs, tmp_path / "out.jsonl")
    else:
        assert run_job(pairs, tmp_path / "out.jsonl").resumed == 10  # the last one: scored again
