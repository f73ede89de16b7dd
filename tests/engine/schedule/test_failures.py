"""An error in a batch reaches the callers whose pairs were in it and nobody else, and the engine goes on."""

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from crossrank.engine.runtime.session import GraphSession
from crossrank.errors import InferenceError

pytestmark = pytest.mark.filterwarnings("ignore::crossrank.TruncationWarning")
POISON = "日本語で" * 3


@pytest.fixture
def poison(tiny_artifact, monkeypatch):
    """Make onnxruntime fail, or give no number, on every run that holds the poisonous document."""
    from tokenizers import Tokenizer

    tokens = Tokenizer.from_file(str(tiny_artifact / "tokenizer.json")).encode(POISON, add_special_tokens=False).ids
    original = GraphSession.__init__

    def inject(fail):
        class Failing:
            def __init__(self, session):
                self._session = session

            def run(self, outputs, feeds):
                rows = feeds["input_ids"].tolist()
                hit = [any(row[i : i + len(tokens)] == tokens for i in range(len(row))) for row in rows]
                return fail(self._session, outputs, feeds, hit) if any(hit) else self._session.run(outputs, feeds)

        def init(self, *args, **options):
            original(self, *args, **options)
            self._session = Failing(self._session)

        monkeypatch.setattr(GraphSession, "__init__", init)

    return inject


def raise_error(session, outputs, feeds, hit):
    raise RuntimeError("[ONNXRuntimeError] : 6 : bad allocation")


def give_nan(session, outputs, feeds, hit):
    (logits,) = session.run(outputs, feeds)
    logits[hit] = np.nan
    return [logits]


FAILURES = [(raise_error, "onnxruntime failed on .* pairs x .* tokens: .*bad allocation"), (give_nan, "no number")]


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize(("fail", "message"), FAILURES)
def test_the_caller_gets_the_error_and_the_engine_goes_on(reranker, scored, poison, fail, message, threads):
    poison(fail)
    engine = reranker(threads=threads, max_batch_tokens=100)
    for _ in range(3):
        for documents in ([POISON], [*scored.documents, POISON], [POISON, *scored.documents]):
            with pytest.raises(InferenceError, match=message):
                engine.score(scored.query, documents)
        np.testing.assert_allclose(engine.score(scored.query, scored.documents), scored.logits, atol=1e-5)


@pytest.mark.parametrize("threads", [1, 2, 4])
def test_callers_at_the_same_time_are_not_touched(reranker, scored, poison, threads):
    poison(raise_error)
    engine = reranker(threads=threads, max_batch_tokens=100)
    start = threading.Barrier(8)

    def call(caller):
        start.wait()
        outcomes = []
        for _ in range(4):
            try:
                outcomes.append(engine.score(scored.query, [*scored.documents, *[POISON] * (caller % 2)]))
            except InferenceError:
                outcomes.append(None)
        return outcomes

    with ThreadPoolExecutor(8) as pool:
        for caller, outcomes in enumerate(pool.map(call, range(8))):
            for scores in outcomes:
                if caller % 2:
                    assert scores is None
                else:
                    np.testing.assert_allclose(scores, scored.logits, atol=1e-5)


def test_after_an_error_the_rest_of_that_call_is_dropped(reranker, scored, monkeypatch):
    runs = []

    def run(self, arrays):
        runs.append(arrays.input_ids.shape)
        raise InferenceError("no")

    engine = reranker(threads=2, max_batch_tokens=1)
    monkeypatch.setattr(GraphSession, "run", run)
    with pytest.raises(InferenceError, match=r"^no$"):
        engine.score(scored.query, [f"{document} {index}" for index in range(20) for document in scored.documents])
    assert len(runs) < len(scored.documents) * 20


def test_an_interrupt_of_the_caller_is_passed_on_and_the_engine_goes_on(reranker, scored, monkeypatch):
    engine = reranker(threads=2, max_batch_tokens=1)
    with monkeypatch.context() as patch:
        patch.setattr("concurrent.futures.Future.result", interrupted_once())
        with pytest.raises(KeyboardInterrupt):
            engine.score(scored.query, scored.documents)
    np.testing.assert_allclose(engine.score(scored.query, scored.documents), scored.logits, atol=1e-5)


def interrupted_once():
    from concurrent.futures import Future

    original, calls = Future.result, []

    def interrupted(self, timeout=None):
        calls.append(1)
        if len(calls) == 1:
            raise KeyboardInterrupt
        return original(self, timeout)

    return interrupted
