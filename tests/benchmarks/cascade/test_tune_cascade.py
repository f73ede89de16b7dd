"""Tuning a cascade: it ranks as predicted, and the chosen one keeps the share that was asked for."""

from __future__ import annotations

import dataclasses
import json
import sys

import numpy as np
import pytest
from last_part import whole
from tiny_artifacts import copy_artifact, with_instruction
from tiny_checkpoints import make_texts

from crossrank import Cascade, InvalidInputError, MissingDependencyError, Reranker, Stage
from crossrank.benchmarks.cascade import tuning_plan
from crossrank.benchmarks.cascade.stage_scores import score_stages
from crossrank.benchmarks.cascade.tune import tune_cascade
from crossrank.benchmarks.cascade.tuning_plan import TuningPlan
from crossrank.cascade_file import read_stages
from crossrank.engine.artifact_reranker import ArtifactReranker
from crossrank.engine.schedule.request import FailedPair
from crossrank.errors import InferenceError
from crossrank.evaluation.beir import read_collection
from crossrank.evaluation.kept_scores import KeptScores

TEXTS = list(dict.fromkeys(make_texts(60, seed=8)))[:30]
CANDIDATES = 24


def write_collection(folder, *, judged=True):
    (folder / "qrels").mkdir(parents=True)
    documents = [{"_id": f"d{index}", "title": "", "text": text} for index, text in enumerate(TEXTS)]
    queries = [{"_id": f"q{index}", "text": text[:25]} for index, text in enumerate(make_texts(6, seed=21))]
    for name, records in (("corpus", documents), ("queries", queries)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    if judged:
        lines = [f"q{query}\td{(7 * query + step) % 30}\t{1 + step % 2}" for query in range(6) for step in (0, 3, 5, 9)]
        (folder / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\n" + "\n".join(lines) + "\n")
    (folder / "bm25.trec").write_text("".join(f"q0 Q0 d{9 - rank} {rank} {20 - rank} bm25\n" for rank in range(1, 9)))
    return folder


@pytest.fixture
def collection(tmp_path):
    return write_collection(tmp_path / "small")


@pytest.fixture(autouse=True)
def few_keeps(monkeypatch):
    monkeypatch.setattr(tuning_plan, "KEEPS", (10, 12, 16, 20))


def plan_of(model, *folders, **options):
    defaults = {"candidates": CANDIDATES, "max_lengths": (16, 24, 40), "threads": 1, "confirm": 1, "least_overlap": 0}
    options = defaults | options
    return TuningPlan(model=str(model), collections=folders, **options)


def tune(plan):
    return whole(tune_cascade(plan))


def test_candidates_are_the_run_then_the_corpus(collection, tiny_artifact):
    with Reranker(tiny_artifact, threads=1) as reranker:
        options = {"early_lengths": [16], "kept": KeptScores(None)}
        scores = score_stages(reranker, reranker, collection, queries=3, candidates=12, **options)
        assert (list(scores.logits), scores.early_encoding_seconds) == ([16, 64], 0)
        assert scores.queries == ("q0", "q2", "q4")
        assert scores.candidates["q0"] == (*(f"d{index}" for index in range(8, 0, -1)), "d0", "d9", "d10", "d11")
        assert scores.candidates["q2"] == tuple(f"d{index}" for index in range(12))
        texts = read_collection(collection)
        documents = [texts.documents[name] for name in scores.candidates["q0"]]
        expected = reranker.rank(texts.queries["q0"], documents)
        assert [item.index for item in expected] == np.argsort(-scores.logits[64][0], kind="stable").tolist()
        with pytest.raises(InvalidInputError, match="the corpus has 30 documents"):
            score_stages(reranker, reranker, collection, queries=1, candidates=31, **options)


def kept_files(folder):
    return sorted(folder.glob("*/*.json"))


def full_logits(artifact, collection, kept, **options):
    """Logits of the full model for two queries, as kept or scored."""
    with ArtifactReranker(artifact, **({"threads": 1} | options)) as reranker:
        scores = score_stages(
            reranker, reranker, collection, early_lengths=[], queries=2, candidates=12, kept=KeptScores(kept)
        )
    return scores.logits[64]


def test_stored_scores_of_another_instruction_are_not_used(collection, tiny_artifact, tmp_path):
    artifact, kept = with_instruction(tiny_artifact, tmp_path / "instructed"), tmp_path / "kept"
    found = [full_logits(artifact, collection, kept, instruction=own) for own in (None, "cold water", None)]
    assert not np.array_equal(found[0], found[1])
    np.testing.assert_array_equal(found[0], found[2])
    assert len(kept_files(kept)) == 4


def reverse_corpus(folder):
    lines = (folder / "corpus.jsonl").read_text().splitlines()
    texts = [json.loads(line)["text"] for line in reversed(lines)]
    records = [{"_id": f"d{index}", "title": "", "text": text} for index, text in enumerate(texts)]
    (folder / "corpus.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))


def reorder_run(folder):
    (folder / "bm25.trec").write_text("".join(f"q0 Q0 d{rank + 11} {rank} {20 - rank} x\n" for rank in range(1, 9)))


def change_query(folder):
    queries = (folder / "queries.jsonl").read_text().splitlines()
    record = json.loads(queries[0]) | {"text": "who reads in winter"}
    (folder / "queries.jsonl").write_text("\n".join([json.dumps(record), *queries[1:]]))


@pytest.mark.parametrize(("change", "scored"), [(reverse_corpus, 2), (reorder_run, 1), (change_query, 1)])
def test_stored_scores_of_other_texts_are_not_used(tmp_path, tiny_artifact, change, scored):
    first, second = (write_collection(tmp_path / name / "dev") for name in ("a", "b"))
    change(second)
    kept = tmp_path / "kept"
    full_logits(tiny_artifact, first, kept)
    found = full_logits(tiny_artifact, second, kept)
    np.testing.assert_array_equal(found, full_logits(tiny_artifact, second, None))
    assert len(kept_files(kept)) == 2 + scored


def test_times_of_other_threads_and_of_another_onnxruntime_are_not_used(
    collection, tiny_artifact, tmp_path, monkeypatch
):
    kept = tmp_path / "kept"
    for threads in (1, 2, 1):
        full_logits(tiny_artifact, collection, kept, threads=threads)
    assert len(kept_files(kept)) == 4
    info = ArtifactReranker.info
    monkeypatch.setattr(
        ArtifactReranker, "info", lambda self: dataclasses.replace(info(self), onnxruntime_version="0.0")
    )
    full_logits(tiny_artifact, collection, kept)
    assert len(kept_files(kept)) == 6


@pytest.mark.parametrize("stages", [2, 3])
def test_every_trial_predicts_what_the_cascade_ranks(collection, tiny_artifact, stages):
    result = tune(plan_of(tiny_artifact, collection, stages=stages, share=0.5))
    assert len(result.trials) == 3 * 4 + (3 * 6 if stages == 3 else 0)
    texts = read_collection(collection)
    queries = list(texts.queries)
    with Reranker(tiny_artifact, threads=1) as reranker:
        full = {query: [item.index for item in ranked(reranker, texts, query)[:10]] for query in queries}
        for trial in result.trials[:: 4 if stages == 3 else 3]:
            early_stages = [Stage(reranker, **vars(stage)) for stage in trial.stages]
            cascade = Cascade([*early_stages, Stage(reranker)])
            common = [
                len({item.index for item in ranked(cascade, texts, query)[:10]} & set(full[query])) for query in queries
            ]
            assert trial.overlap["small"] == pytest.approx(sum(common) / (10 * len(queries)))


def test_stages_before_the_last_may_have_a_model_of_their_own(collection, tiny_artifact, tmp_path):
    small = copy_artifact(tiny_artifact, tmp_path / "small model", max_length=40)
    kept = tmp_path / "kept"
    result = tune(
        plan_of(tiny_artifact, collection, early_model=str(small), share=0.5, max_lengths=(16, 40, 50), scores=kept)
    )
    assert {stage.max_length for trial in result.trials for stage in trial.stages} == {16, 40}
    texts = read_collection(collection)
    with Reranker(tiny_artifact, threads=1) as full, Reranker(small, threads=1) as early:
        best = {query: {item.index for item in ranked(full, texts, query)[:10]} for query in texts.queries}
        for trial in result.trials:
            cascade = Cascade([*(Stage(early, **vars(stage)) for stage in trial.stages), Stage(full)])
            common = [len({item.index for item in ranked(cascade, texts, q)[:10]} & best[q]) for q in texts.queries]
            assert trial.overlap["small"] == pytest.approx(sum(common) / (10 * len(texts.queries)))
    (tmp_path / "cascade.toml").write_text(result.toml_text("2026-01-01"))
    assert [str(stage.model) for stage in read_stages(tmp_path / "cascade.toml")] == [str(small), str(tiny_artifact)]
    assert f"Stages before the full model, {tiny_artifact}: {small}." in result.tables()[0].note
    assert (result.early_model.max_length, result.model.max_length) == (40, 64)
    assert len(kept_files(kept)) == 6 * 3
    (measured,) = result.collections
    assert measured.early_encoding_seconds_per_document > 0
    whole_document = measured.encoding_seconds_per_document + measured.seconds_per_document[64]
    for trial in result.trials:
        (stage,) = trial.stages
        beginning = measured.early_encoding_seconds_per_document + measured.seconds_per_document[stage.max_length]
        expected = (CANDIDATES * beginning + stage.keep * whole_document) / (CANDIDATES * whole_document)
        assert trial.time_share == pytest.approx(expected)


def ranked(ranker, collection, query):
    names = list(collection.documents)
    order = list(dict.fromkeys((*collection.runs.get(query, ()), *names)))[:CANDIDATES]
    return ranker.rank(collection.queries[query], [collection.documents[name] for name in order])


def test_the_fastest_that_keeps_the_share_everywhere_is_chosen_and_run(collection, tiny_artifact, tmp_path):
    other = write_collection(tmp_path / "other", judged=False)
    result = tune(plan_of(tiny_artifact, collection, other, share=0.6, measure="overlap"))
    good = [trial for trial in result.trials if min(trial.quality.values()) >= 0.6]
    assert result.chosen == min(good, key=lambda trial: trial.time_share)
    assert set(result.chosen.quality) == {"small", "other"}
    assert result.chosen.quality == result.chosen.overlap
    assert [entry.collection for entry in result.confirmed] == ["small", "other"]
    assert all(seconds > 0 for entry in result.confirmed for seconds in entry.seconds.cascade)
    (tmp_path / "cascade.toml").write_text(result.toml_text("2026-01-01"))
    read = [(str(stage.model), stage.keep, stage.max_length) for stage in read_stages(tmp_path / "cascade.toml")]
    stages = result.chosen.cascade_stages(str(tiny_artifact), str(tiny_artifact))
    assert read == [(stage.model, stage.keep, stage.max_length) for stage in stages]
    assert len(read) == 2
    (plot,) = result.write_plots(tmp_path)
    assert plot.read_bytes().startswith(b"\x89PNG")


def test_a_share_of_the_first_ten_is_kept_whatever_the_measure(collection, tiny_artifact):
    unbounded = tune(plan_of(tiny_artifact, collection, share=0.01, least_overlap=0, confirm=0))
    overlaps = sorted(trial.overlap["small"] for trial in unbounded.trials)
    floor = (overlaps[0] + overlaps[-1]) / 2
    assert unbounded.chosen == unbounded.trials[0]
    bounded = tune(plan_of(tiny_artifact, collection, share=0.01, least_overlap=floor, confirm=0))
    first = next(trial for trial in bounded.trials if trial.overlap["small"] >= floor)
    assert bounded.chosen == first


def test_where_nothing_keeps_the_share_nothing_is_chosen(collection, tiny_artifact):
    result = tune(plan_of(tiny_artifact, collection, max_lengths=(10,), share=1.0, measure="overlap"))
    assert result.chosen is None
    assert result.toml_text("2026-01-01") is None
    assert "No cascade keeps 100%" in result.tables()[0].note


def test_the_table_has_the_trials_that_no_faster_one_matches(collection, tiny_artifact):
    result = tune(plan_of(tiny_artifact, collection, share=0.1))
    rows = result.tables()[0].rows
    assert 1 <= len(rows) <= len(result.trials)
    assert [row[-1] for row in rows].count("chosen") == 1
    assert result.chosen == result.trials[0]
    assert result.collections[0].ndcg > 0


def test_stored_scores_are_not_computed_again(collection, tiny_artifact, tmp_path, monkeypatch):
    kept = tmp_path / "kept"
    first = tune(plan_of(tiny_artifact, collection, queries=3, confirm=0, scores=kept))
    assert len(kept_files(kept)) == 3 * 4
    monkeypatch.setattr(Reranker, "score_indices", lambda *_, **__: pytest.fail("scored again"))
    again = tune(plan_of(tiny_artifact, collection, queries=3, confirm=0, scores=kept))
    assert [trial.quality for trial in again.trials] == [trial.quality for trial in first.trials]
    assert again.collections[0].seconds_per_document == first.collections[0].seconds_per_document


def test_a_document_without_a_score_is_named_and_nothing_of_its_call_is_stored(
    collection, tiny_artifact, tmp_path, monkeypatch
):
    score_indices = ArtifactReranker.score_indices

    def failing(self, query, documents, indices, *, max_length=None):
        scores = score_indices(self, query, documents, indices, max_length=max_length)
        if max_length != 24:
            return scores
        return dataclasses.replace(scores, failed={5: FailedPair(InferenceError("no number"), in_run=False)})

    monkeypatch.setattr(ArtifactReranker, "score_indices", failing)
    kept = tmp_path / "kept"
    with pytest.raises(InferenceError, match=r"document 'd3' of the collection has no score at 24 tokens: no number"):
        tune(plan_of(tiny_artifact, collection, queries=3, scores=kept))
    assert len(kept_files(kept)) == 1, "the first query at 16 tokens"


@pytest.mark.parametrize("text", ["q0\td1\t0\n", "other\td1\t1\n"], ids=["nothing relevant", "other queries"])
def test_judgements_without_a_relevant_document_for_any_query_are_refused(collection, tiny_artifact, text):
    (collection / "qrels" / "test.tsv").write_text(text)
    with pytest.raises(InvalidInputError, match="small: none of its 6 queries"):
        tune(plan_of(tiny_artifact, collection))


def test_collections_of_one_name_are_refused(tiny_artifact, tmp_path, monkeypatch):
    monkeypatch.setattr(Reranker, "score_indices", lambda *_, **__: pytest.fail("scored"))
    folders = [write_collection(tmp_path / name / "dev") for name in ("a", "b")]
    with pytest.raises(InvalidInputError, match=r"b/dev: another collection is called 'dev' too"):
        tune(plan_of(tiny_artifact, *folders))


def test_what_cannot_be_tuned_on_is_told_before_anything_is_scored(collection, tiny_artifact, tmp_path, monkeypatch):
    monkeypatch.setattr(Reranker, "score_indices", lambda *_, **__: pytest.fail("scored"))
    with pytest.raises(InvalidInputError, match="is not there"):
        tune(plan_of(tiny_artifact, collection, tmp_path / "nowhere"))
    with pytest.raises(InvalidInputError, match="the corpus has 30 documents"):
        tune(plan_of(tiny_artifact, collection, candidates=31))
    monkeypatch.setitem(sys.modules, "ir_measures", None)
    with pytest.raises(MissingDependencyError, match=r"crossrank\[bench\]"):
        tune(plan_of(tiny_artifact, collection))


@pytest.mark.parametrize(
    "options",
    [
        {"share": 0},
        {"share": 1.1},
        {"stages": 4},
        {"candidates": 10},
        {"measure": "map"},
        {"least_overlap": 2},
        {"max_lengths": ()},
    ],
)
def test_a_plan_with_a_value_outside_its_range_is_refused(tmp_path, options):
    with pytest.raises(InvalidInputError, match="expected"):
        plan_of("default", tmp_path, **options)
    with pytest.raises(InvalidInputError, match="no collection"):
        plan_of("default")
