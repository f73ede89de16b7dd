"""Datasets scored by actors on a local Ray with two workers."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import numpy as np
import pytest
from local_ray import local_ray

from crossrank import InvalidInputError, Reranker, Windows

ray = pytest.importorskip("ray", reason="Ray is not installed: 'make ray' has an environment with it")
pytest.importorskip("ray.data", reason="Ray Data is not installed: 'make ray' has an environment with it")

from crossrank.integrations.ray import PairScorer, PairScorerOptions  # noqa: E402

QUERIES = ("what do bees make", "how do vaccines work", "")
WORDS = ("bees", "make", "honey", "from", "nectar", "vaccines", "train", "immune", "cells", "日本語")
MODEL = "default-small"


def rows(count):
    random = np.random.default_rng(count)
    return [
        {
            "key": key,
            "question": QUERIES[key % len(QUERIES)],
            "passage": " ".join(random.choice(WORDS, size=random.integers(0, 60))),
        }
        for key in range(count)
    ]


OPTIONS = PairScorerOptions(model=MODEL, query="question", document="passage", score="relevance")


@pytest.fixture(scope="module")
def cluster():
    with local_ray():
        ray.data.DataContext.get_current().enable_progress_bars = False
        yield


def pool(size):
    return ray.data.ActorPoolStrategy(size=size)


def expected(given):
    with Reranker(MODEL, provider="cpu", threads=1) as reranker:
        return reranker.score_pairs([(row["question"], row["passage"]) for row in given])


@pytest.mark.parametrize("batch_format", ["numpy", "pandas", "pyarrow"])
def test_two_actors_give_every_row_once_with_the_scores_of_a_reranker(cluster, batch_format):
    given = rows(300)
    scored = (
        ray.data.from_items(given, override_num_blocks=6)
        .map_batches(
            PairScorer,
            fn_constructor_args=[OPTIONS],
            compute=pool(2),
            num_cpus=1,
            batch_size=64,
            batch_format=batch_format,
        )
        .take_all()
    )
    scored.sort(key=lambda row: row["key"])
    assert [{name: row[name] for name in ("key", "question", "passage")} for row in scored] == given
    # int8: the same bits, whatever shared a batch.
    assert np.array([row["relevance"] for row in scored], np.float32).tobytes() == expected(given).tobytes()


def test_rows_are_complete_after_a_worker_was_killed(cluster, tmp_path):
    mark = tmp_path / "killed"

    class DiesOnce(PairScorer):
        def __call__(self, batch):
            scored = super().__call__(batch)
            if 100 in batch["key"]:
                try:
                    mark.touch(exist_ok=False)
                except FileExistsError:
                    pass
                else:
                    os.kill(os.getpid(), signal.SIGKILL)
            return {**scored, "pid": np.full(len(batch["key"]), os.getpid())}

    given = rows(240)
    scored = (
        ray.data.from_items(given, override_num_blocks=12)
        .map_batches(DiesOnce, fn_constructor_args=[OPTIONS], compute=pool(2), num_cpus=1, batch_size=20)
        .take_all()
    )
    assert mark.exists()
    scored.sort(key=lambda row: row["key"])
    assert [row["key"] for row in scored] == list(range(240))
    assert np.array([row["relevance"] for row in scored], np.float32).tobytes() == expected(given).tobytes()


@pytest.mark.parametrize(("cpus", "threads"), [(0.5, 1), (1, 1), (2, 2)])
def test_an_actor_takes_as_many_threads_as_it_has_cpus(cluster, cpus, threads):
    class Asked(PairScorer):
        def __call__(self, batch):
            info = self._reranker.info()
            return {"threads": np.array([info.threads]), "provider": np.array([info.provider])}

    # Made here and not read by a task, for which no CPU would be left beside an actor that has both.
    dataset = ray.data.from_items([{"key": 0}]).map_batches(
        Asked, fn_constructor_args=[OPTIONS], compute=pool(1), num_cpus=cpus
    )
    assert dataset.take_all() == [{"threads": min(threads, len(os.sched_getaffinity(0))), "provider": "cpu"}]


@pytest.mark.parametrize("batch_format", ["numpy", "pandas", "pyarrow"])
@pytest.mark.parametrize("column", ["question", "passage"])
def test_a_null_is_refused_with_its_row(cluster, column, batch_format):
    given = rows(20)
    given[13][column] = None
    dataset = ray.data.from_items(given, override_num_blocks=1).map_batches(
        PairScorer,
        fn_constructor_args=[OPTIONS],
        compute=pool(1),
        num_cpus=1,
        batch_size=20,
        batch_format=batch_format,
    )
    with pytest.raises(Exception, match=rf"row 13 of a batch: {column}=(None|nan|<NA>), a string expected.*'key': 13"):
        dataset.take_all()


class TestWithoutACluster:
    """The class as it is in each actor."""

    @pytest.fixture(scope="class")
    def scorer(self):
        return PairScorer(OPTIONS)

    @pytest.mark.parametrize("kind", ["numpy", "pandas", "pyarrow"])
    def test_the_batch_is_not_changed(self, scorer, kind):
        import pandas as pd
        import pyarrow as pa

        def batch():
            table = pa.Table.from_pylist(rows(8))
            if kind == "pyarrow":
                return table
            frame = table.to_pandas()
            return frame if kind == "pandas" else {name: frame[name].to_numpy(object) for name in frame}

        given, scored = batch(), None
        scored = scorer(given)
        assert type(scored) is type(given)
        assert list(getattr(scored, "column_names", scored)) == ["key", "question", "passage", "relevance"]
        if kind == "numpy":
            assert given.keys() == batch().keys()
            assert all((given[name] == batch()[name]).all() for name in given)
        elif kind == "pandas":
            pd.testing.assert_frame_equal(given, batch())
        else:
            assert given == batch()

    def test_a_struct_with_a_text_is_a_document(self, scorer):
        as_text = scorer({"question": np.array(["bees"], object), "passage": np.array(["bees make honey"], object)})
        as_struct = scorer(
            {"question": np.array(["bees"], object), "passage": np.array([{"text": "bees make honey"}], object)}
        )
        assert as_text["relevance"].tobytes() == as_struct["relevance"].tobytes()

    @pytest.mark.parametrize("struct", [{"text": None}, {"text": 7}, {"body": "bees make honey"}], ids=str)
    @pytest.mark.parametrize("kind", ["numpy", "pandas", "pyarrow"])
    def test_a_struct_without_a_text_is_refused_with_its_row(self, scorer, struct, kind):
        import pandas as pd
        import pyarrow as pa

        others = {f"other_{number}": [number] for number in range(6)}
        table = {"question": ["bees"], "passage": [struct], **others, "key": ["a"]}
        batch = {
            "numpy": lambda: {name: np.array(values, object) for name, values in table.items()},
            "pandas": lambda: pd.DataFrame(table),
            "pyarrow": lambda: pa.table(table),
        }[kind]()
        with pytest.raises(InvalidInputError, match="a string expected, or a struct with one as 'text'") as no:
            scorer(batch)
        assert f"row 0 of a batch: passage={struct}" in str(no.value)
        assert all(f"{name!r}: {values[0]!r}" in str(no.value) for name, values in table.items())

    def test_an_empty_batch_gets_an_empty_column(self, scorer):
        empty = np.array([], object)
        scored = scorer({"question": empty, "passage": empty})["relevance"]
        assert (scored.shape, scored.dtype) == ((0,), np.float32)

    def test_a_column_that_is_missing_is_named_with_those_there_are(self, scorer):
        with pytest.raises(InvalidInputError, match=r"no column 'question', 'passage'; the dataset has \['query'\]"):
            scorer({"query": np.array(["bees"], object)})

    def test_a_column_is_not_overwritten(self, scorer):
        values = np.array(["bees"], object)
        with pytest.raises(InvalidInputError, match=r"a column 'relevance' already.*score="):
            scorer({"question": values, "passage": values, "relevance": values})


def test_options_are_checked_before_an_actor_starts():
    with pytest.raises(InvalidInputError, match="max_length"):
        PairScorerOptions(max_length=0)
    with pytest.raises(InvalidInputError, match="precision"):
        PairScorerOptions(precision="int4")
    with pytest.raises(InvalidInputError, match="score='query'"):
        PairScorerOptions(score="query")
    assert PairScorerOptions(long_documents=Windows(tokens=64)).long_documents == Windows(tokens=64)


def test_a_folder_is_the_same_folder_in_an_actor(tmp_path, monkeypatch):
    (tmp_path / "model").mkdir()
    monkeypatch.chdir(tmp_path)
    assert PairScorerOptions(model=Path("model")).model == tmp_path / "model"
