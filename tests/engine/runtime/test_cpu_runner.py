"""Which cores run what: whole batches side by side, or one batch on all cores where others would idle."""

import numpy as np
import pytest

from crossrank.engine.plan.makespan import threads_inside_operators
from crossrank.engine.runtime.session import GraphSession
from crossrank.errors import InferenceError

pytestmark = pytest.mark.filterwarnings("ignore::crossrank.TruncationWarning")


@pytest.mark.parametrize(
    ("seconds", "workers", "inside"),
    [
        ([1.0], 2, True),
        ([1.0], 4, True),
        ([1.0] * 2, 2, False),
        ([1.0] * 3, 4, True),
        ([1.0] * 4, 4, False),
        ([1.0] * 100, 4, False),
        ([10.0, 1.0], 2, True),
        ([], 4, False),
    ],
)
def test_cores_that_would_be_idle_are_used_inside_operators(seconds, workers, inside):
    assert threads_inside_operators(seconds, workers, 0.8) is inside


@pytest.mark.parametrize(("efficiency", "inside"), [(0.2, False), (0.5, False), (0.6, True), (1.0, True)])
def test_a_machine_whose_operators_gain_little_leaves_a_pair_on_one_core(efficiency, inside):
    assert threads_inside_operators([1.0], 2, efficiency) is inside


@pytest.fixture
def sessions(monkeypatch):
    """Record which sessions are made, by their threads, and which of them run."""
    made, ran = [], []
    init, run = GraphSession.__init__, GraphSession.run

    def recording_init(self, *args, threads, **options):
        made.append(threads)
        self.threads = threads
        init(self, *args, threads=threads, **options)

    def recording_run(self, arrays):
        ran.append(self.threads)
        return run(self, arrays)

    monkeypatch.setattr(GraphSession, "__init__", recording_init)
    monkeypatch.setattr(GraphSession, "run", recording_run)
    return made, ran


def test_a_pair_alone_runs_on_all_cores_and_many_share_them(reranker, sessions):
    made, ran = sessions
    engine = reranker(precision="int8", threads=2)
    assert made == [1]
    engine.score("who", [f"the river {number}" for number in range(8)])
    assert (made, set(ran), len(ran)) == ([1], {1}, 8)
    engine.score("who", ["the river"])
    # The second session is checked when it is loaded: a pair's score must be the same to the last bit in both.
    assert (made, ran[8:]) == ([1, 2], [1, 2, 2])
    engine.score("who", ["the sea"])
    assert ran[11:] == [2]


def test_a_processor_that_rounds_differently_on_several_threads_runs_each_batch_on_one(reranker, monkeypatch, caplog):
    expected = reranker(precision="int8", threads=1).score("who", ["the river"])
    init, run = GraphSession.__init__, GraphSession.run

    def rounding_init(self, *arguments, threads, **options):
        self.error = np.float32(0 if threads == 1 else 1e-6)
        init(self, *arguments, threads=threads, **options)

    monkeypatch.setattr(GraphSession, "__init__", rounding_init)
    monkeypatch.setattr(GraphSession, "run", lambda self, arrays: run(self, arrays) * (1 + self.error))
    engine = reranker(precision="int8", threads=2)
    assert engine.score("who", ["the river"]).tobytes() == expected.tobytes()
    assert engine.score("who", ["the sea"]).shape == (1,)
    assert caplog.messages == ["runs on 2 threads may round otherwise; each run keeps to one core"]
    caplog.clear()
    assert reranker(precision="fp32", threads=2).score("who", ["the river"]).shape == (1,)
    assert not caplog.messages, "float32 promises no bits"


def test_a_graph_that_cannot_be_tried_on_several_threads_scores_on_one(reranker, monkeypatch):
    expected = reranker(precision="int8", threads=1).score("who", ["the river"])
    run = GraphSession.run

    def short_only(self, arrays):
        if arrays.input_ids.shape[1] > 20:
            raise InferenceError("of fixed shape")
        return run(self, arrays)

    monkeypatch.setattr(GraphSession, "run", short_only)
    assert reranker(precision="int8", threads=2).score("who", ["the river"]).tobytes() == expected.tobytes()


def test_one_thread_needs_one_session(reranker, sessions):
    made, ran = sessions
    engine = reranker(threads=1)
    engine.score("who", ["the river"])
    engine.warmup()
    assert made == [1]
    assert set(ran) == {1}


def test_no_documents_load_and_run_nothing(reranker, sessions):
    made, ran = sessions
    reranker(threads=3).score("who", [])
    assert (made, ran) == ([1], [])


def test_warming_up_loads_every_session(reranker, sessions):
    made, ran = sessions
    engine = reranker(precision="int8", threads=2)
    engine.warmup()
    assert made == [1, 2]
    assert set(ran) == {1, 2}
    warm = len(ran)
    engine.score("who", ["the river"])
    assert (made, len(ran)) == ([1, 2], warm + 1)


def test_no_run_holds_more_than_the_token_budget_allows(reranker, scored, monkeypatch):
    shapes = []
    run = GraphSession.run
    monkeypatch.setattr(
        GraphSession, "run", lambda self, arrays: shapes.append(arrays.input_ids.shape) or run(self, arrays)
    )
    engine = reranker(max_batch_tokens=128, threads=1)
    scores = engine.score(scored.query, scored.documents * 5)
    assert all(rows * length <= 128 for rows, length in shapes)
    assert max(rows for rows, _ in shapes) > 1
    np.testing.assert_allclose(scores, np.tile(scored.logits, 5), atol=1e-5)
