"""What runs next: each pair once, small requests between the runs of large ones, shared runs only where they pay."""

from random import Random

import numpy as np
import pytest
from fake_runner import COST, pairs_of
from hypothesis import given, settings
from hypothesis import strategies as st

from crossrank.engine.plan.batch_kinds import KINDS, SinglePairs
from crossrank.engine.plan.cost import CostModel
from crossrank.engine.plan.planner import plan
from crossrank.engine.plan.run_times import RunTimes
from crossrank.engine.schedule.request import Terms, new_request
from crossrank.engine.schedule.run_queue import TRY_AGAIN_SECONDS, RunQueue
from crossrank.engine.schedule.run_results import take_failure, take_outputs
from crossrank.errors import InferenceError
from crossrank.models.manifest import PACKED_ROWS

STARTS_COST_MUCH = CostModel(run=0.1, row=1e-6, token=1e-5, token_squared=1e-9)
"""As on a GPU: a run's fixed cost is most of it, so shared runs pay."""


class Bench:
    """A run queue with requests."""

    def __init__(self, *, batching="single", cost=COST, max_batch_tokens=4096, workers=1):
        self.released = 0
        self.kind = KINDS[batching](cost, max_batch_tokens)
        self.workers = workers
        self.times = RunTimes(cost, workers)
        self.queue = RunQueue(self.kind, self.times, workers, self.release)
        self.numbers = 0

    def release(self, tokens):
        self.released += tokens

    def add(self, lengths, now=0.0, **terms):
        encoded = pairs_of(lengths)
        kind = self.kind if self.kind.mixes_lengths else SinglePairs(self.kind.cost, self.kind.max_batch_tokens)
        batches = plan(encoded.lengths, kind, 1)
        request = new_request(self.numbers, encoded, batches, 1, Terms(arrival=now, **terms))
        self.numbers += 1
        self.queue.add(request, now)
        return request

    def drain(self, now=0.0, *, idle=False):
        while (run := self.queue.next_run(now, idle=idle)) is not None:
            yield run


def check_shape(run, batching, budget):
    assert run.rows == 1 or run.rows * run.length <= budget
    assert run.length == max(part.batch.length for part in run.parts)
    if batching == "single":
        assert run.rows == 1
    if batching == "equal_length":
        assert {part.batch.length for part in run.parts} == {run.length}
    if batching == "packed":
        assert run.rows <= PACKED_ROWS or len({part.batch.length for part in run.parts}) == 1
        assert run.run_tokens == run.tokens
    else:
        assert run.run_tokens == run.rows * run.length


LENGTHS = st.lists(st.integers(1, 60), max_size=12)


@settings(max_examples=80)
@given(
    requests=st.lists(LENGTHS, max_size=8),
    batching=st.sampled_from(["single", "padded", "packed", "equal_length"]),
    cost=st.sampled_from([COST, STARTS_COST_MUCH]),
    budget=st.integers(1, 300),
    seed=st.integers(0, 2**32 - 1),
)
def test_each_pair_is_in_exactly_one_run_within_the_budget(requests, batching, cost, budget, seed):
    bench = Bench(batching=batching, cost=cost, max_batch_tokens=budget)
    random = Random(seed)
    seen = {}
    dropped = set()
    waiting = list(requests)
    made = []
    while True:
        if waiting and random.random() < 0.5:
            made.append(bench.add(waiting.pop()))
        elif made and random.random() < 0.1:
            request = random.choice(made)
            bench.queue.drop(request)
            dropped.add(request.number)
        run = bench.queue.next_run(0.0, idle=False)
        if run is None:
            if not waiting:
                break
            continue
        check_shape(run, batching, budget)
        for part in run.parts:
            for index in part.indices.tolist():
                assert (part.request.number, index) not in seen
                seen[part.request.number, index] = part.request.pairs.lengths[index]
    for request in made:
        found = {index for number, index in seen if number == request.number}
        assert found <= set(range(len(request.pairs)))
        assert request.number in dropped or len(found) == len(request.pairs)
    assert bench.released == sum(len_ for request in made for len_ in request.pairs.lengths)
    assert len(bench.queue) == 0


