"""Turns to encode between threads: one that ends never waits, and nobody is forgotten because of that."""

import threading

from crossrank.engine.schedule.encoding_turns import EncodingTurns

WAIT = 10.0


def test_a_turn_that_ends_while_another_thread_is_inside_does_not_wait_and_the_next_call_still_starts():
    turns = EncodingTurns(encoders=1)
    inside, leave = threading.Event(), threading.Event()
    second_started = threading.Event()
    first, second, third = (turns.new() for _ in range(3))
    first.ask(0.0, lambda: None, large=False)
    second.ask(1.0, second_started.set, large=False)

    def stay(_place):
        inside.set()
        assert leave.wait(WAIT)

    turns._order.ask, whole = (lambda *given, **options: (stay(given), whole(*given, **options))), turns._order.ask
    other = threading.Thread(target=third.ask, args=(2.0, lambda: None), kwargs={"large": False})
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


def test_a_call_that_asks_again_before_the_end_of_its_last_turn_is_taken_out_gets_its_turn():
    turns = EncodingTurns(encoders=1)
    inside, leave, started = threading.Event(), threading.Event(), threading.Event()
    turn = turns.new()
    assert turn.begins_at_once(large=False)

    def stay():
        with turns._lock:
            inside.set()
            assert leave.wait(WAIT)

    other = threading.Thread(target=stay)
    other.start()
    assert inside.wait(WAIT)
    turn.end()  # cannot be taken out yet
    leave.set()
    other.join(WAIT)
    turn.ask(1.0, started.set, large=False)
    assert started.wait(WAIT)
    turn.end()
    assert (turns.waiting, turns._order._running) == (0, {})


def test_while_nobody_waits_a_call_encodes_without_asking_for_its_turn():
    turns = EncodingTurns(encoders=2)
    turns._order.ask = None
    turn = turns.new()
    for _ in range(3):
        assert turn.begins_at_once(large=False)
    turn.end()
    assert turns._order._running == {}
