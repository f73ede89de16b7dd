"""`evaluate` judges what the rerankers rank, on folders, dictionaries, open rerankers and cascades."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest

from crossrank import Cascade, InvalidInputError, MissingDependencyError, PrecisionError, Reranker, Stage
from crossrank.engine.artifact_reranker import ArtifactReranker
from crossrank.engine.schedule.request import FailedPair
from crossrank.errors import InferenceError
from crossrank.evaluation import Collection, evaluate, read_collection
from crossrank.evaluation.report import evaluation_table, write_plot
from crossrank.export.verify.fidelity import kendall_tau, top_overlap

RIVER, READER, BREAD = "Rivers the river heats cold water", "every reader", "bread in winter"
SECOND_OF_TWO = 1 / math.log2(3)


def test_a_model_is_judged_by_its_own_ranking_beside_the_first_stage(collection, tiny_artifact):
    result = evaluate(collection, [tiny_artifact], precisions=["fp32"], gain="exponential")
    first_stage, model = result.models
    # The run has the grade 2 document second of two, and the only relevant one second.
    worst = (1 + 3 * SECOND_OF_TWO) / (3 + SECOND_OF_TWO)
    assert first_stage.means()["nDCG@10"] == pytest.approx((worst + SECOND_OF_TWO) / 2)
    assert first_stage.values["MRR@10"] == {"2": 0.5, "1": 1.0}
    with Reranker(tiny_artifact, precision="fp32") as reranker:
        river, bread = reranker.score("cold water", [RIVER, BREAD])
        other, reader = reranker.score("who reads", [RIVER, READER])
    expected = {"1": 1.0 if river > bread else worst, "2": 1.0 if reader > other else SECOND_OF_TWO}
    assert model.values["nDCG@10"] == pytest.approx(expected)
    assert dict(model.rankings["1"]) == pytest.approx({"a": river, "c": bread}, abs=1e-5)
    assert [score for _, score in model.rankings["2"]] == sorted((other, reader), reverse=True)
    assert (result.queries, result.candidates, result.collection) == (("2", "1"), 4, "small")
    assert len(model.seconds) == 2
    assert 0 < model.latency()["p50"] <= model.latency()["p99"]
    assert first_stage.seconds == ()
    assert first_stage.latency() == {}
    assert model.comparisons == {}
    assert model.kendall_tau is None
    comparison = first_stage.comparisons["nDCG@10"]
    assert comparison.difference == pytest.approx(first_stage.means()["nDCG@10"] - model.means()["nDCG@10"])


def test_linear_gain_is_the_grade_and_the_default(collection, tiny_artifact):
    result = evaluate(collection, [tiny_artifact])
    worst = (1 + 2 * SECOND_OF_TWO) / (2 + SECOND_OF_TWO)
    assert result.models[0].values["nDCG@10"] == pytest.approx({"1": worst, "2": SECOND_OF_TWO})
    assert result.as_json()["gain_formula"] == "grade"


def test_every_precision_is_a_model_and_agrees_with_the_first_as_their_scores_do(many_queries, tiny_artifact):
    result = evaluate(many_queries, {"tiny": tiny_artifact}, precisions=["fp32", "int8"], depth=8)
    assert [(model.name, model.precision) for model in result.models] == [
        ("first stage", ""),
        ("tiny fp32", "fp32"),
        ("tiny int8", "int8"),
    ]
    read = read_collection(many_queries)
    scores = {}
    for precision in ("fp32", "int8"):
        with Reranker(tiny_artifact, precision=precision, activation="identity") as reranker:
            scores[precision] = [
                reranker.score(read.queries[query], [read.documents[name] for name in read.runs[query][:8]])
                for query in result.queries
            ]
    pairs = list(zip(scores["fp32"], scores["int8"], strict=True))
    assert result.models[2].kendall_tau == pytest.approx(np.mean([kendall_tau(*pair) for pair in pairs]), abs=0.02)
    assert result.models[2].top10_overlap == pytest.approx(np.mean([top_overlap(*pair) for pair in pairs]))
    assert result.models[1].digest != result.models[2].digest
    assert result.candidates == 12 * 8


def test_dictionaries_are_evaluated_as_the_folder_is(many_queries, tiny_artifact):
    read = read_collection(many_queries)
    given = Collection.from_tables(read.documents, read.queries, read.judgements, read.runs, name="many")
    by_folder = evaluate(many_queries, [str(tiny_artifact)], queries=4)
    by_tables = evaluate(given, [str(tiny_artifact)], queries=4)
    assert by_tables.digest == by_folder.digest
    assert [model.rankings for model in by_tables.models] == [model.rankings for model in by_folder.models]
    with pytest.raises(InvalidInputError, match="a run goes with a BEIR folder only"):
        evaluate(given, run=many_queries / "bm25.trec")


def test_open_rerankers_and_cascades_are_evaluated_and_stay_open(many_queries, tiny_artifact):
    read = read_collection(many_queries)
    with (
        Reranker(tiny_artifact, precision="fp32") as reranker,
        Cascade([Stage(reranker, keep=3, max_length=12), Stage(reranker)]) as cascade,
    ):
        result = evaluate(many_queries, {"full": reranker, "staged": cascade}, queries=3)
        assert result.models[1].precision == result.models[2].precision == "fp32"
        for query in result.queries:
            names = read.runs[query]
            texts = [read.documents[name] for name in names]
            for model, ranker in zip(result.models[1:], (reranker, cascade), strict=True):
                ranking = [names[item.index] for item in ranker.rank(read.queries[query], texts)]
                assert [name for name, _ in model.rankings[query]] == ranking
            scores = [score for _, score in result.models[2].rankings[query]]
            assert scores == sorted(set(scores), reverse=True), "stages do not compare, ranks do"


def test_an_open_reranker_is_judged_by_its_ranking_also_where_its_activation_saturates(
    many_queries, tiny_artifact, monkeypatch
):
    from crossrank.engine.runtime.session import GraphSession

    original = GraphSession.run
    monkeypatch.setattr(GraphSession, "run", lambda self, arrays: original(self, arrays) + 40)  # sigmoid(40) is 1
    read = read_collection(many_queries)
    with Reranker(tiny_artifact, precision="fp32", activation="sigmoid") as reranker:
        (_, model) = evaluate(many_queries, {"open": reranker}, queries=3).models
        for query, ranking in model.rankings.items():
            names = read.runs[query]
            texts = [read.documents[name] for name in names]
            ranked = reranker.rank(read.queries[query], texts)
            assert {item.score for item in ranked} == {1.0}
            assert [name for name, _ in ranking] == [names[item.index] for item in ranked]
            assert [score for _, score in ranking] == pytest.approx([1.0] * len(names), abs=1e-5)


def test_a_document_that_a_cascade_cannot_score_is_named_with_its_query(many_queries, tiny_artifact, monkeypatch):
    score_indices = ArtifactReranker.score_indices

    def failing(self, query, documents, indices, *, max_length=None):
        scores = score_indices(self, query, documents, indices, max_length=max_length)
        if query != "who reads 4" or len(indices) < 10:
            return scores
        scored = scores.scored.copy()
        scored[7] = False
        error = FailedPair(InferenceError("the model gave a score that is no number"), in_run=False)
        return dataclasses.replace(scores, scored=scored, failed={7: error})

    monkeypatch.setattr(ArtifactReranker, "score_indices", failing)
    with (
        Reranker(tiny_artifact, precision="fp32") as reranker,
        Cascade([Stage(reranker, keep=3, max_length=12), Stage(reranker)]) as cascade,
        pytest.raises(InferenceError, match=r"documents\[7\] has no score for the query 'who reads 4': .*no number"),
    ):
        evaluate(many_queries, {"staged": cascade})


def test_equal_scores_keep_the_first_stages_order(many_queries, tiny_artifact, monkeypatch):
    from crossrank.engine.artifact_reranker import ArtifactReranker

    monkeypatch.setattr(ArtifactReranker, "score", lambda _, __, texts: np.zeros(len(texts), dtype=np.float32))
    result = evaluate(many_queries, [tiny_artifact])
    runs = read_collection(many_queries).runs
    assert {query: tuple(name for name, _ in ranking) for query, ranking in result.models[1].rankings.items()} == runs
    assert result.models[0].comparisons["nDCG@10"].p_value == 1
    assert result.models[0].values == result.models[1].values


def test_queries_without_judgements_or_without_candidates_are_left_out_and_counted(many_queries, tiny_artifact):
    path = many_queries / "qrels" / "test.tsv"
    path.write_text("\n".join(line for line in path.read_text().splitlines() if not line.startswith("q0\t")))
    path = many_queries / "bm25.trec"
    path.write_text("\n".join(line for line in path.read_text().splitlines() if not line.startswith("q3 ")))
    result = evaluate(many_queries, [tiny_artifact], queries=3)
    assert (result.queries, result.unjudged, result.without_candidates) == (("q1", "q2", "q4"), 1, 1)
    note = evaluation_table(result).note
    assert "1 queries without judgements" in note
    assert "1 judged queries without documents in the run" in note


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("bm25.trec", "other Q0 a 1 2.0 bm25\n"),
        ("qrels/test.tsv", "1\ta\t0\n1\tc\t-1\n"),
        ("qrels/test.tsv", "other\ta\t1\n"),
    ],
    ids=["run of other queries", "nothing relevant", "judgements of other queries"],
)
def test_a_run_or_judgements_that_say_nothing_of_the_queries_are_refused(collection, tiny_artifact, file, text):
    (collection / file).write_text(text)
    with pytest.raises(InvalidInputError, match=r"small: of its 2 queries .* expected"):
        evaluate(collection, [tiny_artifact])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"depth": 0}, "depth=0: a whole number of at least 1"),
        ({"queries": 1.5}, "queries=1.5: a whole number"),
        ({"measures": []}, r"measures=\[\]: a list of one or more"),
        ({"measures": "nDCG@10"}, "measures='nDCG@10': a list of one or more"),
        ({"gain": "squared"}, "gain 'squared'"),
        ({"models": []}, "a list of one or more expected"),
        ({"models": "default"}, "a list of one or more expected"),
        ({"models": ["default", "default"]}, "two models are called 'default'"),
        ({"models": {"first stage": "default"}}, "two models are called 'first stage'"),
        ({"precisions": []}, r"precisions=\[\]: a list of one or more expected"),
        ({"precisions": "int8"}, "precisions='int8': a list of one or more expected"),
    ],
)
def test_wrong_options_are_refused_before_a_model_is_loaded(collection, monkeypatch, options, message):
    monkeypatch.setattr("crossrank.evaluation.evaluation.score_candidates", lambda *_, **__: pytest.fail("scored"))
    with pytest.raises(InvalidInputError, match=message):
        evaluate(collection, **options)


def test_a_model_that_cannot_be_used_is_refused_before_others_are_scored(many_queries, tiny_artifact, counted):
    with pytest.raises(PrecisionError):
        evaluate(many_queries, [tiny_artifact], precisions=["int8", "fp16"])
    with pytest.raises(InvalidInputError, match="a whole number of at least 1 expected"):
        evaluate(many_queries, [tiny_artifact], depth=True)
    assert counted == []


@pytest.mark.parametrize("module", ["ir_measures", "scipy.stats"])
def test_a_missing_package_is_named_before_anything_is_scored(collection, tiny_artifact, monkeypatch, module):
    monkeypatch.setitem(__import__("sys").modules, module, None)
    monkeypatch.setattr("crossrank.evaluation.evaluation.score_candidates", lambda *_, **__: pytest.fail("scored"))
    with pytest.raises(MissingDependencyError, match=r"crossrank\[bench\]"):
        evaluate(collection, [tiny_artifact])


def test_the_table_has_quality_beside_latency_and_names_the_gain(many_queries, tiny_artifact, tmp_path):
    result = evaluate(many_queries, [tiny_artifact], precisions=["int8", "fp32"], measures=["nDCG@5", "AP"])
    table = evaluation_table(result)
    assert table.columns == (
        "model", "precision", "nDCG@5", "AP", "nDCG@5 difference", "p", "ms p50", "ms p90", "Kendall tau",
        "top-10 overlap",
    )  # fmt: skip
    rows = {row[0]: dict(zip(table.columns, row, strict=True)) for row in table.rows}
    first, second = f"{tiny_artifact} int8", f"{tiny_artifact} fp32"
    assert list(rows) == ["first stage", first, second]
    for model in result.models:
        assert rows[model.name]["AP"] == f"{model.means()['AP']:.4f}"
    comparison = result.models[2].comparisons["nDCG@5"]
    assert rows[second]["nDCG@5 difference"] == f"{comparison.difference:+.4f}"
    assert rows[second]["p"] == f"{comparison.p_value:.3f}"
    assert (rows[first]["p"], rows["first stage"]["ms p50"]) == ("", "")
    assert "linear gain: grade" in table.note
    write_plot(result, tmp_path / "new" / "plot.png")
    assert (tmp_path / "new" / "plot.png").read_bytes().startswith(b"\x89PNG")