def test_a_small_request_runs_between_the_runs_of_a_large_one():
    bench = Bench()
    large = bench.add([20] * 100)
    runs = bench.drain()
    first = [next(runs) for _ in range(10)]
    small = bench.add([20] * 5)
    after = [run.parts[0].request for run in runs]
    assert {run.parts[0].request for run in first} == {large}
    assert after[:5] == [small] * 5
    assert after[5:] == [large] * 90


def test_nobody_starves_under_an_endless_stream_of_small_requests():
    bench = Bench()
    large = bench.add([20] * 200)
    now, late = 0.0, None
    for _ in range(20_000):
        if len(bench.queue) < 3:
            bench.add([20] * 2, now)
        run = bench.queue.next_run(now, idle=False)
        now += run.seconds
        if not large.batches:
            late = now
            break
    work = 200 * float(COST.seconds(1, 20))
    assert late is not None
    assert late < 25 * work


@pytest.mark.parametrize(("cost", "expected"), [(COST, 1), (STARTS_COST_MUCH, 2)])
def test_company_joins_only_where_starting_a_run_costs_more_than_waiting_for_its_rows(cost, expected):
    bench = Bench(batching="padded", cost=cost)
    bench.add([30])
    bench.add([29])
    assert next(bench.drain()).rows == expected


@pytest.mark.parametrize(("batching", "worked_on"), [("padded", 120), ("packed", 90)])
def test_company_takes_the_longest_row_as_its_length_and_may_be_longer(batching, worked_on):
    bench = Bench(batching=batching, cost=STARTS_COST_MUCH)
    short, long = bench.add([10]), bench.add([40] * 2)
    run = next(bench.drain())
    assert [part.request for part in run.parts] == [short, long]
    assert (run.rows, run.length, run.tokens, run.run_tokens) == (3, 40, 90, worked_on)
    alone = [float(STARTS_COST_MUCH.seconds(rows, length)) for rows, length in ((1, 10), (1, 40), (1, 40))]
    run_alone = STARTS_COST_MUCH.run
    packed = run_alone + (sum(alone) - 3 * run_alone) * (1 + STARTS_COST_MUCH.packing)
    assert run.seconds == pytest.approx(packed if batching == "packed" else float(STARTS_COST_MUCH.seconds(3, 40)))


def test_company_is_not_taken_past_its_deadline():
    bench = Bench(batching="padded", cost=STARTS_COST_MUCH)
    bench.add([10])
    hurried = bench.add([40] * 2, deadline=0.5 * STARTS_COST_MUCH.run)
    bench.add([40])
    run = next(bench.drain())
    assert len(run.parts) == 2
    assert hurried not in [part.request for part in run.parts]


def test_a_batch_that_cannot_be_done_by_the_deadline_is_not_started_and_a_shorter_one_is():
    bench = Bench()
    seconds = float(COST.seconds(1, 10))
    request = bench.add([100, 50, 10], deadline=1.5 * seconds)
    runs = list(bench.drain())
    assert [run.length for run in runs] == [10]
    assert bench.queue.cut_short == [request]
    assert bench.released == 160


def test_deadlines_are_judged_by_the_times_that_runs_really_took():
    bench = Bench()
    warm = bench.add([10] * 20)
    for run in bench.drain():
        bench.times.observe(run.seconds, 8 * run.seconds, run.tokens, all_cores=run.all_cores)
    assert not warm.batches
    seconds = float(COST.seconds(1, 10))
    bench.add([10], deadline=7 * seconds)
    assert list(bench.drain()) == []
    bench.add([10], deadline=9 * seconds)
    assert len(list(bench.drain())) == 1


def test_an_idle_engine_does_not_believe_old_predictions_for_ever():
    bench = Bench()
    bench.add([10], now=100.0)
    for run in bench.drain(now=100.0):
        bench.times.observe(run.seconds, 1000 * run.seconds, run.tokens, all_cores=run.all_cores)
    soon, later = 100.0 + TRY_AGAIN_SECONDS, 100.1 + TRY_AGAIN_SECONDS
    options = {"deadline": later + 2 * float(COST.seconds(1, 10))}
    for now, idle, runs in ((soon, True, 0), (later, False, 0), (later, True, 3)):
        bench.add([10] * 3, now=now, **options)
        assert len(list(bench.drain(now, idle=idle))) == runs
    bench.add([10], now=later, deadline=later - 1)
    assert list(bench.drain(later + TRY_AGAIN_SECONDS + 1, idle=True)) == [], "the deadline has passed"


