"""What is accepted, and what is counted: exact after every refusal, interrupt and end."""

import asyncio
import pickle

import pytest

from crossrank.engine.schedule.admission import Admission, AdmittedCall, Bounds
from crossrank.engine.schedule.request import Terms
from crossrank.errors import ClosedError, Overloaded

RATE = 100.0


class Queue:
    """What a call needs of a scheduler, with a wait that the test sets."""

    def __init__(self, most=None):
        self.tokens_per_second = RATE
        self.admission = Admission(self, most)
        self.wait = 0.0

    def wake(self):
        pass

    def expected_wait(self, seconds, terms):
        return self.wait() if callable(self.wait) else self.wait


def enter(queue, tokens, *, longest=None, wait=0.0, **options):
    """Most tests keep the calls that they get: what nobody holds leaves."""
    queue.wait = wait
    if longest is not None:
        queue.admission.bounds = Bounds(longest, queue.admission.bounds.tokens)
    return AdmittedCall(queue, tokens, seconds=tokens / RATE, terms=Terms(arrival=0.0), **options)


def test_the_tokens_that_wait_are_bounded_and_a_refusal_says_how_long_the_wait_would_have_been():
    queue = Queue(most=100)
    admission = queue.admission
    first = enter(queue, 90)
    with pytest.raises(Overloaded, match=r"90 tokens wait.* add 20; at most 100.*would have waited 0.70 s") as caught:
        enter(queue, 20, longest=1000.0, wait=0.7)
    assert caught.value.retry_after == pytest.approx(0.1)
    assert caught.value.expected_wait == 0.7
    copy = pickle.loads(pickle.dumps(caught.value))
    assert (copy.retry_after, copy.expected_wait, str(copy)) == (
        caught.value.retry_after,
        caught.value.expected_wait,
        str(caught.value),
    )
    second = enter(queue, 20, continues=True)
    nothing = enter(queue, 0)
    for call in (first, second, nothing):
        call.leave()
    assert (admission.tokens, admission.calls) == (0, 0)
    assert enter(queue, 5000).open


def test_a_call_is_refused_for_the_time_it_would_wait_itself_however_much_waits():
    queue = Queue()
    calls = [
        enter(queue, 300, longest=4.0),
        enter(queue, 200, longest=4.0, wait=3.9),
        enter(queue, 100_000, longest=4.0, wait=3.9),
        enter(queue, 10, longest=4.0, wait=0.0),
    ]
    with pytest.raises(Overloaded, match=r"would wait 7\.50 s .*at most 4 s.*again in about 3\.50 s") as caught:
        enter(queue, 10, longest=4.0, wait=7.5)
    assert (caught.value.expected_wait, caught.value.retry_after) == (7.5, 3.5)
    calls.append(enter(queue, 10, longest=4.0, wait=7.5, continues=True))
    assert queue.admission.refused == 1
    assert queue.admission.calls == len(calls)


def test_beside_an_event_loop_a_call_is_refused_for_its_wait_also_where_no_bound_was_given():
    queue, loop = Queue(), asyncio.new_event_loop()
    calls = [enter(queue, 100_000), enter(queue, 10, wait=3.9, loop=loop), enter(queue, 10, wait=7.5)]
    with pytest.raises(Overloaded, match=r"would wait 7\.50 s .*at most 4 s"):
        enter(queue, 10, wait=7.5, loop=loop)
    with pytest.raises(Overloaded, match="at most 10000000 may wait"):
        enter(queue, 10_000_000, loop=loop)
    assert queue.admission.calls == len(calls)
    loop.close()


def test_nobody_is_asked_how_long_he_would_wait_while_little_waits():
    queue = Queue()
    first = enter(queue, 50)
    second = enter(queue, 10, longest=4.0, wait=lambda: pytest.fail("asked"))
    assert first.open
    assert second.open
    assert queue.admission.tokens == 60


def test_the_work_that_open_calls_announced_is_known_until_they_submit_it():
    queue = Queue()
    admission = queue.admission
    call = enter(queue, 100)
    assert [work.seconds for work in admission.announced_work()] == [1.0]
    admission.submitted(call, 25, 0.25)
    assert [work.seconds for work in admission.announced_work()] == [0.75]
    admission.submitted(call, 75, None)
    assert admission.announced_work() == []
    kept = enter(queue, 50)
    other = enter(queue, 60)
    assert sorted(work.seconds for work in admission.announced_work()) == [0.5, 0.6]
    other.leave()
    assert [work.seconds for work in admission.announced_work()] == [0.5]
    del kept
    assert admission.announced_work() == [], "a call that nobody holds any more has left"


def test_parts_with_more_tokens_than_they_announced_leave_what_the_others_announced():
    queue = Queue()
    admission = queue.admission
    call = enter(queue, 100)
    admission.submitted(call, 80, 0.2)
    assert admission.tokens == 80 + 80
    assert [work.seconds for work in admission.announced_work()] == [0.8]
    admission.submitted(call, 240, 0.6)
    admission.submitted(call, 80, None)
    assert admission.tokens == 400
    call.leave()
    assert admission.tokens == 400


def test_nobody_is_accepted_after_closing():
    queue = Queue()
    admission = queue.admission
    call = enter(queue, 1)
    admission.close()
    with pytest.raises(ClosedError, match="was closed"):
        enter(queue, 1, continues=True)
    call.leave()
    call.leave()
    assert (admission.tokens, admission.calls) == (0, 0)


def test_what_is_submitted_takes_the_place_of_what_was_announced():
    queue = Queue()
    admission = queue.admission
    call = enter(queue, 100)
    admission.submitted(call, 12, 0.1)
    assert admission.tokens == 102
    admission.submitted(call, 5, 2.0)
    assert admission.tokens == 17
    call.leave()
    assert admission.tokens == 17, "what waits continues to wait"
    admission.submitted(call, 3, None)
    assert (admission.tokens, admission.calls) == (20, 0), "a request may be counted after its call left"


def test_calls_of_a_blocked_or_closed_loop_are_not_waited_for():
    queue = Queue()
    admission = queue.admission
    here, other, closed = asyncio.new_event_loop(), asyncio.new_event_loop(), asyncio.new_event_loop()
    calls = [enter(queue, 1, loop=loop) for loop in (None, here, here, other, closed)]
    closed.close()
    assert [admission.waited_for(loop) for loop in (None, here, other)] == [4, 2, 3]
    for call in calls:
        call.leave()
    assert admission.waited_for(here) == 0
    here.close()
    other.close()
