"""Rows without a text, and pairs for which the model gives no number: refused, or left empty where asked for."""

import json

import numpy as np
import pytest
from bulk_jobs import StubScorer, file_names, make_rows, read_scored, run_job, write_rows
from tokenizers import Tokenizer

from crossrank import InferenceError, Reranker
from crossrank.bulk import score_files
from crossrank.engine.runtime.session import GraphSession

ROWS = 35


def test_rows_without_texts_or_numbers_get_no_score_where_that_was_asked_for(tmp_path, small_blocks):
    rows = make_rows(ROWS)
    rows[3]["query"] = None
    del rows[12]["document"]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    for form in ("jsonl", "parquet", "csv"):
        out = tmp_path / f"out.{form}"
        summary = run_job(tmp_path / "a.jsonl", out, scorer=StubScorer(fails={"text 25"}), on_error="null")
        assert (summary.rows, summary.unscored) == (ROWS, 3)
        assert [index for index, row in enumerate(read_scored(out)) if row["score"] is None] == [3, 12, 25]


def test_rows_left_without_a_score_are_not_taken_over_where_that_is_refused(tmp_path, small_blocks):
    class Ends(StubScorer):
        def score(self, pairs):
            if ("query 4", "text 30") in pairs:
                raise InferenceError("every run failed")
            return super().score(pairs)

    pairs = write_rows(tmp_path / "a.jsonl", make_rows(ROWS))
    out = tmp_path / "out.jsonl"
    with pytest.raises(InferenceError, match=r"every run failed"):
        run_job(pairs, out, scorer=Ends(fails={"text 5"}), on_error="null")
    with pytest.raises(InferenceError, match=r"out\.jsonl\.scoring has rows without a score \(1\).*--on-error null"):
        run_job(pairs, out)
    assert run_job(pairs, out, on_error="null").unscored == 1


@pytest.mark.parametrize("killed", [False, True])
def test_a_finished_output_with_rows_without_a_score_is_refused_where_these_are(tmp_path, monkeypatch, killed):
    pairs = write_rows(tmp_path / "a.jsonl", make_rows(ROWS))
    out = tmp_path / "out.jsonl"
    with monkeypatch.context() as patch:
        if killed:  # after the record was written and before the work file was removed
            patch.setattr("crossrank.bulk.work_file.WorkFile.remove", lambda work: None)
        run_job(pairs, out, scorer=StubScorer(fails={"text 5", "text 7"}), on_error="null")
    before = out.read_bytes(), file_names(tmp_path)
    for overwrite in (False, True):
        with pytest.raises(InferenceError, match=r"out\.jsonl has rows without a score \(2\).*--on-error null.*anew"):
            run_job(pairs, out, overwrite=overwrite)
        assert (out.read_bytes(), file_names(tmp_path)) == before
    again = run_job(pairs, out, on_error="null")
    assert (again.finished_before, again.unscored) == (True, 2)


def no_number_for(token, original):
    """A `GraphSession.__init__` of sessions that give no number for rows with a token."""

    class Poisoned:
        def __init__(self, session):
            self.session = session

        def run(self, outputs, feeds):
            (logits,) = self.session.run(outputs, feeds)
            logits[(feeds["input_ids"] == token).any(axis=1)] = np.nan
            return [logits]

    def init(self, *arguments, **options):
        original(self, *arguments, **options)
        self._session = Poisoned(self._session)

    return init


def test_a_pair_that_gives_no_number_is_named_by_its_line_and_can_be_left_empty(tmp_path, tiny_artifact, monkeypatch):
    rows = make_rows(ROWS)
    rows[7]["document"] = "bread"
    pairs = write_rows(tmp_path / "a.jsonl", rows)
    with Reranker(tiny_artifact, precision="fp32", provider="cpu") as reranker:
        expected = reranker.score_pairs([(row["query"], row["document"]) for row in rows])
        tokenizer = Tokenizer.from_file(str(tiny_artifact / "tokenizer.json"))
    token = tokenizer.encode("bread", add_special_tokens=False).ids[0]
    monkeypatch.setattr(GraphSession, "__init__", no_number_for(token, GraphSession.__init__))
    with Reranker(tiny_artifact, precision="fp32", provider="cpu") as reranker:
        with pytest.raises(InferenceError, match=r"line 8 has no score"):
            score_files(reranker, pairs, tmp_path / "out.jsonl")
        assert score_files(reranker, pairs, tmp_path / "out.jsonl", on_error="null").unscored == 1
    found = [row["score"] for row in read_scored(tmp_path / "out.jsonl")]
    assert found.pop(7) is None
    assert found == pytest.approx(np.delete(expected, 7), abs=1e-5, rel=0)
