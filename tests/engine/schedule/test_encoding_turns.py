"""Turns to encode between threads: one that ends never waits, and nobody is forgotten because of that."""

import threading

from crossrank.engine.schedule.encoding_turns import EncodingTurns

WAIT = 10.0


def test_a_turn_that_ends_while_another_thread_is_inside_does_not_wait_and_the_next_call_still_starts():
    turns = EncodingTurns(encoders=1)
    inside, leave = threading.Event(), threading.Event()
    second_started = threading.Event()
    first = turns.new(lambda: None)
    first.ask(0.0, large=False)
    second = turns.new(second_started.set)
    second.ask(1.0, large=False)

    def stay(_place):
        inside.set()
        assert leave.wait(WAIT)

    third = turns.new(lambda: None)
    turns._order.ask, whole = (lambda *given, **options: (stay(given), whole(*given, **options))), turns._order.ask
    other = threading.Thread(target=third.ask, args=(2.0,), kwargs={"large": False})
    other.start()
    assert inside.wait(WAIT)
    ending = threading.Thread(target=first.end, daemon=True)
    ending.start()
    ending.join(WAIT)
    assert not ending.is_alive(), "ending a turn waited for the thread that is inside"
    assert not second_started.is_set()
    leave.set()
    other.join(WAIT)
    assert second_started.wait(WAIT)
