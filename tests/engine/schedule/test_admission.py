"""What may wait, and who is inside: exact after every refusal, interrupt and end."""

import asyncio

import pytest

from crossrank.engine.schedule.admission import Admission, Ticket
from crossrank.errors import ClosedError, Overloaded


def enter(admission, tokens, *, rate=100.0, seconds=None, goes_on=False, loop=None):
    ticket = Ticket(loop)
    admission.enter(ticket, tokens, tokens_per_second=rate, queue_seconds=seconds, goes_on=goes_on)
    return ticket


def test_the_bound_is_in_tokens_or_in_seconds_of_work():
    fixed = Admission(100)
    first = enter(fixed, 90)
    with pytest.raises(Overloaded, match=r"90 tokens wait.* add 20; at most 100") as caught:
        enter(fixed, 20, seconds=1000.0)
    assert caught.value.retry_after == pytest.approx(0.1)
    second = enter(fixed, 20, goes_on=True)
    nothing = enter(fixed, 0)
    for ticket in (first, second, nothing):
        fixed.leave(ticket)
    assert (fixed.tokens, fixed.calls) == (0, 0)
    enter(fixed, 5000)

    by_time = Admission(None)
    enter(by_time, 300, seconds=4.0)
    with pytest.raises(Overloaded, match="at most 400"):
        enter(by_time, 200, seconds=4.0)
    enter(by_time, 200, rate=200.0, seconds=4.0)
    enter(by_time, 10_000)
    assert (fixed.refused, by_time.refused) == (1, 1)


def test_what_is_known_later_is_checked_and_counted_then():
    admission = Admission(100)
    small, large = enter(admission, 0), enter(admission, 0)
    admission.announce(small, 60, tokens_per_second=100.0, queue_seconds=None)
    with pytest.raises(Overloaded, match=r"60 tokens wait.* add 50"):
        admission.announce(large, 50, tokens_per_second=100.0, queue_seconds=None)
    admission.close()
    admission.announce(large, 40, tokens_per_second=100.0, queue_seconds=None)
    assert (admission.tokens, admission.calls, admission.refused) == (100, 2, 1)
    admission.leave(large)
    assert (admission.tokens, admission.calls) == (60, 1)


def test_a_closed_door_lets_nobody_in():
    admission = Admission(None)
    ticket = enter(admission, 1)
    admission.close()
    with pytest.raises(ClosedError, match="was closed"):
        enter(admission, 1, goes_on=True)
    admission.leave(ticket)
    admission.leave(ticket)
    assert (admission.tokens, admission.calls) == (0, 0)


def test_what_is_submitted_takes_the_place_of_what_was_announced():
    admission = Admission(None)
    ticket = enter(admission, 100)
    admission.submitted(ticket, 12, 10)
    assert admission.tokens == 102
    admission.submitted(ticket, 5, 200)
    assert admission.tokens == 17
    admission.leave(ticket)
    assert admission.tokens == 17, "what waits goes on to wait"
    admission.submitted(ticket, 3, None)
    assert (admission.tokens, admission.calls) == (20, 0), "a request may be counted after its call left"


def test_calls_of_a_blocked_or_closed_loop_are_not_waited_for():
    admission = Admission(None)
    here, there, closed = asyncio.new_event_loop(), asyncio.new_event_loop(), asyncio.new_event_loop()
    tickets = [enter(admission, 1, loop=loop) for loop in (None, here, here, there, closed)]
    closed.close()
    assert [admission.waited_for(loop) for loop in (None, here, there)] == [4, 2, 3]
    for ticket in tickets:
        admission.leave(ticket)
    assert admission.waited_for(here) == 0
    here.close()
    there.close()
