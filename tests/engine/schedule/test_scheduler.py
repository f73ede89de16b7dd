"""The scheduler with runs that a test lets go one by one: whose turn, what is dropped, what fails, how it ends."""

import threading
import time
from concurrent.futures import CancelledError

import numpy as np
import pytest
from fake_runner import COST, WAIT, FakeRunner, alone, pairs_of, scores, submit, until

from crossrank.engine.schedule.admission import AdmittedCall, Bounds
from crossrank.engine.schedule.request import Terms
from crossrank.errors import ClosedError, InferenceError, Overloaded


def test_every_request_gets_the_outputs_of_its_own_pairs_in_their_order(scheduler):
    engine = scheduler(FakeRunner(workers=3), batching="padded")
    rng = np.random.default_rng(0)
    requests = [pairs_of(rng.integers(1, 50, size=rng.integers(0, 30)), first=100 * index) for index in range(50)]
    futures = [submit(engine, pairs) for pairs in requests]
    for pairs, future in zip(requests, futures, strict=True):
        np.testing.assert_array_equal(scores(future), alone(pairs))


def test_a_small_request_waits_for_a_few_runs_of_a_large_one_only(scheduler):
    runner = FakeRunner(workers=2, gated=True)
    engine = scheduler(runner)
    large = submit(engine, pairs_of([20] * 100, first=1000))
    runner.wait_for_runs(2)
    small = submit(engine, pairs_of([20] * 4, first=1))
    while not small.done():
        runner.let_go()
        runner.wait_for_runs(1)
    runner.open_gate()
    scores(large)
    before = [numbers[0] for numbers in runner.ran[: [numbers[0] for numbers in runner.ran].index(4)]]
    assert sum(number >= 1000 for number in before) <= 2 + 2 + 2, "running, handed out ahead, running beside it"


def test_what_is_cancelled_before_it_starts_never_runs(scheduler):
    runner = FakeRunner(workers=1, gated=True)
    engine = scheduler(runner)
    first = submit(engine, pairs_of([10], first=1))
    runner.wait_for_runs(1)
    gone, kept = submit(engine, pairs_of([10] * 50, first=100)), submit(engine, pairs_of([30], first=7))
    assert gone.cancel()
    until(lambda: engine.stats().failures["cancelled"] == 1)
    runner.open_gate()
    scores(first), scores(kept)
    assert runner.ran == [[1], [7]]
    assert engine.stats().failures["cancelled"] == 1
    assert engine.stats().queue_tokens == 0


def test_what_is_cancelled_between_its_runs_stops_there(scheduler):
    runner = FakeRunner(workers=1, gated=True)
    engine = scheduler(runner)
    gone = submit(engine, pairs_of([10] * 50))
    runner.wait_for_runs(1)
    gone.cancel()
    with pytest.raises(CancelledError):
        gone.result(WAIT)
    until(lambda: engine.stats().waiting_requests == 0)
    runner.open_gate()
    scores(submit(engine, pairs_of([10], first=70)))
    assert runner.ran == [[1], [70]]


def test_a_poisoned_pair_fails_its_own_request_and_its_company_is_run_again(scheduler):
    def fail(arrays):
        if 13 in arrays.input_ids[:, 0]:
            raise InferenceError("onnxruntime failed")

    runner = FakeRunner(workers=1, gated=True, on_run=fail)
    # A run's start costs far more than its rows, so requests share runs.
    engine = scheduler(runner, batching="padded")
    engine.recalibrate(type(COST)(run=1.0, row=1e-9, token=1e-9, token_squared=1e-12))
    blocker = submit(engine, pairs_of([5], first=1))
    runner.wait_for_runs(1)
    good = [pairs_of([9, 8], first=20), pairs_of([7], first=30), pairs_of([9] * 3, first=40)]
    futures = [submit(engine, pairs) for pairs in good]
    poisoned = submit(engine, pairs_of([8], first=13))
    until(lambda: engine.stats().waiting_requests == 5)
    runner.open_gate()
    scores(blocker)
    outcome = poisoned.result(WAIT)
    assert not outcome.scored.any()
    assert isinstance(outcome.failed[0].error, InferenceError)
    assert "onnxruntime failed" in str(outcome.failed[0].error)
    for pairs, future in zip(good, futures, strict=True):
        np.testing.assert_array_equal(scores(future), alone(pairs))
    assert any(13 in numbers and len(numbers) > 1 for numbers in runner.ran), "nothing shared the poisoned run"
    assert engine.stats().failures["inference"] == 1


