"""Windows, equal documents and the score cache, whichever way documents are scored."""

from __future__ import annotations

import asyncio
import threading

import numpy as np
import pytest
from fake_runner import FakeRunner
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tiny_checkpoints import make_texts

from crossrank.engine.artifact_reranker import ArtifactReranker
from crossrank.engine.async_artifact_reranker import AsyncArtifactReranker
from crossrank.engine.text.windows import Windows
from crossrank.errors import DeadlineExceeded

pytestmark = pytest.mark.filterwarnings("ignore::crossrank.TruncationWarning")
QUERY = "who reads the river"
LIMITS = (None, 600_000)
MEGABYTE = 1_000_000
WINDOWS = Windows(tokens=16, stride=8, max_windows_per_document=5)
TEXTS = [*make_texts(9, seed=4), "", "river", "cold water " * 60]


def in_order(ranking):
    """Scores of a ranking in the documents' order."""
    scores = {item.index: item.score for item in ranking}
    return np.asarray([scores[position] for position in range(len(scores))], dtype=np.float32)


def synchronous(limit):
    """Name and function of every way to score documents in a thread: (engine, documents) -> scores."""

    def pairs(engine, documents):
        return engine.score_pairs([(QUERY, document) for document in documents], deadline_ms=limit)

    def many(engine, documents):
        half = len(documents) // 2
        lists = [documents[:half], documents[half:]]
        return np.concatenate(engine.score_many([QUERY, QUERY], lists, deadline_ms=limit))

    return {
        "score": lambda engine, documents: engine.score(QUERY, documents, deadline_ms=limit),
        "score prepared": lambda engine, documents: engine.score(QUERY, engine.prepare(documents), deadline_ms=limit),
        "score_pairs": pairs,
        "score_many": many,
        "rank": lambda engine, documents: in_order(engine.rank(QUERY, documents, deadline_ms=limit)),
        "rank prepared": lambda engine, documents: in_order(
            engine.rank(QUERY, engine.prepare(documents), deadline_ms=limit)
        ),
        "iter_rank": lambda engine, documents: in_order(
            list(engine.iter_rank(QUERY, documents, deadline_ms=limit))[-1]
        ),
    }


def asynchronous(limit):
    """The same beside an event loop."""

    async def score(engine, documents):
        return await engine.score(QUERY, documents, deadline_ms=limit)

    async def pairs(engine, documents):
        return await engine.score_pairs([(QUERY, document) for document in documents], deadline_ms=limit)

    async def rank(engine, documents):
        return in_order(await engine.rank(QUERY, documents, deadline_ms=limit))

    async def prepared(engine, documents):
        return in_order(await engine.rank(QUERY, await engine.prepare(documents), deadline_ms=limit))

    async def stream(engine, documents):
        return in_order([item async for item in engine.aiter_rank(QUERY, documents, deadline_ms=limit)][-1])

    def run(way):
        return lambda engine, documents: asyncio.run(way(AsyncArtifactReranker(engine), documents))

    ways = {"score": score, "score_pairs": pairs, "rank": rank, "rank prepared": prepared, "aiter_rank": stream}
    return {f"async {name}": run(way) for name, way in ways.items()}


WAYS = {
    f"{name}, {'no limit' if limit is None else 'a limit'}": way
    for limit in LIMITS
    for name, way in (synchronous(limit) | asynchronous(limit)).items()
}


@pytest.fixture(params=WAYS.values(), ids=WAYS.keys())
def way(request):
    return request.param


@pytest.mark.parametrize("long_documents", ["truncate", WINDOWS], ids=["truncate", "windows"])
def test_every_way_gives_the_same_bits_and_scores_equal_documents_once(reranker, way, long_documents):
    expected = reranker(precision="int8", long_documents=long_documents).score(QUERY, TEXTS)
    engine = reranker(precision="int8", long_documents=long_documents)
    assert way(engine, TEXTS).tobytes() == expected.tobytes()
    pairs = engine.stats().pairs
    assert pairs == len(TEXTS) if long_documents == "truncate" else pairs > len(TEXTS)
    indices = np.asarray([*range(len(TEXTS)), 3, 0, 3, len(TEXTS) - 1])
    assert way(engine, [TEXTS[position] for position in indices]).tobytes() == expected[indices].tobytes()
    assert engine.stats().pairs == 2 * pairs


@pytest.mark.parametrize("long_documents", ["truncate", WINDOWS], ids=["truncate", "windows"])
def test_every_way_fills_the_cache_and_takes_from_it(reranker, way, long_documents):
    engine = reranker(precision="int8", long_documents=long_documents, score_cache_bytes=MEGABYTE)
    expected = way(engine, TEXTS)
    stats = engine.stats()
    assert engine.info().score_cache.entries == len(TEXTS)
    for other in WAYS.values():
        assert other(engine, TEXTS).tobytes() == expected.tobytes()
    after = engine.stats()
    assert (after.pairs, after.requests) == (stats.pairs, stats.requests), "what is known costs the queue nothing"
    indices = np.asarray([2, 5, 2])
    some = way(engine, [*(TEXTS[position] for position in indices), "something new"])
    assert some[:3].tobytes() == expected[indices].tobytes()
    assert engine.info().score_cache.entries == len(TEXTS) + 1


@pytest.mark.parametrize("limit", LIMITS)
def test_every_ranking_names_the_same_windows(reranker, limit):
    engine = reranker(precision="int8", long_documents=WINDOWS)
    documents = [*TEXTS, *TEXTS[:4]]
    whole = engine.rank(QUERY, documents)
    assert {item.window.count for item in whole} >= {1, 5}
    assert whole.truncated_documents > 0
    assert engine.rank(QUERY, documents, deadline_ms=limit) == whole
    assert engine.rank(QUERY, engine.prepare(documents), deadline_ms=limit) == whole
    assert list(engine.iter_rank(QUERY, documents, deadline_ms=limit))[-1] == whole
    shared = AsyncArtifactReranker(engine)
    assert asyncio.run(shared.rank(QUERY, documents, deadline_ms=limit)) == whole


