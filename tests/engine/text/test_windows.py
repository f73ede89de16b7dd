"""Long documents read window by window: nothing left out, spans that lead back to the text, scores as of the parts."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from pieces import encode_unknown
from tiny_checkpoints import FAMILIES, make_texts

from crossrank.engine.call.candidates import CandidateFinder
from crossrank.engine.text.encoding import PairEncoder
from crossrank.engine.text.windows import PASSAGE_TOKENS, TOP_WINDOWS, Windows, aggregate, as_windows, cut
from crossrank.errors import InvalidInputError, TruncationWarning

QUERY = "cold water"
LONG = " ".join(make_texts(20, seed=3))
SIZES = st.integers(1, 40)


@st.composite
def windows(draw):
    tokens = draw(st.none() | SIZES)
    stride = draw(st.none() | SIZES.map(lambda size: min(size, tokens or size)))
    most = draw(st.none() | st.integers(1, 6))
    return Windows(tokens=tokens, stride=stride, max_windows_per_document=most)


def numbers(*values):
    return np.asarray(values, dtype=np.int64)


@given(lengths=st.lists(st.integers(0, 300), min_size=1, max_size=8), room=SIZES, how=windows())
@example(lengths=[0, 1, 40, 41], room=40, how=Windows(max_windows_per_document=None))
@example(lengths=[300], room=3, how=Windows(tokens=30, stride=30, max_windows_per_document=None))
@settings(max_examples=300)
def test_windows_cover_every_token_unless_their_number_is_bounded(lengths, room, how):
    cuts = cut(numbers(*lengths), np.full(len(lengths), room), how)
    assert cuts.first[0] == 0
    assert cuts.first[-1] == len(cuts.starts) == len(cuts.sizes)
    for index, length in enumerate(lengths):
        own = slice(cuts.first[index], cuts.first[index + 1])
        starts, sizes = cuts.starts[own], cuts.sizes[own]
        assert 1 <= len(starts) <= (how.max_windows_per_document or len(starts))
        assert (sizes == min(length, room, how.tokens or room)).all()
        assert (np.diff(starts) > 0).all()
        read = {token for start, size in zip(starts, sizes, strict=True) for token in range(start, start + size)}
        assert read == set(range(starts[-1] + sizes[-1])), "there is a gap, or the first token is missing"
        assert cuts.bounded[index] == (len(read) < length)
        if cuts.bounded[index]:
            assert len(starts) == how.max_windows_per_document
        else:
            assert starts[-1] + sizes[-1] == length


@given(length=st.integers(0, 300), room=SIZES, shorter=SIZES, how=windows(), first=st.booleans())
@settings(max_examples=300)
def test_no_window_reads_further_than_the_tokens_that_are_encoded(length, room, shorter, how, first):
    how = replace(how, aggregation="first") if first else how
    read = how.tokens_read(room)
    for query_room in (room, min(room, shorter)):
        whole = cut(numbers(length), numbers(query_room), how)
        # Of a longer document it is only known that it is longer.
        known = cut(numbers(length if read is None else min(length, read + 1)), numbers(query_room), how)
        assert read is None or (whole.starts + whole.sizes).max() <= read
        for one, other in zip(vars(whole).values(), vars(known).values(), strict=True):
            assert one.tolist() == other.tolist()


def test_the_stride_is_three_quarters_unless_given_and_never_more_than_a_window():
    def starts(how, length=20, room=8):
        return cut(numbers(length), numbers(room), how).starts.tolist()

    assert starts(Windows()) == [0, 6, 12]
    assert starts(Windows(stride=4)) == [0, 4, 8, 12]
    assert starts(Windows(tokens=4, stride=4)) == [0, 4, 8, 12, 16]
    assert starts(Windows(tokens=16, stride=16), room=10) == [0, 10]
    assert starts(Windows(tokens=4, stride=3), length=12) == [0, 3, 6, 8]


def test_without_a_size_what_fits_is_one_window_and_what_does_not_is_read_in_passages():
    cuts = cut(numbers(250, 300, 301), numbers(300, 300, 300), Windows())
    assert cuts.counts.tolist() == [1, 1, 2]
    assert cuts.sizes.tolist() == [250, 300, PASSAGE_TOKENS, PASSAGE_TOKENS]
    assert cuts.starts.tolist() == [0, 0, 0, 301 - PASSAGE_TOKENS]
    first = cut(numbers(250, 301), numbers(300, 300), Windows(aggregation="first"))
    assert (first.sizes.tolist(), first.bounded.tolist()) == ([250, 300], [False, True])
    given_size = cut(numbers(250), numbers(300), Windows(tokens=100, stride=100))
    assert given_size.starts.tolist() == [0, 100, 150]


@pytest.mark.parametrize("family", FAMILIES)
@given(text=st.text(max_size=200) | st.lists(st.sampled_from(make_texts(6, seed=2)), max_size=5).map(" ".join))
@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_every_row_holds_the_documents_tokens_in_order_and_spans_lead_back_to_the_text(tiny_checkpoint, family, text):
    path = tiny_checkpoint(family) / "tokenizer.json"
    encoder = PairEncoder.load(path, max_length=20, pad_token_id=0)
    how = Windows(max_windows_per_document=None)
    finder = CandidateFinder(encoder, encoder_key="", graph="", windows=how, cache=None)
    request = encode_unknown(finder.of_texts([QUERY], numbers(0), [text]))
    whole = PairEncoder.load(path, max_length=10_000, pad_token_id=0).encode_documents([text]).ids.tolist()
    read: dict[int, int] = {}
    template = encoder.template
    document = slice(
        len(template.prefix) + len(request.rows.queries[0].ids) + len(template.middle), -len(template.suffix)
    )
    for row, (start, size) in enumerate(zip(request.cuts.starts, request.cuts.sizes, strict=True)):
        length = int(request.rows.lengths[row])
        assert length <= 20
        arrays = encoder.assemble(request.rows, numbers(row), length)
        ids = arrays.input_ids[0, document].tolist()
        assert len(ids) == size
        read |= dict(enumerate(ids, start=int(start)))
        # The window that a row would win with, as it is reported.
        logits = np.zeros(len(request.rows), dtype=np.float32)
        logits[row] = 1
        (window,) = request.resolve(logits, np.ones(len(logits), dtype=np.bool_), {}).windows
        assert (window.index, window.count) == (row, len(request.rows))
        spans = request.rows.documents.spans[start : start + size]
        assert 0 <= window.start <= window.end <= len(text)
        assert all(window.start <= first and last <= window.end for first, last in spans.tolist())
    assert [read[index] for index in range(len(whole))] == whole
    assert not request.cuts.bounded.any()


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_a_window_scores_as_the_passage_it_names(reranker, precision):
    # Windows of whole words, so that the passage alone has the tokens it has within the document.
    documents = ["? " * 200, " ".join("?!.,;"[(index * index) % 5] for index in range(150)), "river"]
    how = Windows(tokens=40, stride=20, max_windows_per_document=None)
    engine = reranker(precision=precision, long_documents=how)
    ranking = engine.rank(QUERY, documents)
    assert {item.index: item.window.count for item in ranking} == {0: 9, 1: 7, 2: 1}
    plain = reranker(precision=precision)
    for item in ranking:
        passage = documents[item.index][item.window.start : item.window.end]
        assert plain.score(QUERY, [passage])[0] == pytest.approx(item.score, abs=1e-5)
    assert (ranking.truncated_documents, ranking.query_truncated) == (0, False)


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_a_document_that_fits_scores_exactly_as_without_windows(reranker, scored, precision):
    documents = [text for text in scored.documents if len(text) < 40]
    plain = reranker(precision=precision).rank(scored.query, documents)
    windowed = reranker(precision=precision, long_documents="windows").rank(scored.query, documents)
    assert [(item.index, item.score) for item in windowed] == [(item.index, item.score) for item in plain]
    assert {item.window.count for item in windowed} == {1}
    assert {item.window for item in plain} == {None}


def test_every_way_to_score_reads_windows(reranker, scored):
    engine = reranker(long_documents=Windows(tokens=16))
    scores = engine.score(scored.query, scored.documents)
    assert np.abs(scores - scored.logits).max() > 1e-3
    pairs = [(scored.query, document) for document in scored.documents]
    ranking = engine.rank(scored.query, engine.prepare(scored.documents))
    assert [item.index for item in ranking] == np.argsort(-scores, kind="stable").tolist()
    for other in (
        engine.score_pairs(pairs),
        engine.score_many([scored.query], [scored.documents])[0],
        engine.score(scored.query, engine.prepare(scored.documents)),
        [item.score for item in sorted(ranking, key=lambda item: item.index)],
    ):
        np.testing.assert_allclose(other, scores, atol=1e-5)


def test_what_the_bound_leaves_unread_is_reported(reranker):
    engine = reranker(long_documents=Windows(tokens=20, stride=20, max_windows_per_document=2))
    ranking = engine.rank("?", ["! " * 40, "! " * 41, "! "])
    assert {item.index: (item.truncated, item.window.count) for item in ranking} == {
        0: (False, 2),
        1: (True, 2),
        2: (False, 1),
    }
    assert ranking.truncated_documents == 1
    with pytest.warns(TruncationWarning, match="were cut"):
        engine.score("?", ["! " * 41])


def test_a_long_query_leaves_smaller_windows_and_one_that_leaves_no_room_is_cut_and_reported(reranker):
    engine = reranker(long_documents=Windows(max_windows_per_document=None))
    for words, cut_query, room in ((10, False, 51), (50, False, 11), (70, True, 31)):
        ranking = engine.rank("? " * words, ["! " * 60])
        assert ranking.query_truncated == cut_query
        stride = room - room // 4
        assert ranking[0].window.count == 1 + -(-(60 - room) // stride)


AGGREGATES = {
    "max": [5, 3],
    "first": [1, 3],
    "mean": [2.2, 3],
    "top-mean": [(5 + 4 + 1) / TOP_WINDOWS, 3],
}


@pytest.mark.parametrize("aggregation", AGGREGATES)
def test_aggregation(aggregation):
    cuts = cut(numbers(50, 3), numbers(10, 10), Windows(stride=10))
    logits = np.asarray([1, 5, 0, 4, 1, 3], dtype=np.float32)
    scores, best = aggregate(logits, cuts, aggregation)
    np.testing.assert_allclose(scores, AGGREGATES[aggregation], rtol=1e-6)
    assert scores.dtype == np.float32
    assert best.tolist() == [1, 0]


def test_first_scores_one_window_and_says_what_it_did_not_read(reranker, scored):
    plain, engine = reranker(), reranker(long_documents=Windows(aggregation="first"))
    expected, first = plain.rank(scored.query, scored.documents), engine.rank(scored.query, scored.documents)
    assert [item.index for item in first] == [item.index for item in expected]
    assert [item.truncated for item in first] == [item.truncated for item in expected]
    assert {item.window.count for item in first} == {1}
    assert engine.prepare([LONG]).encoded.offsets.tolist() == [0, 61]


def test_a_megabyte_is_read_in_as_many_windows_as_allowed(reranker):
    text = (LONG + " ") * (1_000_000 // len(LONG) + 1)
    engine = reranker(long_documents=Windows(max_windows_per_document=5))
    ranking = engine.rank(QUERY, [text, "short"])
    long = next(item for item in ranking if item.index == 0)
    assert long.truncated
    assert long.window.count == 5
    assert 0 <= long.window.start < long.window.end < 3000


def test_prepared_documents_are_bound_to_their_windows(reranker):
    prepared = reranker(long_documents="windows").prepare([LONG])
    assert len(reranker(long_documents=Windows()).score(QUERY, prepared)) == 1
    for other in (reranker(), reranker(long_documents=Windows(tokens=20))):
        with pytest.raises(InvalidInputError, match="other windows"):
            other.score(QUERY, prepared)


@pytest.mark.parametrize(
    "options",
    [
        {"tokens": 0},
        {"stride": -1},
        {"max_windows_per_document": True},
        {"tokens": 2.5},
        {"tokens": 10, "stride": 11},
        {"aggregation": "median"},
    ],
)
def test_windows_that_make_no_sense_are_refused(options):
    with pytest.raises(InvalidInputError, match="expected"):
        Windows(**options)


def test_other_ways_to_read_long_documents_are_refused(reranker):
    assert as_windows("truncate") is None
    assert as_windows("windows") == Windows()
    with pytest.raises(InvalidInputError, match="long_documents='skip'"):
        reranker(long_documents="skip")
    assert reranker(long_documents="windows").info().long_documents == "windows"
