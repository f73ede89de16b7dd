"""Whose turn it is: least remaining work first, and nobody starves."""

import gc
import weakref

from fake_runner import COST, pairs_of
from hypothesis import given
from hypothesis import strategies as st

from crossrank.engine.plan.batch_kinds import SinglePairs
from crossrank.engine.plan.planner import plan
from crossrank.engine.plan.run_times import RunTimes
from crossrank.engine.schedule.ordering import AGEING, WaitingRequests, WaitingWork, turn, work_ahead
from crossrank.engine.schedule.request import Terms, new_request

TIMES = RunTimes(COST, workers=1)


def request(pairs=1, *, number=0, arrival=0.0, length=10, **terms):
    encoded = pairs_of([length] * pairs)
    batches = plan(encoded.lengths, SinglePairs(COST, 4096), 1)
    return new_request(number, encoded, batches, 1, Terms(arrival=arrival, **terms))


def order(*requests, workers=1):
    return sorted(requests, key=lambda item: turn(item, RunTimes(COST, workers)))


def test_less_work_goes_first():
    large, small = request(100), request(10)
    assert order(large, small) == [small, large]
    for _ in range(95):
        large.take()
    assert order(small, large) == [large, small]


def test_of_equal_work_the_one_that_came_first_goes_first():
    late, early = request(5, arrival=2.0), request(5, arrival=1.0)
    assert order(late, early) == [early, late]


def test_a_request_that_waited_twenty_times_its_work_goes_before_any_newcomer():
    large = request(4000)
    assert large.remaining > TIMES.small_work
    newcomer = request(1, arrival=large.remaining / AGEING)
    a_little_earlier = request(1, arrival=0.99 * large.remaining / AGEING)
    assert order(newcomer, large) == [large, newcomer]
    assert order(a_little_earlier, large) == [a_little_earlier, large]


def test_a_small_request_goes_before_newcomers_sooner():
    ten = request(10)
    waited = ten.remaining * (ten.remaining / TIMES.small_work) ** 2 / AGEING
    assert waited < ten.remaining
    assert order(request(1, arrival=waited), ten)[0] is ten
    assert order(request(1, arrival=0.9 * waited), ten)[0] is not ten


def test_a_step_of_priority_counts_as_half_the_work():
    plain = request(10)
    assert order(plain, request(19, priority=1))[0].terms.priority == 1
    assert order(plain, request(21, priority=1))[0] is plain
    assert order(plain, request(6, priority=-1))[0] is plain


def test_work_that_a_deadline_cuts_off_does_not_count():
    long = request(1000, deadline=0.05)
    assert order(request(100), long, workers=2)[0] is long
    assert order(request(100), request(1000, deadline=100.0), workers=2)[0].terms.deadline is None


def test_who_comes_waits_for_what_looked_like_less_work_when_it_came_and_for_all_of_it():
    waiting = [WaitingWork(4.0, 1.0, Terms(arrival=0.0)), WaitingWork(3.0, 3.0, Terms(arrival=0.0))]
    assert [work_ahead(place, waiting, TIMES) for place in (0.5, 2.0, 4.0)] == [0.0, 4.0, 7.0]


def test_a_call_in_pieces_is_no_small_call():
    piece = request(5, work_behind=request(1000).remaining)
    whole = request(100)
    assert order(piece, whole) == [whole, piece]


@given(st.lists(st.tuples(st.integers(1, 8), st.floats(0, 5)), max_size=30), st.data())
def test_the_first_is_always_one_with_the_smallest_turn_and_nothing_is_lost(given_requests, data):
    waiting = WaitingRequests(TIMES)
    live = [request(count, number=index, arrival=at) for index, (count, at) in enumerate(given_requests)]
    for item in live:
        waiting.add(item)
    total = sum(count for count, _ in given_requests)
    while live:
        assert len(waiting) == len(live)
        first = waiting.first()
        assert turn(first, TIMES) == min(turn(item, TIMES) for item in live)
        if data.draw(st.booleans()):
            first.take()
            total -= 1
            waiting.batch_taken(first)
        else:
            dropped = data.draw(st.sampled_from(live))
            total -= len(dropped.batches)
            dropped.drop_batches()
            waiting.emptied()
        live = [item for item in live if item.batches]
    assert (waiting.first(), len(waiting), list(waiting), total) == (None, 0, [], 0)


def test_requests_that_were_dropped_are_let_go_although_they_were_never_first():
    waiting = WaitingRequests(TIMES)
    keeper = request(1)
    waiting.add(keeper)
    gone = []
    for number in range(200):
        item = request(50, number=number)
        waiting.add(item)
        gone.append(weakref.ref(item.pairs))
        item.drop_batches()
        waiting.emptied()
    del item
    gc.collect()
    assert sum(ref() is not None for ref in gone) < 30
    assert waiting.first() is keeper