@pytest.fixture
def faked(tiny_artifact, monkeypatch):
    """A function that opens a reranker on a fake runner; all are closed at the end, their gates opened."""
    opened = []

    def make(runner, **options):
        monkeypatch.setattr("crossrank.engine.loaded_model.CpuRunner", lambda *_, **__: runner)
        opened.append((runner, ArtifactReranker(tiny_artifact, provider="cpu", precision="int8", **options)))
        return opened[-1][1]

    yield make
    for runner, engine in opened:
        runner.open_gate()
        engine.close()


def test_a_document_with_windows_that_time_did_not_allow_counts_as_not_scored(faked):
    runner = FakeRunner(workers=1, gated=True)
    engine = faked(runner, long_documents=Windows(tokens=8, stride=8), score_cache_bytes=MEGABYTE)
    runner.let_go(2)
    documents = ["? " * 60, "! " * 60]
    ranking = engine.rank("q", documents, deadline_ms=200)
    assert len(runner.ran) >= 2
    assert (ranking.scored, ranking.unscored, ranking.unscored_because) == (0, (0, 1), "deadline")
    assert [(item.score, item.window, item.truncated) for item in ranking] == [(None, None, False)] * 2
    assert engine.info().score_cache.entries == 0
    runner.open_gate()
    assert engine.rank("q", documents, deadline_ms=600_000).scored == 2
    assert engine.info().score_cache.entries == 2


def test_time_goes_to_documents_whose_windows_can_all_be_scored(faked):
    runner = FakeRunner(workers=1, on_run=lambda _: threading.Event().wait(0.02))
    engine = faked(runner, long_documents=Windows(tokens=8, stride=8, max_windows_per_document=None))
    engine.score("q", list("abcde"))  # it learns that a run takes 20 ms
    ranking = engine.rank("q", ["? " * 800, "a b", "! " * 900, "c d"], deadline_ms=1000)
    assert ranking.unscored == (0, 2)
    assert {item.index for item in ranking[:2]} == {1, 3}


def test_equal_documents_in_different_chunks_are_scored_once(faked):
    runner = FakeRunner(workers=2)
    engine = faked(runner)
    documents = [f"some words in winter {position % 1500}" for position in range(4500)]
    rankings = list(engine.iter_rank("q", documents))
    assert len(rankings) > 2
    assert rankings[-1].scored == len(documents)
    assert len(runner.ran) == 1500
    assert rankings[0].scored % 3 == 0, "equal documents are scored together"


def test_what_is_known_needs_no_time(reranker):
    engine = reranker(score_cache_bytes=MEGABYTE)
    known = engine.score("q", ["a", "b"])
    with pytest.raises(DeadlineExceeded, match="2 of 3 pairs"):
        engine.score("q", ["a", "c", "b"], deadline_ms=0)
    assert engine.score("q", ["b", "a", "b"], deadline_ms=0).tolist() == known[[1, 0, 1]].tolist()
    ranking = engine.rank("q", ["c", "a", "b"], deadline_ms=0)
    assert (ranking.scored, ranking.unscored) == (2, (0,))
    assert {item.index: item.score for item in ranking} == {0: None, 1: known[0], 2: known[1]}


@given(
    indices=st.lists(st.integers(0, len(TEXTS) - 1), max_size=25),
    seed=st.integers(0, 2**32 - 1),
    deadline=st.sampled_from([None, 0, 5, 50, 600_000]),
    windows=st.booleans(),
    cached=st.booleans(),
)
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_document_is_lost_doubled_or_scored_otherwise(shared_engines, indices, seed, deadline, windows, cached):
    engine, expected = shared_engines[windows, cached]
    promise = np.random.default_rng(seed).normal(size=len(indices)).round(1)
    documents = [TEXTS[position] for position in indices]
    ranking = engine.rank(QUERY, documents, deadline_ms=deadline, first_stage_scores=promise)
    assert sorted(item.index for item in ranking) == list(range(len(indices)))
    scored = [item for item in ranking if item.score is not None]
    assert list(ranking[: len(scored)]) == scored
    for item in scored:
        assert np.float32(item.score).tobytes() == expected[indices[item.index]].tobytes()
    assert [item.score for item in scored] == sorted((item.score for item in scored), reverse=True)
    rest = [item.index for item in ranking[len(scored) :]]
    assert rest == list(ranking.unscored)
    assert rest == sorted(rest, key=lambda index: (-promise[index], index))
    if deadline in (None, 600_000):
        assert ranking.scored == len(indices)
    scores_of = {}
    for item in ranking:
        scores_of.setdefault(indices[item.index], set()).add(item.score)
    assert all(len(scores) == 1 for scores in scores_of.values()), "equal documents fare alike"


@pytest.fixture(scope="module")
def shared_engines(tiny_artifact):
    """Engines with and without windows and a small cache, with the scores they give each text alone."""
    made = {}
    for windows in (False, True):
        for cached in (False, True):
            engine = ArtifactReranker(
                tiny_artifact,
                provider="cpu",
                precision="int8",
                long_documents=WINDOWS if windows else "truncate",
                score_cache_bytes=4_000 if cached else None,
            )
            made[windows, cached] = engine, np.concatenate([engine.score(QUERY, [text]) for text in TEXTS])
    yield made
    for engine, _ in made.values():
        engine.close()
