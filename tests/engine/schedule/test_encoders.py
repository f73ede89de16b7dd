"""Encoding in turns with real threads: whose piece is next, deadlines, cancelled calls, interrupts."""

import gc
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from fake_runner import COST, WAIT, until

from crossrank.engine.plan.run_times import RunTimes
from crossrank.engine.schedule.encoders import Encoders, OutOfTime
from crossrank.engine.schedule.encoding_pieces import Piece
from crossrank.engine.schedule.request import Terms

TERMS = Terms(arrival=0.0)


class Work:
    """A call of some pieces, each of which waits to be let go."""

    def __init__(self, name, log, *, pieces=1, seconds=1.0, gated=False, large=False):
        self.name, self.log, self.count, self.seconds, self.large = name, log, pieces, seconds, large
        self.started, self.gate = threading.Semaphore(0), threading.Semaphore(0 if gated else 10_000)

    def pieces(self):
        for index in range(self.count):
            yield Piece(self.seconds * (self.count - index), self.large)
            self.log.append(self.name)
            self.started.release()
            assert self.gate.acquire(timeout=WAIT)
        return self.name


@pytest.fixture
def encoders():
    return Encoders(RunTimes(COST, workers=2), time.monotonic)


def run(pool, encoders, work):
    return pool.submit(encoders.run, work.pieces(), TERMS, 0.0)


@pytest.mark.parametrize("threads", ["own", "encoders"])
def test_a_small_call_waits_for_one_piece_of_the_large_ones_and_no_more(encoders, threads):
    log = []
    large = [Work(f"large {number}", log, pieces=10, gated=True) for number in range(2)]
    with ThreadPoolExecutor(3) as pool:

        def begin(work):
            if threads == "own":
                return run(pool, encoders, work)
            return encoders.begin(work.pieces(), TERMS, 0.0, Piece(work.seconds * work.count))

        futures = [begin(work) for work in large]
        for work in large:
            assert work.started.acquire(timeout=WAIT)
        small = begin(Work("small", log, seconds=0.1))
        until(lambda: encoders.turns.waiting == 1)
        large[1].gate.release()
        assert small.result(WAIT) == "small"
        assert log.index("small") == 2, "two pieces were in progress, and no other came before it"
        for work in large:
            work.gate.release(100)
        assert [future.result(WAIT) for future in futures] == ["large 0", "large 1"]
    assert log.count("large 0") == log.count("large 1") == 10


def test_beside_a_text_that_cannot_be_divided_an_encoder_is_free(encoders):
    log = []
    huge = [Work(f"huge {number}", log, gated=True, large=True) for number in range(3)]
    with ThreadPoolExecutor(4) as pool:
        futures = [run(pool, encoders, work) for work in huge]
        until(lambda: encoders.turns.waiting == 2)
        for number in range(5):
            assert run(pool, encoders, Work(f"small {number}", log)).result(WAIT) == f"small {number}"
        assert sum(name.startswith("huge") for name in log) == 1
        for work in huge:
            work.gate.release()
        for future in futures:
            future.result(WAIT)


def test_a_deadline_ends_encoding_in_the_middle_of_a_text_too(encoders):
    log = []
    work = Work("late", log, pieces=5, gated=True)
    terms = Terms(arrival=0.0, deadline=time.monotonic() + 0.05)
    with pytest.raises(OutOfTime):
        encoders.run(work.pieces(), terms, 0.0, Piece(1.0))
    work.gate.release(100)
    assert encoders.run(Work("next", log).pieces(), TERMS, 0.0) == "next"
    until(lambda: not encoders.turns._order._running)
    assert log.count("late") == 1


def test_a_call_whose_deadline_comes_while_it_waits_encodes_nothing(encoders):
    log = []
    busy = [Work(f"busy {number}", log, gated=True) for number in range(2)]
    with ThreadPoolExecutor(2) as pool:
        futures = [run(pool, encoders, work) for work in busy]
        for work in busy:
            assert work.started.acquire(timeout=WAIT)
        with pytest.raises(OutOfTime):
            encoders.run(
                Work("late", log).pieces(), Terms(arrival=0.0, deadline=time.monotonic() + 0.05), 0.0, Piece(1.0)
            )
        assert encoders.turns.waiting == 0
        for work in busy:
            work.gate.release()
        for future in futures:
            future.result(WAIT)
    assert "late" not in log


@pytest.mark.parametrize("waiting", [True, False])
def test_a_cancelled_call_stops_after_the_piece_in_progress(encoders, waiting):
    log = []
    busy = [Work(f"busy {number}", log, gated=True) for number in range(2 if waiting else 1)]
    with ThreadPoolExecutor(2) as pool:
        futures = [run(pool, encoders, work) for work in busy]
        for work in busy:
            assert work.started.acquire(timeout=WAIT)
        gone = Work("gone", log, pieces=5, gated=True)
        future = encoders.begin(gone.pieces(), TERMS, 0.0, Piece(5.0))
        if not waiting:
            assert gone.started.acquire(timeout=WAIT)
        assert future.cancel()
        gone.gate.release(100)
        for work in busy:
            work.gate.release()
        for item in futures:
            item.result(WAIT)
        until(lambda: not encoders.turns._order._running and encoders.turns.waiting == 0)
    assert log.count("gone") == (0 if waiting else 1)


@pytest.mark.parametrize(
    "ask",
    [
        lambda encoders, pieces: encoders.run(pieces, TERMS, 0.0),
        lambda encoders, pieces: encoders.begin(pieces, TERMS, 0.0, Piece(1.0)).result(WAIT),
    ],
    ids=["own thread", "encoder thread"],
)
def test_an_error_in_a_piece_is_its_callers_and_gives_the_turn_back(encoders, ask):
    def broken():
        yield Piece(1.0)
        raise ValueError("no")

    for _ in range(5):
        with pytest.raises(ValueError, match="no"):
            ask(encoders, broken())
    assert encoders.run(Work("next", []).pieces(), TERMS, 0.0) == "next"


def test_an_interrupt_while_a_call_waits_or_encodes_gives_the_turn_back(encoders, monkeypatch):
    def interrupted():
        yield Piece(1.0)
        raise KeyboardInterrupt

    for _ in range(5):
        with pytest.raises(KeyboardInterrupt):
            encoders.run(interrupted(), TERMS, 0.0)
    busy = [encoders.turns.new() for _ in range(2)]
    assert all(turn.begins_at_once(large=False) for turn in busy)
    with monkeypatch.context() as patch:
        patch.setattr("threading.Event.wait", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        for _ in range(5):
            with pytest.raises(KeyboardInterrupt):
                encoders.run(Work("never", []).pieces(), TERMS, 0.0)
    for turn in busy:
        turn.end()
    gc.collect()
    assert (encoders.turns.waiting, dict(encoders.turns._order._running)) == (0, {})
    assert encoders.run(Work("next", []).pieces(), TERMS, 0.0) == "next"


def test_threads_end_with_the_encoders():
    encoders = Encoders(RunTimes(COST, workers=2), time.monotonic)
    assert encoders.begin(Work("a", []).pieces(), TERMS, 0.0, Piece(1.0)).result(WAIT) == "a"
    threads = list(encoders._pool._threads)
    assert threads
    del encoders
    until(lambda: gc.collect() >= 0 and not any(thread.is_alive() for thread in threads))