def test_an_error_reaches_each_request_as_an_exception_of_its_own(scheduler):
    def fail(arrays):
        raise ValueError("no")

    engine = scheduler(FakeRunner(workers=1, on_run=fail))
    errors = [submit(engine, pairs_of([5])).result(WAIT).failed[0].error for _ in range(2)]
    assert all(isinstance(error, InferenceError) for error in errors)
    assert errors[0] is not errors[1]
    assert "ValueError('no')" in str(errors[0])


@pytest.mark.parametrize("workers", [1, 3])
def test_a_dead_worker_is_replaced_and_its_request_answered(scheduler, workers):
    def die(arrays):
        if 13 in arrays.input_ids[:, 0]:
            raise SystemExit("the thread is torn down")

    engine = scheduler(FakeRunner(workers=workers, on_run=die))
    assert engine.health().ok
    for deaths in range(1, 4):
        with pytest.raises(InferenceError, match="died of SystemExit"):
            submit(engine, pairs_of([10] * 20, first=5)).result(WAIT)
        good = pairs_of([10] * 20, first=100)
        np.testing.assert_array_equal(scores(submit(engine, good)), alone(good))
        health = engine.health()
        assert (health.workers, health.workers_replaced) == (workers, deaths)
        assert health.ok
        assert "SystemExit" in health.last_error
    assert engine.stats().failures["worker"] == 3


def test_a_scheduler_that_breaks_answers_everybody_and_says_so(scheduler, monkeypatch):
    runner = FakeRunner(workers=1, gated=True)
    engine = scheduler(runner)
    waiting = submit(engine, pairs_of([10] * 5))
    runner.wait_for_runs(1)

    def broken(*_):
        raise RuntimeError("a bug")

    monkeypatch.setattr(engine._owner, "_submitted", broken)
    later = submit(engine, pairs_of([10]))
    for future in (waiting, later):
        with pytest.raises(InferenceError, match=r"scheduler failed.*a bug"):
            future.result(WAIT)
    until(lambda: engine._owner.ended)
    with pytest.raises(InferenceError, match="scheduler failed"):
        submit(engine, pairs_of([10])).result(WAIT)
    assert not engine.health().ok
    assert "a bug" in engine.health().last_error


def test_closing_drains_what_waits_or_refuses_it_as_asked(scheduler):
    for drain in (True, False):
        runner = FakeRunner(workers=2, gated=True)
        engine = scheduler(runner)
        futures = [submit(engine, pairs_of([10] * 5)) for _ in range(6)]
        runner.wait_for_runs(2)
        closing = threading.Thread(target=engine.close, kwargs={"drain": drain})
        closing.start()
        until(lambda engine=engine: engine.health().closed)
        with pytest.raises(ClosedError):
            AdmittedCall(engine, terms=Terms(arrival=0.0))
        if not drain:
            for future in futures:
                with pytest.raises(ClosedError):
                    future.result(WAIT)
        runner.open_gate()
        closing.join(WAIT)
        assert not closing.is_alive()
        assert engine.health().workers == 0
        if drain:
            assert all(scores(future).shape == (5, 1) for future in futures)
        else:
            assert len(runner.ran) < 6
            assert engine.stats().failures["closed"] == 6


def test_a_call_that_was_let_in_before_closing_may_still_submit_when_draining(scheduler):
    engine = scheduler(FakeRunner())
    scores(submit(engine, pairs_of([5])))
    with AdmittedCall(engine, terms=Terms(arrival=0.0)) as call:
        closing = threading.Thread(target=engine.close)
        closing.start()
        until(lambda: engine.health().closed)
        assert scores(call.submit(pairs_of([5] * 3), Terms(arrival=0.0))).shape == (3, 1)
    closing.join(WAIT)
    assert not closing.is_alive()


