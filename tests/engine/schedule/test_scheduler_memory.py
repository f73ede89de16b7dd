"""What the scheduler keeps: nothing of requests that ended, however they did, and no threads without its owner."""

import gc
import threading
import weakref
from concurrent.futures import wait

import numpy as np
from fake_runner import WAIT, FakeRunner, alone, make_scheduler, pairs_of, scores, submit, until


def test_a_scheduler_that_is_dropped_ends_its_threads_and_keeps_nothing():
    before = set(threading.enumerate())
    runner = FakeRunner()
    engine = make_scheduler(runner)
    pairs = pairs_of([10] * 5)
    scores(submit(engine, pairs))
    kept = weakref.ref(pairs)
    del engine, pairs
    gc.collect()
    until(lambda: not set(threading.enumerate()) - before)
    gc.collect()
    assert kept() is None


def test_an_idle_scheduler_keeps_nothing_of_a_finished_request(scheduler):
    engine = scheduler(FakeRunner(workers=2))
    pairs = pairs_of([10] * 5)
    future = submit(engine, pairs)
    scores(future)
    kept = weakref.ref(pairs)
    del pairs
    until(lambda: gc.collect() >= 0 and kept() is None)


def test_ten_thousand_requests_cancelled_at_random_moments_leak_nothing(scheduler, quick_collections):
    runner = FakeRunner(workers=2)
    engine = scheduler(runner, batching="padded")
    rng = np.random.default_rng(4)
    kept, references, cancelled = [], [], []
    for number in range(10_000):
        pairs = pairs_of(rng.integers(1, 9, size=3), first=number)
        future = submit(engine, pairs)
        references.append(weakref.ref(pairs))
        if number % 100 == 0:
            kept.append((pairs, future))
        else:
            cancelled.append(future)
            if rng.random() < 0.9:
                cancelled.pop(int(rng.integers(len(cancelled)))).cancel()
    del pairs, future
    for pairs, future in kept:
        np.testing.assert_array_equal(scores(future), alone(pairs))
    for future in cancelled:
        future.cancel()
    wait(cancelled, WAIT)
    until(lambda: engine.stats().waiting_requests == 0)
    stats = engine.stats()
    assert stats.requests == 10_000
    assert stats.answered + stats.failures["cancelled"] == 10_000
    assert stats.queue_tokens == 0
    del kept, cancelled, future, pairs
    until(lambda: gc.collect() >= 0 and not any(reference() for reference in references))
