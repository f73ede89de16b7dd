"""Whose texts are encoded next, without threads or a clock: least work first, and an encoder stays free."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crossrank.engine.call.text_encoding import TextEncoding, at_once, document_pieces
from crossrank.engine.schedule.encoding_order import EncodingOrder
from crossrank.engine.schedule.encoding_pieces import PIECE_SECONDS, EncodingSpeed
from crossrank.engine.text.windows import Windows


def start_all(order):
    started = []
    while (number := order.whose_turn()) is not None:
        order.start(number)
        started.append(number)
    return started


def test_the_call_with_the_least_work_left_goes_first_and_of_equals_the_one_that_asked_first():
    order = EncodingOrder(2)
    for number, place in enumerate([5.0, 1.0, 3.0, 1.0, 0.5]):
        order.ask(number, place, large=False)
    assert start_all(order) == [4, 1]
    order.end(4)
    assert start_all(order) == [3]
    order.end(1)
    order.end(3)
    assert start_all(order) == [2, 0]


def test_of_texts_that_cannot_be_divided_one_is_encoded_at_a_time():
    order = EncodingOrder(2)
    order.ask(1, 1.0, large=True)
    order.ask(2, 2.0, large=True)
    assert start_all(order) == [1]
    order.ask(3, 9.0, large=False)
    assert start_all(order) == [3], "an encoder was free for it"
    order.end(3)
    assert start_all(order) == []
    order.end(1)
    assert start_all(order) == [2]


def test_a_call_begins_and_goes_on_at_once_only_while_nobody_waits():
    order = EncodingOrder(2)
    assert order.begins_at_once(1, large=False)
    assert order.begins_at_once(1, large=False)
    order.ask(2, 5.0, large=False)
    order.ask(3, 7.0, large=False)
    assert start_all(order) == [2]
    assert not order.begins_at_once(1, large=False)
    assert not order.begins_at_once(4, large=False)
    order.end(1)
    order.ask(1, 8.0, large=False)
    assert start_all(order) == [3], "less work is left of it than of the one that encoded before"


def test_a_call_begins_at_once_only_where_an_encoder_is_free_and_stays_free_beside_large_texts():
    order = EncodingOrder(2)
    assert order.begins_at_once(1, large=True)
    assert not order.begins_at_once(2, large=True), "of large texts one is encoded at a time"
    assert order.begins_at_once(2, large=False)
    assert not order.begins_at_once(2, large=True)
    assert not order.begins_at_once(3, large=False), "no encoder is free"
    order.end(2)
    assert order.begins_at_once(3, large=False)


@given(data=st.data(), encoders=st.integers(2, 4))
@settings(max_examples=60)
def test_nobody_is_lost_or_started_twice_and_an_encoder_stays_free(data, encoders):
    order, waiting, running, numbers = EncodingOrder(encoders), {}, {}, iter(range(1000))
    for _ in range(data.draw(st.integers(0, 40))):
        if (waiting or running) and data.draw(st.booleans()):
            gone = data.draw(st.sampled_from(sorted({**waiting, **running})))
            order.end(gone)
            waiting.pop(gone, None)
            running.pop(gone, None)
        else:
            number, large = next(numbers), data.draw(st.booleans())
            place = data.draw(st.floats(0, 9))
            order.ask(number, place, large=large)
            waiting[number] = (place, large)
        for number in start_all(order):
            place, large = waiting.pop(number)
            running[number] = (place, large)
            others = [other for other in waiting.items() if not other[1][1] or (large and other[1][1])]
            assert all((place, number) < (other, later) for later, (other, kind) in others if kind == large)
        assert len(running) <= encoders
        assert sum(large for _, large in running.values()) <= 1
        assert order.waiting == len(waiting)
        if len(running) < encoders:
            assert all(large for _, large in waiting.values())
    for number in list(running):
        order.end(number)
    rest = set(waiting)
    while started := start_all(order):
        rest -= set(started)
        for number in started:
            order.end(number)
    assert not rest


@given(characters=st.lists(st.integers(0, 60_000), max_size=60), factor=st.floats(0.05, 20))
def test_pieces_hold_every_text_once_and_only_a_single_text_takes_longer_than_a_piece(characters, factor):
    speed = EncodingSpeed()
    speed._factor = factor
    pieces = list(speed.cut(characters))
    assert [index for taken, _, _ in pieces for index in range(taken.start, taken.stop)] == list(range(len(characters)))
    for taken, piece, predicted in pieces:
        one = taken.stop - taken.start == 1
        assert one or predicted <= PIECE_SECONDS * (1 + 1e-9)
        assert one or not piece.large
        assert piece.seconds_left >= predicted - 1e-9
    left = [piece.seconds_left for _, piece, _ in pieces]
    assert left == sorted(left, reverse=True)


def test_the_speed_follows_what_pieces_took():
    speed = EncodingSpeed()
    for _ in range(200):
        speed.observe(speed.seconds(10, 5000), 0.02)
    assert speed.seconds(10, 5000) == pytest.approx(0.02, rel=0.05)


@given(data=st.data())
@settings(max_examples=25)
def test_piece_by_piece_gives_the_tokens_that_all_at_once_gives(default_encoder, data):
    texts = data.draw(st.lists(st.text(max_size=40), max_size=20))
    windows = data.draw(st.sampled_from([None, Windows(), Windows(tokens=5, max_windows_per_document=2)]))
    slow = EncodingSpeed()
    slow._factor = data.draw(st.sampled_from([1.0, 200.0, 2000.0]))
    if windows is None:
        whole = default_encoder.encode_documents(texts)
    else:
        whole = default_encoder.encode_whole_documents(texts, windows.tokens_read(default_encoder.text_tokens))
    parts = at_once(document_pieces(default_encoder, windows, texts, slow))
    for name in ("ids", "offsets", "full_lengths", "spans"):
        expected, actual = getattr(whole, name), getattr(parts, name)
        assert (expected is None) == (actual is None)
        if expected is not None:
            np.testing.assert_array_equal(actual, expected)
            assert actual.dtype == expected.dtype


def test_queries_are_encoded_before_documents_in_the_same_pieces(default_encoder):
    encoding = TextEncoding(default_encoder, None, ["who", "what is it"], ["a", "b c"])
    assert len(list(encoding.pieces(EncodingSpeed()))) == 1
    assert [query.ids.tolist() for query in encoding.queries] == [
        default_encoder.encode_query(text).ids.tolist() for text in ("who", "what is it")
    ]
    assert encoding.documents().full_lengths.tolist() == [1, 2]