def test_more_than_may_wait_is_refused_with_an_estimate_and_let_in_when_there_is_room(scheduler):
    runner = FakeRunner(workers=1, gated=True)
    engine = scheduler(runner, max_queue_tokens=100)
    larger_than_the_queue = submit(engine, pairs_of([50] * 10, first=500))
    runner.wait_for_runs(1)
    with pytest.raises(Overloaded, match="at most 100 may wait") as caught:
        submit(engine, pairs_of([10]))
    assert 0 < caught.value.retry_after < 10
    assert engine.stats().failures["overloaded"] == 1
    runner.open_gate()
    scores(larger_than_the_queue)
    until(lambda: engine.stats().queue_tokens == 0)
    scores(submit(engine, pairs_of([10] * 9)))


def test_tokens_count_until_their_run_starts(scheduler):
    runner = FakeRunner(workers=1, gated=True)
    engine = scheduler(runner)
    submit(engine, pairs_of([10] * 6))
    runner.wait_for_runs(1)
    until(lambda: engine.stats().queue_tokens == 40)  # one runs, one is handed out ahead
    runner.let_go(2)
    runner.wait_for_runs(2)
    until(lambda: engine.stats().queue_tokens == 20)


def test_the_deadline_gives_what_is_scored(scheduler):
    runner = FakeRunner(workers=1, gated=True)
    engine = scheduler(runner)
    now = engine.clock()
    pairs = pairs_of([10] * 50)
    part = submit(engine, pairs, deadline=now + 0.5)
    nothing = submit(engine, pairs, deadline=now + 0.6)
    runner.let_go(3)
    outcome = part.result(WAIT)
    assert 1 <= outcome.scored.sum() <= 3
    np.testing.assert_array_equal(outcome.outputs[outcome.scored], alone(pairs)[outcome.scored])
    assert not nothing.result(WAIT).scored.any()
    kept = outcome.outputs.copy()
    runner.open_gate()
    scores(submit(engine, pairs_of([5])))
    np.testing.assert_array_equal(outcome.outputs, kept)  # a run that finished later leaves the answer alone
    assert engine.stats().partial == 1
    assert engine.stats().failures["deadline"] == 1


def test_times_that_no_platform_can_wait_for_are_waited_for_in_parts(scheduler, monkeypatch):
    monkeypatch.setattr("crossrank.engine.schedule.queue_owner._LONGEST_WAIT", 0.01)
    runner = FakeRunner(workers=1, gated=True)
    engine = scheduler(runner)
    future = submit(engine, pairs_of([10] * 3), deadline=engine.clock() + 1e12)
    runner.wait_for_runs(1)
    runner.open_gate()
    scores(future)
    patient = scheduler(FakeRunner(workers=1), batching="padded", max_wait=1e12)
    waiting = submit(patient, pairs_of([10] * 3))
    until(lambda: patient.stats().waiting_requests == 1)
    time.sleep(0.05)
    assert patient.health().ok
    assert not waiting.done()


def test_an_idle_engine_may_wait_for_a_fuller_first_run(scheduler):
    runner = FakeRunner(workers=1)
    engine = scheduler(runner, batching="padded", max_batch_tokens=40, max_wait=WAIT)
    engine.recalibrate(type(COST)(run=1.0, row=1e-9, token=1e-9, token_squared=1e-12))
    first = submit(engine, pairs_of([10], first=1))
    until(lambda: engine.stats().waiting_requests == 1)
    assert not first.done()
    assert runner.ran == []
    others = [submit(engine, pairs_of([10], first=2 + index)) for index in range(3)]
    for future in (first, *others):
        scores(future)
    assert sorted(runner.ran[0]) == [1, 2, 3, 4]


def test_one_run_on_all_cores_has_them_alone(scheduler):
    runner = FakeRunner(workers=4, gated=True)
    engine = scheduler(runner)
    lone = submit(engine, pairs_of([10], first=1))
    runner.wait_for_runs(1)
    many = submit(engine, pairs_of([10] * 20, first=50))
    until(lambda: engine.stats().waiting_requests == 2)
    assert (len(runner.ran), runner.all_cores) == (1, [True])
    runner.let_go()
    scores(lone)
    runner.wait_for_runs(4)
    assert runner.all_cores[1:5] == [False] * 4
    runner.open_gate()
    scores(many)


