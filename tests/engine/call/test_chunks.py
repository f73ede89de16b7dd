"""Candidates cut into chunks by predicted time."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from crossrank.engine.call.chunks import TimedChunks


def chunks(seconds, *, limit=None, workers=1, units=None, order=None, free=True, rows=None):
    seconds = np.asarray(seconds, dtype=np.float64)
    return TimedChunks(
        np.arange(len(seconds)) if order is None else np.asarray(order, dtype=np.int64),
        seconds,
        np.ones(len(seconds), dtype=np.int64) if units is None else np.asarray(units),
        np.ones(len(seconds), dtype=np.int64) if rows is None else np.asarray(rows),
        workers=workers,
        limit=limit,
        free_encoding=free,
    )


def take_all(given_chunks, left=None, factor=1.0):
    taken = []
    while (chunk := given_chunks.take(left, factor)) is not None:
        taken.append(chunk)
    return taken


@given(
    st.lists(st.floats(1e-5, 1.0), max_size=60),
    st.one_of(st.none(), st.floats(0.001, 5)),
    st.integers(1, 8),
    st.floats(0.1, 10),
    st.randoms(use_true_random=False),
)
def test_chunks_hold_each_candidate_once_in_the_order_of_promise(seconds, limit, workers, factor, random):
    order = list(range(len(seconds)))
    random.shuffle(order)
    taken = take_all(chunks(seconds, limit=limit, workers=workers, order=order), left=limit, factor=factor)
    assert [index for chunk in taken for index in chunk.indices.tolist()] == order
    for position, chunk in enumerate(taken):
        later = [index for other in taken[position + 1 :] for index in other.indices.tolist()]
        assert np.isclose(chunk.work_behind, sum(seconds[index] for index in later))


def test_under_a_limit_a_chunk_takes_an_eighth_of_it():
    taken = take_all(chunks([0.01] * 100, limit=0.8, workers=2), left=0.8)
    assert {len(chunk.indices) for chunk in taken[:-1]} == {20}
    slower = take_all(chunks([0.01] * 100, limit=0.8, workers=2), left=0.8, factor=4.0)
    assert {len(chunk.indices) for chunk in slower} == {5}


def test_a_chunk_has_work_for_every_worker():
    assert len(chunks([5.0] * 10, limit=0.1, workers=4).take(0.1, 1.0).indices) == 4


def test_without_a_limit_the_first_chunk_is_small_and_each_doubles_the_one_before():
    sizes = [len(chunk.indices) for chunk in take_all(chunks([0.01] * 1000))]
    assert sizes[:4] == [5, 10, 20, 40]
    assert max(sizes) == 80


def test_no_more_is_taken_than_can_be_encoded_in_the_time_left():
    many = chunks([1e-6] * 100, limit=1.0, units=[1000] * 100, free=False)
    first = many.take(0.0205, 1.0)
    assert len(first.indices) == 20
    many.encoded(first, 0.2)  # ten times as long as was assumed
    assert len(many.take(0.0205, 1.0).indices) == 2


def test_a_candidate_too_long_to_encode_is_passed_over():
    taken = take_all(chunks([1e-3] * 3, limit=1.0, units=[10, 10**8, 10], free=False), left=0.5)
    assert [chunk.indices.tolist() for chunk in taken] == [[0], [2]]


def test_a_candidate_of_several_rows_that_would_not_all_be_scored_is_passed_over():
    taken = take_all(chunks([0.1, 0.9, 0.1, 0.9, 0.1], limit=10.0, rows=[1, 9, 1, 9, 1]), left=0.5)
    assert [chunk.indices.tolist() for chunk in taken] == [[0], [2], [4]]
    # With two workers each takes half of the rows; a single row is the scheduler's to refuse.
    taken = take_all(chunks([0.9, 1.1, 0.9], limit=10.0, rows=[9, 9, 1], workers=2), left=0.5)
    assert [chunk.indices.tolist() for chunk in taken] == [[0], [2]]
    assert take_all(chunks([0.9, 0.9], limit=10.0, rows=[9, 9]), left=0.5) == []
    assert len(take_all(chunks([0.9, 0.9], rows=[9, 9]))) == 2


def test_slow_runs_observed_before_a_call_do_not_keep_all_of_it_from_being_tried():
    assert chunks([0.9, 0.2, 0.2], limit=10.0, rows=[9, 9, 9]).take(0.5, 100.0).indices.tolist() == [1]
    some = chunks([0.9, 0.2, 0.001], limit=10.0, rows=[9, 9, 9])
    assert some.take(0.5, 100.0).indices.tolist() == [2]
    assert some.take(0.5, 100.0) is None


def test_no_time_left_takes_nothing():
    assert chunks([0.1], limit=1.0).take(0.0, 1.0) is None
