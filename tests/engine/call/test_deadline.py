"""Time limits and improving rankings: what is scored is right, what is not follows, nobody is lost or doubled."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from fake_runner import WAIT, FakeRunner
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from crossrank.engine.artifact_reranker import ArtifactReranker
from crossrank.engine.runtime.session import GraphSession
from crossrank.engine.text.windows import Windows
from crossrank.errors import ClosedError, DeadlineExceeded, InferenceError, InvalidInputError, Overloaded

pytestmark = pytest.mark.filterwarnings("ignore::crossrank.TruncationWarning")
PLENTY = 600_000


@pytest.fixture(scope="module")
def engine(tiny_artifact):
    with ArtifactReranker(tiny_artifact, provider="cpu", precision="int8", threads=2) as made:
        yield made


@pytest.fixture
def faked(tiny_artifact, monkeypatch):
    made = []

    def build(runner, **options):
        monkeypatch.setattr("crossrank.engine.loaded_model.CpuRunner", lambda *_, **__: runner)
        made.append((runner, ArtifactReranker(tiny_artifact, provider="cpu", precision="int8", **options)))
        return made[-1][1]

    yield build
    for runner, item in made:
        runner.open_gate()
        item.close(drain=False)


def check(ranking, whole, order):
    """Every document once; scored ones as in the whole ranking, the rest after them in first-stage order."""
    indices = [item.index for item in ranking]
    assert sorted(indices) == list(range(len(order)))
    scores = {item.index: item.score for item in whole}
    scored = [item for item in ranking if item.score is not None]
    assert ranking.scored == len(scored)
    assert all(item.score == scores[item.index] for item in scored)
    positions = {item.index: index for index, item in enumerate(whole)}
    assert [positions[item.index] for item in scored] == sorted(positions[item.index] for item in scored)
    with_score = {item.index for item in scored}
    left = [index for index in order if index not in with_score]
    assert list(ranking.unscored) == left == indices[len(scored) :]
    assert all(item.score is None and not item.truncated for item in ranking[len(scored) :])


@given(data=st.data())
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_the_deadline_no_document_is_lost_or_doubled(engine, scored, data):
    indices = data.draw(st.lists(st.integers(0, len(scored.documents) - 1), max_size=60))
    documents = [scored.documents[index] for index in indices]
    promised = data.draw(st.one_of(st.none(), st.lists(st.floats(-5, 5), min_size=len(indices), max_size=len(indices))))
    deadline = data.draw(st.one_of(st.floats(0, 30), st.just(PLENTY)))
    prepared = data.draw(st.booleans())
    whole = engine.rank(scored.query, documents)
    ranking = engine.rank(
        scored.query,
        engine.prepare(documents) if prepared else documents,
        deadline_ms=deadline,
        first_stage_scores=promised,
    )
    order = range(len(indices)) if promised is None else np.argsort(-np.asarray(promised), kind="stable").tolist()
    check(ranking, whole, order)
    assert ranking.unscored_because == (None if ranking.scored == len(indices) else "deadline")
    if deadline == PLENTY:
        assert ranking == whole


def test_no_time_at_all_gives_the_first_stage_order(engine):
    ranking = engine.rank("q", ["a", "b", "c"], deadline_ms=0, first_stage_scores=[1, 3, 2], top_k=2)
    assert [(item.index, item.score, item.document) for item in ranking] == [(1, None, "b"), (2, None, "c")]
    assert (ranking.scored, ranking.unscored, ranking.unscored_because) == (0, (1, 2, 0), "deadline")
    with pytest.raises(DeadlineExceeded, match="0 of 3 pairs"):
        engine.score("q", ["a", "b", "c"], deadline_ms=0)
    assert engine.rank("q", [], deadline_ms=0).unscored_because is None
    assert engine.score("q", [], deadline_ms=0).shape == (0,)


def test_with_time_enough_the_scores_are_those_without_a_deadline(engine, scored):
    assert (
        engine.score(scored.query, scored.documents, deadline_ms=PLENTY).tobytes()
        == engine.score(scored.query, scored.documents).tobytes()
    )


def test_the_most_promising_are_scored_before_the_deadline_and_the_rest_never(faked):
    runner = FakeRunner(workers=1, gated=True)
    engine = faked(runner)
    promised = list(range(40))
    runner.let_go(4)
    ranking = engine.rank(
        "q", [f"document {index}" for index in range(40)], deadline_ms=300, first_stage_scores=promised
    )
    assert 1 <= ranking.scored <= 4
    scored = sorted(item.index for item in ranking[: ranking.scored])
    assert scored[0] >= 39 - 12, "a first chunk of the most promising"
    assert ranking.unscored_because == "deadline"
    started = len(runner.ran)
    runner.open_gate()
    engine.score("q", ["another"])
    assert len(runner.ran) <= started + 1 + 1


def test_a_run_that_is_predicted_not_to_finish_is_not_started(faked, monkeypatch):
    monkeypatch.setattr("crossrank.engine.schedule.run_queue.TRY_AGAIN_SECONDS", WAIT)
    slow = threading.Event()
    runner = FakeRunner(workers=1, on_run=lambda _: slow.wait(0.2))
    engine = faked(runner)
    engine.score("q", ["a b c", "b c a", "c a b"])  # it learns that a run takes 200 ms
    ran = len(runner.ran)
    ranking = engine.rank("q", [f"a b {index}" for index in range(10)], deadline_ms=100)
    assert (ranking.scored, len(runner.ran)) == (0, ran)
    slow.set()


@pytest.mark.parametrize("windows", [None, 8])
def test_after_a_stall_calls_with_a_deadline_are_scored_again(tiny_artifact, faked, monkeypatch, windows):
    monkeypatch.setattr("crossrank.engine.schedule.run_queue.TRY_AGAIN_SECONDS", 0.3)
    stalled = threading.Event()
    runner = FakeRunner(workers=1, on_run=lambda _: stalled.is_set() and time.sleep(0.2))
    options = {} if windows is None else {"long_documents": Windows(stride=windows), "max_length": 24}
    engine = faked(runner, **options)
    document = " ".join(["cold", "water"] * (2 if windows is None else 20))
    stalled.set()
    engine.score("q", [document])
    stalled.clear()
    scored = 0
    for again in range(WAIT):
        scored = engine.rank("q", [f"{document} {again}"], deadline_ms=100).scored
        if scored:
            break
        time.sleep(0.1)
    assert scored == 1


def test_loading_the_session_of_all_cores_is_no_part_of_a_run(tiny_artifact, monkeypatch):
    init = GraphSession.__init__

    def slow(self, *arguments, threads, **options):
        time.sleep(0.5 if threads > 1 else 0.0)
        init(self, *arguments, threads=threads, **options)

    monkeypatch.setattr(GraphSession, "__init__", slow)
    with ArtifactReranker(tiny_artifact, provider="cpu", precision="int8", threads=2) as engine:
        observed = []
        engine.observe_batches(observed.append)
        engine.score("q", ["a pair alone"])
    assert observed[0].all_cores
    assert observed[0].seconds < 0.4


@pytest.mark.parametrize("limit", [None, PLENTY])
def test_scoring_starts_before_all_is_encoded(faked, monkeypatch, limit):
    runner = FakeRunner(workers=2, gated=True)
    engine = faked(runner)
    encoder = engine.loaded_model.encoder
    original = encoder.encode_documents
    encoded = []
    monkeypatch.setattr(encoder, "encode_documents", lambda texts: encoded.append(len(texts)) or original(texts))
    documents = [f"document of some words {index}" for index in range(12_000)]
    with ThreadPoolExecutor(1) as pool:
        last = pool.submit(lambda: list(engine.iter_rank("q", documents, deadline_ms=limit))[-1])
        runner.wait_for_runs(1)
        assert sum(encoded) < 12_000
        runner.open_gate()
        assert last.result(WAIT).scored == 12_000
    assert sum(encoded) == 12_000


def test_a_candidate_whose_encoding_alone_would_take_too_long_is_passed_over(engine):
    unbroken = "word" * 2_500_000  # nowhere can it be cut, so its beginning cannot be tokenized alone
    ranking = engine.rank("q", [unbroken, "a"], deadline_ms=2_000)
    assert ranking.unscored == (0,)
    assert [(item.index, item.score is None) for item in ranking] == [(1, False), (0, True)]


def test_a_long_document_of_which_only_the_beginning_is_encoded_is_scored_in_time(engine):
    long = "word " * 2_000_000
    ranking = engine.rank("q", [long, "a"], deadline_ms=2_000)
    assert (ranking.scored, ranking.unscored, ranking.truncated_documents) == (2, (), 1)
    assert ranking == engine.rank("q", [long, "a"])


def test_a_query_whose_encoding_would_take_too_long_is_not_encoded(engine, monkeypatch):
    monkeypatch.setattr(engine.loaded_model.encoder, "encode_query", lambda *_: 1 / 0)
    ranking = engine.rank("word" * 250_000, ["a", "b"], deadline_ms=500)
    assert (ranking.scored, ranking.unscored) == (0, (0, 1))


def test_a_long_query_of_which_only_the_beginning_is_encoded_is_scored_in_time(engine):
    ranking = engine.rank("word " * 2_000_000, ["a", "b"], deadline_ms=2_000)
    assert (ranking.scored, ranking.query_truncated) == (2, True)


@pytest.mark.parametrize("limit", [1e13, 1e18, 1e308])
def test_a_deadline_beyond_all_clocks_is_none(engine, limit):
    assert engine.rank("q", ["a", "b"], deadline_ms=limit).scored == 2
    assert engine.health().ok
    assert engine.score("q", ["a", "c"]).shape == (2,)


def test_rankings_improve_and_the_last_is_the_whole(engine, scored):
    documents = [f"{document[:20]} {index}" for index in range(100) for document in scored.documents]
    promised = list(range(len(documents)))
    whole = engine.rank(scored.query, documents)
    rankings = list(engine.iter_rank(scored.query, documents, first_stage_scores=promised))
    assert len(rankings) > 1
    counts = [ranking.scored for ranking in rankings]
    assert counts == sorted(set(counts))
    for ranking in rankings:
        check(ranking, whole, promised[::-1])
    assert [ranking.unscored_because for ranking in rankings[:-1]] == ["pending"] * (len(rankings) - 1)
    assert rankings[-1] == whole
    assert {len(item) for item in engine.iter_rank(scored.query, documents, top_k=3)} == {3}
    assert list(engine.iter_rank("q", [])) == [engine.rank("q", [])]


def test_the_last_ranking_of_a_stream_with_a_deadline_says_so(faked):
    runner = FakeRunner(workers=1, gated=True)
    engine = faked(runner)
    runner.let_go(2)
    rankings = list(engine.iter_rank("q", [f"document {index}" for index in range(50)], deadline_ms=200))
    assert rankings[-1].unscored_because == "deadline"
    assert 1 <= rankings[-1].scored <= 2
    assert len(rankings[-1]) == 50


def test_a_stream_nobody_reads_on_keeps_nothing_from_closing(faked):
    engine = faked(FakeRunner(workers=1))
    stream = engine.iter_rank("q", [f"some words in winter {index}" for index in range(5000)])
    next(stream)
    engine.close()
    with pytest.raises(ClosedError):
        list(stream)


def test_an_error_ends_a_call_with_a_deadline(faked):
    def fail(arrays):
        raise InferenceError("no")

    engine = faked(FakeRunner(on_run=fail))
    for call in (engine.score, engine.rank, lambda *given, **options: list(engine.iter_rank(*given, **options))):
        with pytest.raises(InferenceError, match=r"^no$"):
            call("q", [f"a {index}" for index in range(50)], deadline_ms=PLENTY)
    assert engine.stats().queue_tokens == 0


def test_a_full_queue_refuses_calls_with_deadlines_and_streams_as_well(faked):
    runner = FakeRunner(workers=1, gated=True)
    engine = faked(runner, max_queue_tokens=100)
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(engine.score, "q", [f"cold water in winter {index}" for index in range(20)])
        runner.wait_for_runs(1)
        documents = [f"the river carries cold water {index}" for index in range(10)]
        for call in (engine.score, engine.rank, lambda *given, **options: next(engine.iter_rank(*given, **options))):
            with pytest.raises(Overloaded, match="at most 100 may wait"):
                call("q", documents, deadline_ms=PLENTY)
        runner.open_gate()
        first.result(WAIT)
    assert engine.rank("q", documents, deadline_ms=PLENTY).scored == 10


def test_scores_that_cannot_all_be_had_are_not_sought_further(faked, monkeypatch):
    runner = FakeRunner(workers=1, on_run=lambda _: threading.Event().wait(0.02))
    engine = faked(runner)
    engine.score("q", list("abcde"))  # it learns that a run takes 20 ms
    ran = len(runner.ran)
    with pytest.raises(DeadlineExceeded):
        engine.score("q", [f"a b {index}" for index in range(3000)], deadline_ms=1000)
    assert len(runner.ran) - ran < 60


def test_calls_with_and_without_deadlines_share_the_queue(engine, scored):
    whole = engine.rank(scored.query, scored.documents)

    def call(index):
        deadline = [None, 20, PLENTY][index % 3]
        return engine.rank(scored.query, scored.documents, deadline_ms=deadline, priority=index % 5 - 2)

    with ThreadPoolExecutor(8) as pool:
        for index, ranking in enumerate(pool.map(call, range(48), timeout=WAIT)):
            check(ranking, whole, range(len(scored.documents)))
            assert index % 3 == 1 or ranking == whole


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"deadline_ms": -1}, "deadline_ms=-1"),
        ({"deadline_ms": float("nan")}, "deadline_ms=nan"),
        ({"deadline_ms": float("inf")}, "deadline_ms=inf"),
        ({"deadline_ms": 10**400}, "deadline_ms=1000"),
        ({"deadline_ms": True}, "deadline_ms=True"),
        ({"deadline_ms": "50"}, "deadline_ms='50'"),
        ({"priority": 5}, "priority=5: a whole number from -4 to 4"),
        ({"priority": 1.5}, "priority=1.5"),
        ({"first_stage_scores": [1.0]}, r"shape \(1,\)"),
        ({"first_stage_scores": [1.0, float("nan")]}, r"first_stage_scores\[1\] is NaN"),
        ({"first_stage_scores": ["x", "y"]}, "numbers expected"),
        ({"first_stage_scores": [10**400, 1]}, "numbers expected"),
    ],
)
def test_options_outside_their_range_are_refused(engine, options, message):
    for method in (engine.rank, engine.iter_rank):
        with pytest.raises(InvalidInputError, match=message):
            method("q", ["a", "b"], **options)


def test_time_to_make_the_ranking_is_left_of_the_limit(reranker, monkeypatch):
    engine = reranker()
    documents = ["the river", "cold water", "every reader"]
    assert engine.rank("who", documents, deadline_ms=20_000).unscored == ()
    monkeypatch.setattr("crossrank.engine.call.calls._RANKING_SECONDS", 10.0)
    assert engine.rank("who", documents, deadline_ms=20_000).unscored == (0, 1, 2)
    assert len(engine.score("who", documents, deadline_ms=20_000)) == 3, "scores need no ranking"
    assert engine.rank("who", documents).unscored == ()


def test_a_call_with_a_deadline_does_not_wait_for_others_to_share_its_run(reranker):
    engine = reranker(max_wait_ms=PLENTY, threads=1)
    assert engine.info().batching == "padded", "nothing is waited for where runs are not shared"
    assert engine.rank("who", ["the river", "cold water"], deadline_ms=10_000).scored == 2