def test_a_machine_on_which_nothing_ran_yet_is_tried_as_well():
    slow = CostModel(run=10.0, row=1e-6, token=1e-5, token_squared=1e-9)
    bench = Bench(cost=slow)
    bench.add([10], now=7.0, deadline=8.0)
    assert list(bench.drain(7.0, idle=True)) == []
    now = 7.1 + TRY_AGAIN_SECONDS
    bench.add([10] * 2, now=now, deadline=now + 1)
    assert [len(list(bench.drain(now, idle=True))) for _ in range(2)] == [1, 0]


def test_only_an_idle_engine_with_little_to_do_takes_all_cores():
    bench = Bench(workers=4)
    bench.add([10])
    assert next(bench.drain(idle=False)).all_cores is False
    bench.add([10])
    assert next(bench.drain(idle=True)).all_cores is True
    bench.add([10] * 3)
    assert [run.all_cores for run in bench.drain(idle=True)] == [True] * 3
    bench.add([10] * 4)
    shared = bench.drain(idle=True)
    assert next(shared).all_cores is False
    assert [run.all_cores for run in shared] == [False] * 3, "the last runs of a request stay where the others were"


def test_an_idle_engine_waits_for_company_only_where_runs_may_be_shared_and_are_not_full():
    bench = Bench(batching="padded", max_batch_tokens=50)
    assert bench.queue.held_until(0.01) is None
    bench.add([20], now=5.0)
    assert bench.queue.held_until(0.0) is None
    assert bench.queue.held_until(0.01) == pytest.approx(5.01)
    bench.add([30], now=5.001)
    assert bench.queue.held_until(0.01) is None
    single = Bench()
    single.add([20])
    assert single.queue.held_until(0.01) is None


def test_the_pairs_of_a_failed_run_are_tried_again_apart_in_their_turn_and_each_once():
    bench = Bench(batching="padded", cost=STARTS_COST_MUCH)
    first, second = bench.add([10, 10]), bench.add([12])
    run = next(bench.drain())
    assert len(run.parts) == 2
    waiting = bench.released
    bench.add([1])
    for part in run.parts:
        bench.queue.retry(part, [part.indices])
    assert bench.released == waiting - 32, "they count as waiting again"
    again = [[(part.request, part.indices.tolist()) for part in item.parts] for item in bench.drain()]
    assert [(second, [0])] in again
    assert [(first, [0, 1])] in again
    assert len(again) == 3
    assert (len(bench.queue), bench.released) == (0, 33)


@given(data=st.data())
@settings(max_examples=40)
def test_whichever_pairs_fail_each_is_narrowed_down_and_every_other_one_is_scored(data):
    bench = Bench(batching="padded", cost=STARTS_COST_MUCH, max_batch_tokens=200)
    requests = [bench.add(data.draw(LENGTHS)) for _ in range(data.draw(st.integers(1, 4)))]
    bad = {
        (request.number, index)
        for request in requests
        for index in range(len(request.scored))
        if data.draw(st.booleans())
    }
    no_number = data.draw(st.booleans())
    for run in bench.drain():
        rows = [(part.request.number, index) for part in run.parts for index in part.indices.tolist()]
        hit = [row in bad for row in rows]
        if no_number:
            outputs = np.where(np.array(hit)[:, None], np.nan, 1.0).astype(np.float32)
            take_outputs(run, outputs, bench.queue)
        elif any(hit):
            take_failure(run, InferenceError("no"), bench.queue)
        else:
            take_outputs(run, np.ones((len(rows), 1), np.float32), bench.queue)
    for request in requests:
        request.settle_failures()
        assert request.in_flight == 0
        failed = {index for number, index in bad if number == request.number}
        given_up = not no_number and len(failed) == len(request.scored)
        assert set(request.failed) == failed
        assert request.scored.tolist() == [index not in failed for index in range(len(request.scored))]
        assert given_up or not request.given_up
    assert bench.released == sum(int(request.pairs.lengths.sum()) for request in requests)
