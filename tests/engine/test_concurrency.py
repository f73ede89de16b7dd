"""One reranker, many threads: everybody gets their own scores, also while it closes."""

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from crossrank.errors import ClosedError

pytestmark = pytest.mark.filterwarnings("ignore::crossrank.TruncationWarning")
CALLERS = 8


@pytest.mark.parametrize("threads", [1, 2, 4])
@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_eight_callers_at_once_each_get_what_they_would_get_alone(reranker, scored, precision, threads):
    engine = reranker(precision=precision, threads=threads)
    rng = np.random.default_rng(0)
    requests = [
        [scored.documents[index] for index in rng.integers(0, len(scored.documents), size=rng.integers(0, 25))]
        for _ in range(CALLERS * 3)
    ]
    alone = [engine.score(scored.query, documents) for documents in requests]
    start = threading.Barrier(CALLERS)

    def call(caller):
        start.wait()
        return [engine.score(scored.query, documents) for documents in requests[caller::CALLERS]]

    with ThreadPoolExecutor(CALLERS) as pool:
        results = list(pool.map(call, range(CALLERS)))
    for caller in range(CALLERS):
        for together, apart in zip(results[caller], alone[caller::CALLERS], strict=True):
            if precision == "int8":
                assert together.tobytes() == apart.tobytes()
            else:
                np.testing.assert_allclose(together, apart, atol=1e-5)


@pytest.mark.parametrize("threads", [1, 3])
def test_closing_while_others_score_ends_every_call_with_its_scores_or_a_closed_error(reranker, scored, threads):
    for _ in range(5):
        engine = reranker(threads=threads)
        results, errors = [], []
        running = threading.Barrier(5)

        def call(engine=engine, running=running, results=results, errors=errors):
            running.wait()
            try:
                while True:
                    results.append(engine.score(scored.query, scored.documents))
            except ClosedError:
                errors.append("closed")

        callers = [threading.Thread(target=call) for _ in range(4)]
        for caller in callers:
            caller.start()
        running.wait()
        while not results:
            pass
        engine.close()
        for caller in callers:
            caller.join(timeout=60)
        assert not any(caller.is_alive() for caller in callers)
        assert errors == ["closed"] * 4
        for scores in results:
            np.testing.assert_allclose(scores, scored.logits, atol=1e-5)


def test_no_worker_thread_outlives_the_reranker(reranker, scored):
    before = set(threading.enumerate())
    engine = reranker(threads=3)
    engine.score(scored.query, [*scored.documents, *(f"{text} again" for text in scored.documents)])
    assert set(threading.enumerate()) - before
    engine.close()
    assert not set(threading.enumerate()) - before


def test_a_reranker_that_is_dropped_without_closing_leaves_no_thread(tiny_artifact, scored):
    import gc
    import time

    from crossrank.engine.artifact_reranker import ArtifactReranker

    before = set(threading.enumerate())
    ArtifactReranker(tiny_artifact, threads=3).score(scored.query, scored.documents)
    gc.collect()
    deadline = time.monotonic() + 30
    while set(threading.enumerate()) - before and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not set(threading.enumerate()) - before
