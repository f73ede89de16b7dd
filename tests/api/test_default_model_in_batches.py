"""The embedded model in int8: a score is the same to the last bit whatever else is scored, on any thread."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tiny_artifacts import copy_artifact
from tiny_checkpoints import make_texts

from crossrank.engine.artifact_reranker import ArtifactReranker
from crossrank.engine.async_artifact_reranker import AsyncArtifactReranker
from crossrank.engine.runtime.session import GraphSession
from crossrank.engine.text.encoded import TokenArrays
from crossrank.models.artifact import Artifact
from crossrank.models.embedded import embedded_artifact
from crossrank.models.manifest import Manifest

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore::crossrank.TruncationWarning")]
MAX_LENGTH = 40
QUERIES = ("who reads the river", "how do vaccines work?")
# Several of each length: truncated ones, single words, and sentences that differ in one word.
DOCUMENTS = [
    *make_texts(8, seed=1),
    *("immune", "river", "stocks", ""),
    *(f"they train {cells} cells to know a virus" for cells in ("immune", "blood", "bone", "red", "all")),
]
PAIRS = [(query, document) for query in QUERIES for document in DOCUMENTS]
WAIT = 120


@pytest.fixture(scope="module", params=["single", "equal_length", "packed"])
def engines(request, tmp_path_factory):
    """Engines with one, two and three threads on the embedded model, and the scores of each pair alone."""
    manifest = Manifest.model_validate_json((embedded_artifact() / "manifest.json").read_text())
    graphs = tuple(
        graph.model_copy(update={"batching": request.param}) if graph.precision == "int8" else graph
        for graph in manifest.graphs
    )
    folder = copy_artifact(embedded_artifact(), tmp_path_factory.mktemp(request.param) / "artifact", graphs=graphs)

    def engine(threads):
        return ArtifactReranker(folder, provider="cpu", precision="int8", threads=threads, max_length=MAX_LENGTH)

    made = {threads: engine(threads) for threads in (1, 2, 3)}
    # On a machine that fails the check of batching, the engine must fall back to 'single'.
    assert {item.info().batching for item in made.values()} <= {request.param, "single"}
    alone = np.concatenate([made[1].score_pairs([pair]) for pair in PAIRS])
    assert len(np.unique(alone)) > len(alone) * 0.8
    yield made, alone
    for item in made.values():
        item.close()


calls = st.lists(st.lists(st.integers(0, len(PAIRS) - 1), max_size=16), min_size=1, max_size=6)


@given(calls=calls, threads=st.sampled_from([1, 2, 3]), callers=st.integers(1, 4), beside=st.booleans())
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_partition_order_batch_or_thread_changes_a_bit(engines, calls, threads, callers, beside):
    made, alone = engines
    engine = made[threads]

    def score(indices):
        return engine.score_pairs([PAIRS[index] for index in indices])

    async def coroutines():
        shared = AsyncArtifactReranker(engine)
        return await asyncio.gather(*(shared.score_pairs([PAIRS[index] for index in indices]) for indices in calls))

    with ThreadPoolExecutor(callers + 1) as pool:
        loop = pool.submit(asyncio.run, coroutines()) if beside else None
        results = list(pool.map(score, calls, timeout=WAIT))
        results += loop.result(WAIT) if loop is not None else []
    for indices, scores in zip(calls * (2 if beside else 1), results, strict=True):
        assert scores.tobytes() == alone[indices].tobytes()


def test_all_pairs_at_once_reversed_and_under_a_limit(engines):
    made, alone = engines
    for engine in made.values():
        assert engine.score_pairs(PAIRS).tobytes() == alone.tobytes()
        assert engine.score_pairs(PAIRS[::-1], deadline_ms=600_000).tobytes() == alone[::-1].tobytes()
        shared_runs = max(engine.stats().batch_sizes) > 1
        assert shared_runs == (engine.info().batching != "single")


@pytest.mark.parametrize("length", [100, 129, 300, 512])
def test_no_number_of_threads_changes_a_bit(length):
    artifact = Artifact.open(embedded_artifact())
    graph = artifact.path("int8.onnx")
    ids = np.random.default_rng(length).integers(1000, 20_000, size=(3, length))
    arrays = TokenArrays(ids, np.ones_like(ids), np.zeros_like(ids))
    one, *others = (
        GraphSession(graph, artifact.manifest, threads=threads, spin=False).run(arrays) for threads in (1, 2, 5, 8, 16)
    )
    assert [several.tobytes() for several in others] == [one.tobytes()] * len(others)