def test_an_observer_is_told_of_every_run_and_dropped_when_it_raises(scheduler):
    engine = scheduler(FakeRunner(workers=1), batching="padded")
    seen = []
    engine.observe(seen.append)
    scores(submit(engine, pairs_of([10, 20])))
    until(lambda: sum(item.pairs for item in seen) == 2)
    assert sum(item.tokens for item in seen) == 30
    assert all(item.error is None and item.seconds >= 0 and item.requests == 1 for item in seen)
    engine.observe(lambda item: 1 / 0)

    def one_more():
        scores(submit(engine, pairs_of([10])))
        until(lambda: engine._workers.observer is None)

    with pytest.warns(RuntimeWarning, match="observer of batches raised ZeroDivisionError"):
        one_more()
    scores(submit(engine, pairs_of([10])))


@pytest.mark.parametrize("raised", [SystemExit(3), KeyboardInterrupt(), GeneratorExit()])
def test_an_observer_cannot_end_a_worker(scheduler, raised):
    engine = scheduler(FakeRunner(workers=1))

    def observer(_):
        raise raised

    engine.observe(observer)

    def one_more():
        scores(submit(engine, pairs_of([10])))
        until(lambda: engine._workers.observer is None)

    with pytest.warns(RuntimeWarning, match=type(raised).__name__):
        one_more()
    scores(submit(engine, pairs_of([10])))
    assert engine.health().ok


def test_a_call_in_parts_counts_whole_until_its_last_part_is_submitted(scheduler):
    engine = scheduler(FakeRunner(workers=1))
    arrival = engine.clock()
    with AdmittedCall(engine, 100, seconds=1.0, terms=Terms(arrival=arrival)) as call:
        assert engine.admission.tokens == 100
        call.submit(pairs_of([10]), Terms(arrival=arrival, expected=0.1, work_behind=0.9)).result(WAIT)
        assert engine.admission.tokens == 90
        call.submit(pairs_of([95]), Terms(arrival=arrival, expected=0.95, work_behind=0.9)).result(WAIT)
        assert engine.admission.tokens == 0
        call.submit(pairs_of([10]), Terms(arrival=arrival)).result(WAIT)
        assert engine.admission.tokens == 0
    assert engine.admission.tokens == 0
    with AdmittedCall(engine, 100, terms=Terms(arrival=arrival)) as call:
        call.submit(pairs_of([10]), Terms(arrival=arrival)).result(WAIT)
        assert engine.admission.tokens == 0, "nothing comes after it"
    with AdmittedCall(engine, 100, terms=Terms(arrival=arrival)):
        pass
    assert engine.admission.tokens == 0


@pytest.mark.parametrize("neighbours", [1, 3, 10])
def test_a_call_waits_for_what_goes_before_it_and_not_for_larger_ones(scheduler, neighbours):
    runner = FakeRunner(workers=1, gated=True)
    engine = scheduler(runner)
    for _ in range(neighbours):
        submit(engine, pairs_of([20] * 1000))
    until(lambda: engine.stats().waiting_requests == neighbours)
    seconds = float(COST.seconds(1, 20))
    now = Terms(arrival=engine.clock())
    assert engine.expected_wait(10 * seconds, now) == 0
    assert engine.expected_wait(1000 * seconds, now) == pytest.approx(neighbours * 1000 * seconds, rel=0.01)
    engine.admission.bounds = Bounds(seconds=500 * seconds)
    with pytest.raises(Overloaded, match="this call would wait") as caught:
        AdmittedCall(engine, 20_000, seconds=1000 * seconds, terms=now)
    assert caught.value.expected_wait == pytest.approx(neighbours * 1000 * seconds, rel=0.01)
    AdmittedCall(engine, 200, seconds=10 * seconds, terms=now).leave()


def test_calls_that_look_shorter_than_they_are_wait_for_their_like(scheduler):
    runner = FakeRunner(workers=1, gated=True)
    engine = scheduler(runner)
    seconds = float(COST.seconds(1, 100))
    expected = 400 * seconds / 4  # so much that the time this test takes counts for nothing beside it
    terms = Terms(arrival=engine.clock(), expected=expected)
    with AdmittedCall(engine, 10_000, seconds=expected, terms=terms) as call:
        waiting = call.submit(pairs_of([100] * 400), terms)
    until(lambda: engine.stats().waiting_requests == 1)
    later = Terms(arrival=engine.clock())
    assert engine.expected_wait(expected * 0.9, later) == 0, "less work goes before it"
    assert engine.expected_wait(expected * 1.1, later) == pytest.approx(400 * seconds, rel=0.03)
    runner.open_gate()
    assert scores(waiting).shape == (400, 1)
