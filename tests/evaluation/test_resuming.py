"""An evaluation that was stopped goes on where it was, with the scores it would have had anyway."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from tiny_artifacts import with_instruction

from crossrank.engine.artifact_reranker import ArtifactReranker
from crossrank.evaluation import evaluate
from crossrank.evaluation.kept_scores import KeptScores, QueryScores


def test_what_is_kept_is_not_scored_again(many_queries, tiny_artifact, tmp_path, counted):
    first = evaluate(many_queries, [tiny_artifact], scores=tmp_path / "kept", queries=5)
    assert len(counted) == 5
    again = evaluate(many_queries, [tiny_artifact], scores=tmp_path / "kept", queries=5)
    assert len(counted) == 5
    assert again.models[1].kept == 5
    assert (again.models[1].rankings, again.models[1].seconds) == (first.models[1].rankings, first.models[1].seconds)
    more = evaluate(many_queries, [tiny_artifact], scores=tmp_path / "kept")
    assert counted[5:] == [f"who reads {index}" for index in range(5, 12)]
    assert (more.models[1].kept, len(more.models[1].seconds)) == (5, 12)


@pytest.mark.parametrize("stop_after", [0, 1, 7, 11])
def test_an_interrupt_at_any_query_loses_none_before_it(many_queries, tiny_artifact, tmp_path, counted, stop_after):
    def interrupt(step):
        if f"query {stop_after + 1} of" in step:
            raise KeyboardInterrupt

    whole = evaluate(many_queries, [tiny_artifact])
    counted.clear()
    with pytest.raises(KeyboardInterrupt):
        evaluate(many_queries, [tiny_artifact], scores=tmp_path / "kept", progress=interrupt)
    resumed = evaluate(many_queries, [tiny_artifact], scores=tmp_path / "kept")
    assert counted == [f"who reads {index}" for index in range(12)], "each query once"
    assert resumed.models[1].kept == stop_after
    assert resumed.models[1].rankings == whole.models[1].rankings


def test_a_write_that_is_cut_off_leaves_no_scores(many_queries, tiny_artifact, tmp_path, counted, monkeypatch):
    from pathlib import Path

    replace = Path.replace

    def killed(self, target):
        if len(counted) == 3:
            self.write_text(self.read_text()[:20])  # as much as had reached the disk
            raise KeyboardInterrupt
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", killed)
    with pytest.raises(KeyboardInterrupt):
        evaluate(many_queries, [tiny_artifact], scores=tmp_path / "kept")
    monkeypatch.setattr(Path, "replace", replace)
    assert evaluate(many_queries, [tiny_artifact], scores=tmp_path / "kept").models[1].kept == 2


def test_a_process_killed_while_scoring_is_resumed_with_equal_results(many_queries, tiny_artifact, tmp_path):
    # Each query takes longer than the kill does to arrive, so that it falls between the first and the last.
    script = (
        "import sys, time; from crossrank.evaluation import evaluate; "
        "evaluate(sys.argv[1], [sys.argv[2]], scores=__import__('pathlib').Path(sys.argv[3]), "
        "progress=lambda step: time.sleep(0.2 if 'query' in step else 0))"
    )
    arguments = [str(many_queries), str(tiny_artifact), str(tmp_path / "kept")]
    process = subprocess.Popen([sys.executable, "-c", script, *arguments])
    until = time.monotonic() + 120
    while len(list((tmp_path / "kept").glob("*/*.json"))) < 3:
        assert process.poll() is None, "ended before it was killed"
        assert time.monotonic() < until
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    kept = len(list((tmp_path / "kept").glob("*/*.json")))
    resumed = evaluate(many_queries, [tiny_artifact], scores=tmp_path / "kept")
    assert 3 <= kept < 12
    assert resumed.models[1].kept == kept
    whole = evaluate(many_queries, [tiny_artifact])
    assert resumed.models[1].rankings == whole.models[1].rankings
    assert resumed.models[1].values == whole.models[1].values


def test_other_texts_options_and_models_are_scored_anew(many_queries, tiny_artifact, tmp_path, counted):
    def scored(**options):
        counted.clear()
        evaluate(many_queries, [tiny_artifact], scores=tmp_path / "kept", **options)
        return len(counted)

    assert scored() == 12
    assert scored(gain="exponential", measures=["AP"], seed=5) == 0
    assert scored(max_length=20) == 12
    assert scored(precisions=["fp32"]) == 12
    assert scored(depth=4) == 12
    corpus = many_queries / "corpus.jsonl"
    corpus.write_text(corpus.read_text().replace("number 5 heats", "number 5 cools"))
    assert scored() == 5, "q0 to q4 have d5 among their ten candidates"
    queries = many_queries / "queries.jsonl"
    queries.write_text(queries.read_text().replace("who reads 7", "who writes 7"))
    assert scored() == 1


def test_another_instruction_is_scored_anew(many_queries, tiny_artifact, tmp_path, counted):
    artifact = with_instruction(tiny_artifact, tmp_path / "instructed")
    for instruction, scored in ((None, 12), ("Find recipes", 12), (None, 0), ("Find recipes", 0)):
        counted.clear()
        with ArtifactReranker(artifact, instruction=instruction) as reranker:
            evaluate(many_queries, [reranker], scores=tmp_path / "kept")
        assert len(counted) == scored


@pytest.mark.parametrize("damage", ["", "{", "[]", "null", "scores", "model", "texts", "nan", "seconds", "[" * 100_000])
def test_files_that_hold_no_scores_of_these_texts_are_not_used(tmp_path, damage):
    kept = KeptScores(tmp_path)
    entry = QueryScores(np.array([1.5, -2.0], dtype=np.float32), 0.25)
    kept.write("m" * 64, "t" * 64, entry)
    (path,) = tmp_path.glob("*/*.json")
    read = kept.read("m" * 64, "t" * 64, 2)
    assert (read.scores.tolist(), read.seconds) == ([1.5, -2.0], 0.25)
    record = json.loads(path.read_text())
    if damage in record:
        record[damage] = {"scores": [1.5], "seconds": "soon"}.get(damage, "m" * 32 + "x" * 32)
        damage = json.dumps(record)
    elif damage == "nan":
        damage = json.dumps(record | {"scores": [float("nan"), 1.0]})
    path.write_text(damage)
    assert kept.read("m" * 64, "t" * 64, 2) is None
    kept.write("m" * 64, "t" * 64, entry)
    assert kept.read("m" * 64, "t" * 64, 2) is not None
    assert [file.name for file in tmp_path.glob("*/*")] == [path.name], "nothing but whole files is left"
