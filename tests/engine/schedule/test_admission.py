"""What is accepted, and what is counted: exact after every refusal, interrupt and end."""

import asyncio
import pickle

import pytest

from crossrank.engine.schedule.admission import Admission, Bounds, CallRecord
from crossrank.errors import ClosedError, Overloaded


def enter(admission, tokens, *, most=None, rate=100.0, longest=None, wait=0.0, continues=False, loop=None):
    call = CallRecord(loop)
    admission.enter(
        call,
        tokens,
        tokens / rate,
        bounds=Bounds(longest, most),
        tokens_per_second=rate,
        expected_wait=lambda: wait,
        continues=continues,
    )
    return call


def announce(admission, call, tokens, *, most=None):
    admission.announce(call, tokens, bounds=Bounds(tokens=most), tokens_per_second=100.0, expected_wait=lambda: 0.5)


def test_the_tokens_that_wait_are_bounded_and_a_refusal_says_how_long_the_wait_would_have_been():
    admission = Admission()
    first = enter(admission, 90, most=100)
    with pytest.raises(Overloaded, match=r"90 tokens wait.* add 20; at most 100.*would have waited 0.70 s") as caught:
        enter(admission, 20, most=100, longest=1000.0, wait=0.7)
    assert caught.value.retry_after == pytest.approx(0.1)
    assert caught.value.expected_wait == 0.7
    copy = pickle.loads(pickle.dumps(caught.value))
    assert (copy.retry_after, copy.expected_wait, str(copy)) == (
        caught.value.retry_after,
        caught.value.expected_wait,
        str(caught.value),
    )
    second = enter(admission, 20, most=100, continues=True)
    nothing = enter(admission, 0, most=100)
    for call in (first, second, nothing):
        admission.leave(call)
    assert (admission.tokens, admission.calls) == (0, 0)
    enter(admission, 5000, most=100)


def test_a_call_is_refused_for_the_time_it_would_wait_itself_however_much_waits():
    admission = Admission()
    enter(admission, 300, longest=4.0)
    enter(admission, 200, longest=4.0, wait=3.9)
    enter(admission, 100_000, longest=4.0, wait=3.9)
    enter(admission, 10, longest=4.0, wait=0.0)
    with pytest.raises(Overloaded, match=r"would wait 7\.50 s .*at most 4 s.*again in about 3\.50 s") as caught:
        enter(admission, 10, longest=4.0, wait=7.5)
    assert (caught.value.expected_wait, caught.value.retry_after) == (7.5, 3.5)
    enter(admission, 10, longest=4.0, wait=7.5, continues=True)
    assert admission.refused == 1


def test_nobody_is_asked_how_long_he_would_wait_while_little_waits():
    admission = Admission()
    call = CallRecord()
    enter(admission, 50)
    admission.enter(
        call,
        10,
        0.1,
        bounds=Bounds(4.0),
        tokens_per_second=100.0,
        expected_wait=lambda: pytest.fail("asked"),
        continues=False,
    )
    assert admission.tokens == 60


def test_the_work_that_open_calls_announced_is_known_until_they_submit_it():
    admission = Admission()
    call = enter(admission, 100)
    assert [work.seconds for work in admission.announced_work()] == [1.0]
    admission.submitted(call, 25, 0.25)
    assert [work.seconds for work in admission.announced_work()] == [0.75]
    admission.submitted(call, 75, None)
    assert admission.announced_work() == []
    enter(admission, 50)
    other = enter(admission, 60)
    assert sorted(work.seconds for work in admission.announced_work()) == [0.5, 0.6]
    admission.leave(other)
    assert [work.seconds for work in admission.announced_work()] == [0.5]


def test_parts_with_more_tokens_than_they_announced_leave_what_the_others_announced():
    admission = Admission()
    call = enter(admission, 100)
    admission.submitted(call, 80, 0.2)
    assert admission.tokens == 80 + 80
    assert [work.seconds for work in admission.announced_work()] == [0.8]
    admission.submitted(call, 240, 0.6)
    admission.submitted(call, 80, None)
    assert admission.tokens == 400
    admission.leave(call)
    assert admission.tokens == 400


def test_what_is_known_later_is_checked_and_counted_then():
    admission = Admission()
    small, large = enter(admission, 0), enter(admission, 0)
    announce(admission, small, 60, most=100)
    with pytest.raises(Overloaded, match=r"60 tokens wait.* add 50") as caught:
        announce(admission, large, 50, most=100)
    assert caught.value.expected_wait == 0.5
    admission.close()
    announce(admission, large, 40, most=100)
    assert (admission.tokens, admission.calls, admission.refused) == (100, 2, 1)
    admission.leave(large)
    assert (admission.tokens, admission.calls) == (60, 1)


def test_nobody_is_accepted_after_closing():
    admission = Admission()
    call = enter(admission, 1)
    admission.close()
    with pytest.raises(ClosedError, match="was closed"):
        enter(admission, 1, continues=True)
    admission.leave(call)
    admission.leave(call)
    assert (admission.tokens, admission.calls) == (0, 0)


def test_what_is_submitted_takes_the_place_of_what_was_announced():
    admission = Admission()
    call = enter(admission, 100)
    admission.submitted(call, 12, 0.1)
    assert admission.tokens == 102
    admission.submitted(call, 5, 2.0)
    assert admission.tokens == 17
    admission.leave(call)
    assert admission.tokens == 17, "what waits continues to wait"
    admission.submitted(call, 3, None)
    assert (admission.tokens, admission.calls) == (20, 0), "a request may be counted after its call left"


def test_calls_of_a_blocked_or_closed_loop_are_not_waited_for():
    admission = Admission()
    here, other, closed = asyncio.new_event_loop(), asyncio.new_event_loop(), asyncio.new_event_loop()
    calls = [enter(admission, 1, loop=loop) for loop in (None, here, here, other, closed)]
    closed.close()
    assert [admission.waited_for(loop) for loop in (None, here, other)] == [4, 2, 3]
    for call in calls:
        admission.leave(call)
    assert admission.waited_for(here) == 0
    here.close()
    other.close()
