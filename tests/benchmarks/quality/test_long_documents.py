"""Long documents made of short ones, and what is measured on them."""

from __future__ import annotations

import json

import pytest

from crossrank.benchmarks.quality.long_documents import join_documents, measure_long_documents, measure_window_times
from crossrank.cli.app import app
from crossrank.engine.artifact_reranker import ArtifactReranker
from crossrank.engine.text.windows import Windows
from crossrank.errors import InvalidInputError
from crossrank.evaluation.beir import Collection, read_collection
from crossrank.evaluation.measures import ndcg


def test_documents_are_joined_to_groups_with_their_best_grade_and_rank():
    names = [f"d{index}" for index in range(10)]
    documents = {name: f"text of {name}" for name in names}
    judgements = {"q": {"d0": 1, "d1": 3, "d2": 0}}
    collection = Collection(documents, {"q": "?"}, judgements, {"q": tuple(reversed(names))})
    found = join_documents(collection, 2)
    assert join_documents(collection, 2) == found
    parts = {group: group.split("+") for group in found.documents}
    assert sorted(name for group in parts.values() for name in group) == names
    assert list(found.documents) != ["d0+d1", "d2+d3", "d4+d5", "d6+d7", "d8+d9"], "dealt in the corpus's order"
    for group, (first, second) in parts.items():
        assert found.documents[group] == f"text of {first} text of {second}"
        grades = [judgements["q"][name] for name in (first, second) if name in judgements["q"]]
        assert found.judgements["q"].get(group) == max(grades, default=None)
    best_rank = [min(9 - int(name[1:]) for name in parts[group]) for group in found.runs["q"]]
    assert best_rank == sorted(best_rank)
    assert set(found.runs["q"]) == set(parts)
    # Eleven documents make five pairs: the one that is left over is nowhere.
    odd = join_documents(Collection({**documents, "d10": "x"}, {"q": "?"}, judgements, collection.runs), 2)
    assert len(odd.documents) == 5


def test_every_way_to_read_is_judged_by_its_own_ranking(folder, tiny_artifact):
    found = measure_long_documents(tiny_artifact, folder, depth=8, threads=1)
    assert (found.collection, found.queries) == ("small", 2)
    long = join_documents(read_collection(folder))
    for way, windows in (("truncate", "truncate"), ("max", Windows()), ("top-mean", Windows(aggregation="top-mean"))):
        scores = {}
        with ArtifactReranker(tiny_artifact, long_documents=windows) as reranker:
            for query in ("q0", "q2"):
                names = long.runs[query][:8]
                ranking = reranker.rank(long.queries[query], [long.documents[name] for name in names])
                scores[query] = {names[item.index]: -rank for rank, item in enumerate(ranking)}
        expected = ndcg({query: long.judgements[query] for query in scores}, scores)
        assert found.ways[way].ndcg == pytest.approx(expected)
    assert found.ways["truncate"].windows == 1
    assert found.ways["max"].windows > 1.5
    (folder / "bm25.trec").unlink()
    with pytest.raises(InvalidInputError, match=r"one \*\.trec run expected"):
        measure_long_documents(tiny_artifact, folder)


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("bm25.trec", "other Q0 d1 1 2.0 bm25\n"),
        ("qrels/test.tsv", "q0\td1\t0\n"),
        ("qrels/test.tsv", "other\td1\t1\n"),
    ],
    ids=["run of other queries", "nothing relevant", "judgements of other queries"],
)
def test_a_run_or_judgements_that_tell_nothing_of_the_queries_are_refused(folder, tiny_artifact, file, text):
    (folder / file).write_text(text)
    with pytest.raises(InvalidInputError, match="small: none of its 3 queries"):
        measure_long_documents(tiny_artifact, folder)


def test_times_are_taken_of_documents_with_so_many_windows(tiny_artifact, texts):
    rows = measure_window_times(tiny_artifact, " ".join(texts) * 4, "who", counts=(1, 3), threads=1)
    assert [row.windows for row in rows] == [1, 3]
    assert all(row.seconds > 0 for row in rows)
    with pytest.raises(InvalidInputError, match="1 windows a document; 4 expected"):
        measure_window_times(tiny_artifact, "short", "who", counts=(4,))


def test_the_bench_prints_them(crossrank_bench, folder, tiny_artifact, tmp_path):
    result = crossrank_bench("windows", "--model", tiny_artifact, "--collection", folder, "--json", tmp_path / "f.json")
    assert result.exit_code == 0, result.output
    assert "nDCG@10 on long documents" in result.stdout
    assert "ms a window" in result.stdout
    figures = json.loads((tmp_path / "f.json").read_text())
    assert set(figures["long_documents"][0]["ways"]) == {"truncate", "max", "top-mean"}


@pytest.fixture
def crossrank_bench():
    from typer.testing import CliRunner

    return lambda *arguments: CliRunner().invoke(app, ["bench", *map(str, arguments)])
