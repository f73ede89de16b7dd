"""Int8 graphs run in batches only where a check has shown that scores do not depend on the batch."""

from __future__ import annotations

import numpy as np
import pytest
from fake_runner import FakeRunner, outputs_of
from tiny_artifacts import copy_artifact

from crossrank.engine.artifact_reranker import ArtifactReranker
from crossrank.engine.plan.cost import CostModel
from crossrank.engine.runtime import calibration
from crossrank.models.manifest import PACKED_ROWS, Manifest

pytestmark = pytest.mark.filterwarnings("ignore::crossrank.TruncationWarning")
TEXTS = [f"the river carries cold water {word}" for word in ("a", "b", "c", "d", "e", "f", "g", "h")]


@pytest.fixture(scope="module")
def claiming(tiny_artifact, tmp_path_factory):
    """A function that copies the tiny artifact and declares another batching for its int8 graph."""
    manifest = Manifest.model_validate_json((tiny_artifact / "manifest.json").read_text())

    def make(*, pairs=None, batching="equal_length"):
        graphs = tuple(
            graph.model_copy(
                update={
                    "batching": batching if graph.precision == "int8" else graph.batching,
                    "reference_logits": graph.reference_logits[:pairs],
                }
            )
            for graph in manifest.graphs
        )
        folder = tmp_path_factory.mktemp("claiming") / "artifact"
        return copy_artifact(tiny_artifact, folder, graphs=graphs, reference_pairs=manifest.reference_pairs[:pairs])

    return make


def runs_of(engine, documents):
    """Scores, and the pairs of each run."""
    sizes = []
    engine.observe_batches(lambda batch: sizes.append(batch.pairs))
    scores = engine.score("who", documents)
    engine.close()
    return scores, sizes


@pytest.mark.parametrize("batching", ["equal_length", "packed"])
def test_a_graph_whose_scores_depend_on_the_batch_runs_pairs_alone(batching, reranker, claiming):
    # Dynamic quantization takes one scale for the activations of all rows of a run.
    expected, _ = runs_of(reranker(precision="int8"), TEXTS)
    engine = reranker(claiming(batching=batching), precision="int8", threads=1)
    assert engine.info().batching == "single"
    scores, sizes = runs_of(engine, TEXTS)
    assert sizes == [1] * len(TEXTS)
    assert scores.tobytes() == expected.tobytes()
    assert reranker(claiming(), precision="fp32").info().batching == "padded"


@pytest.fixture
def independent(claiming, monkeypatch):
    """A function that opens such an artifact on a runner whose scores do not depend on the batch."""
    opened = []

    def make(runner=None, **options):
        artifact = claiming(**{name: options.pop(name) for name in ("pairs", "batching") if name in options})
        runner = FakeRunner(workers=1) if runner is None else runner
        monkeypatch.setattr("crossrank.engine.loaded_model.CpuRunner", lambda *_, **__: runner)
        opened.append(ArtifactReranker(artifact, provider="cpu", precision="int8", **options))
        return opened[-1]

    yield make
    for engine in opened:
        engine.close()


def test_a_graph_whose_scores_do_not_depend_on_it_runs_pairs_of_one_length_together(independent):
    runner = FakeRunner(workers=1)
    engine = independent(runner)
    assert engine.info().batching == "equal_length"
    shapes = []
    runner.on_run = lambda arrays: shapes.append((arrays.input_ids.shape, bool(arrays.attention_mask.all())))
    longer = [f"{text} again" for text in TEXTS]
    engine.score("who", [text for both in zip(TEXTS, longer, strict=True) for text in both])
    assert all(full for _, full in shapes), "no row is padded"
    assert len({length for (_, length), _ in shapes}) == 2
    assert max(rows for (rows, _), _ in shapes) > 1
    assert sum(rows for (rows, _), _ in shapes) == 2 * len(TEXTS)


def test_a_packed_graph_is_tried_on_pairs_of_different_lengths_and_runs_them_together(independent):
    runner = FakeRunner(workers=1)
    tried, shapes = [], []
    runner.on_run = lambda arrays: tried.append(arrays.attention_mask.sum(axis=1).tolist())
    engine = independent(runner, batching="packed")
    assert engine.info().batching == "packed"
    assert any(len(set(lengths)) == len(lengths) > 1 for lengths in tried)
    runner.on_run = lambda arrays: shapes.append(arrays.attention_mask.sum(axis=1).tolist())
    documents = [" ".join(["cold"] * count) for count in range(1, 20)]
    engine.score("who", documents)
    assert sum(map(len, shapes)) == len(documents)
    assert max(map(len, shapes)) == PACKED_ROWS
    assert engine.stats().padded_token_share == 0
    many = [f"{text} again" for text in TEXTS * 3]
    shapes.clear()
    engine.score("who", [f"{text} {letter}" for text, letter in zip(many, "abcdefghijklmnopqrstuvwx", strict=True)])
    assert max(map(len, shapes)) > PACKED_ROWS, "pairs of one length are not limited to PACKED_ROWS"


@pytest.mark.parametrize("pairs", [0, 1])
def test_without_enough_reference_pairs_to_try_batching_is_off(independent, pairs):
    assert independent(pairs=pairs).info().batching == "single"


def test_one_row_that_changes_in_a_batch_turns_batching_off(independent, monkeypatch):
    def leaky(self, arrays):
        scores = outputs_of(arrays)
        if len(scores) > 1:
            scores[1] = np.nextafter(scores[1], np.float32(np.inf))
        return scores

    monkeypatch.setattr(FakeRunner, "outputs", leaky)
    assert independent().info().batching == "single"


def test_calibration_times_the_shapes_that_are_run(independent, claiming, reranker, monkeypatch):
    single_rows_only = []

    def measure(run, shapes):
        single_rows_only.append({rows for rows, _ in shapes} == {1})
        return CostModel(run=1e-3, row=1e-4, token=1e-5, token_squared=1e-9)

    monkeypatch.setattr(calibration, "measure", measure)
    monkeypatch.setattr(calibration, "remember", lambda *_: None)
    reranker(claiming(), precision="int8").calibrate()
    independent().calibrate()
    assert single_rows_only == [True, False]


def test_calibration_times_packed_runs_where_the_graph_takes_them(independent, monkeypatch):
    runner = FakeRunner(workers=1)
    monkeypatch.setattr(calibration, "remember", lambda *_: None)
    for batching in ("packed", "equal_length"):
        engine = independent(runner, batching=batching)
        lengths = []
        runner.on_run = lambda arrays, to=lengths: to.append(arrays.attention_mask.sum(axis=1).tolist())
        monkeypatch.setattr(calibration, "measure_packing", lambda run, *_: run([3, 2]) is None or 0.5)
        packing = engine.calibrate().packing
        assert (packing, [3, 2] in lengths) == ((0.5, True) if batching == "packed" else (CostModel.packing, False))
