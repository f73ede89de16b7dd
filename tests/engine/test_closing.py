"""Closing: twice is once, and after it every call says so."""

import gc
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor

import pytest
from fake_runner import WAIT, until

from crossrank.engine.loaded_model import LoadedModel
from crossrank.engine.schedule.admission import AdmittedCall
from crossrank.errors import ClosedError


@pytest.mark.parametrize(
    "call",
    [
        lambda engine: engine.score("q", ["d"]),
        lambda engine: engine.score("q", []),
        lambda engine: engine.score_pairs([("q", "d")]),
        lambda engine: engine.score_many(["q"], [["d"]]),
        lambda engine: engine.rank("q", ["d"]),
        lambda engine: engine.prepare(["d"]),
        lambda engine: engine.warmup(),
        lambda engine: engine.calibrate(),
        lambda engine: engine.rank("q", ["d"], deadline_ms=50),
        lambda engine: engine.score("q", ["d"], deadline_ms=50),
        lambda engine: list(engine.iter_rank("q", ["d"])),
        lambda engine: engine.observe_batches(None),
    ],
)
def test_every_call_after_closing_is_refused(reranker, call):
    engine = reranker()
    engine.close()
    engine.close()
    with pytest.raises(ClosedError, match="was closed"):
        call(engine)


def test_leaving_the_context_closes_also_by_an_error(reranker):
    engine = reranker()
    with engine as entered:
        assert entered is engine
        assert len(engine.score("q", ["d"])) == 1
    with pytest.raises(ClosedError):
        engine.score("q", ["d"])
    failing = reranker()
    with pytest.raises(KeyError), failing:
        raise KeyError
    with pytest.raises(ClosedError):
        failing.score("q", ["d"])


def test_what_ran_can_be_told_after_closing(reranker):
    engine = reranker()
    before = engine.info()
    engine.close()
    assert engine.info() == before


def test_closing_frees_the_sessions_and_keeps_the_counts(reranker, monkeypatch):
    from crossrank.engine.runtime.session import GraphSession

    sessions = []
    init = GraphSession.__init__

    def recording(self, *args, **options):
        sessions.append(weakref.ref(self))
        init(self, *args, **options)

    monkeypatch.setattr(GraphSession, "__init__", recording)
    engine = reranker(threads=2)
    engine.score("q", ["d"])
    engine.score("q", list("abcdefghi"))
    assert len(sessions) == 2
    engine.close()
    gc.collect()
    assert [session() for session in sessions] == [None, None]
    assert (engine.stats().requests, engine.stats().pairs) == (2, 10)
    assert engine.health().closed
    assert not engine.health().ok


@pytest.mark.parametrize("ask", ["stats", "health"])
def test_who_asks_for_counts_while_another_thread_closes_gets_them(reranker, monkeypatch, ask):
    engine = reranker()
    engine.score("q", ["d"])
    scheduler = LoadedModel.scheduler

    def closed_at_this_moment(self):
        monkeypatch.undo()
        engine.close()
        return scheduler(self)

    monkeypatch.setattr(LoadedModel, "scheduler", closed_at_this_moment)
    told = getattr(engine, ask)()
    assert told == getattr(engine, ask)()
    assert engine.health().closed
    assert engine.stats().requests == 1


def test_closing_without_draining_refuses_what_waits(reranker):
    engine = reranker(threads=1, max_batch_tokens=1)
    stream = engine.iter_rank("q", [f"some words in winter {index}" for index in range(2000)])
    next(stream)
    engine.close(drain=False)
    with pytest.raises(ClosedError):
        list(stream)
    assert engine.stats().pairs < 2000


def test_closing_waits_for_a_call_that_still_encodes(reranker, monkeypatch):
    engine = reranker(threads=2)
    encoder = engine.loaded_model.encoder
    encode, encoding, go_on = encoder.encode_documents, threading.Event(), threading.Event()

    def slow(texts):
        encoding.set()
        assert go_on.wait(WAIT)
        return encode(texts)

    monkeypatch.setattr(encoder, "encode_documents", slow)
    with ThreadPoolExecutor(2) as pool:
        call = pool.submit(engine.score, "q", ["a", "b"])
        assert encoding.wait(WAIT)
        closing = pool.submit(engine.close)
        until(lambda: engine.health().closed)
        go_on.set()
        assert call.result(WAIT).shape == (2,)
        closing.result(WAIT)


def test_closing_starts_what_waits_for_others_to_share_its_run(reranker):
    engine = reranker(max_wait_ms=600_000, threads=1)
    assert engine.info().batching == "padded", "nothing is waited for where runs are not shared"
    with ThreadPoolExecutor(1) as pool:
        call = pool.submit(engine.score, "q", ["a", "b"])
        until(lambda: engine.stats().waiting_requests == 1)
        closing = threading.Thread(target=engine.close, daemon=True)
        closing.start()
        try:
            assert call.result(WAIT).shape == (2,)
        finally:
            engine.close(drain=False)


@pytest.mark.parametrize("place", ["__init__", "__enter__", "submit", "leave"])
def test_an_interrupt_anywhere_leaves_nobody_inside(reranker, monkeypatch, place):
    engine = reranker(max_queue_tokens=50)
    engine.score("q", ["a"])
    whole = getattr(AdmittedCall, place)

    def interrupted(self, *arguments, **options):
        monkeypatch.setattr(AdmittedCall, place, whole)
        if place != "leave":
            whole(self, *arguments, **options)
        raise KeyboardInterrupt

    monkeypatch.setattr(AdmittedCall, place, interrupted)
    with pytest.raises(KeyboardInterrupt):
        engine.score("q", ["a b c d"])
    gc.collect()
    admission = engine.loaded_model.scheduler().admission
    until(lambda: (admission.calls, admission.tokens) == (0, 0))
    engine.score("q", ["a b c d"])
