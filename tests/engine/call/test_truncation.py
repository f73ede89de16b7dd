"""Nothing is cut silently: `score` warns, `rank` says what."""

import warnings

import numpy as np
import pytest

from crossrank.errors import InvalidInputError, TruncationWarning

LONG = "the river heats cold water " * 20


def calls(engine, query, documents):
    return [
        lambda: engine.score(query, documents),
        lambda: engine.score_pairs([(query, document) for document in documents]),
        lambda: engine.score_many([query], [documents]),
    ]


@pytest.mark.parametrize(("query", "documents"), [("who", ["short", LONG]), (LONG, ["short"]), (LONG, [LONG])])
def test_every_way_to_score_warns_of_what_was_cut_and_points_at_its_caller(reranker, query, documents):
    for call in calls(reranker(), query, documents):
        with pytest.warns(TruncationWarning, match="longer than the model takes") as caught:
            call()
        assert [warning.filename for warning in caught] == [__file__]


def test_nothing_is_said_where_nothing_was_cut(reranker):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for call in calls(reranker(), "who", ["short", "", "the river"]):
            call()


def test_a_warning_made_an_error_is_raised_instead_of_the_scores(reranker):
    engine = reranker()
    with warnings.catch_warnings():
        warnings.simplefilter("error", TruncationWarning)
        for call in calls(engine, "who", [LONG]):
            with pytest.raises(TruncationWarning):
                call()
    assert engine.stats().queue_tokens == 0


def test_a_ranking_says_which_documents_were_cut_and_does_not_warn(reranker):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ranking = reranker().rank("who", ["short", LONG, "", LONG + "again"], top_k=3)
    assert ranking.truncated_documents == 2
    assert not ranking.query_truncated
    assert {item.index: item.truncated for item in ranking}.items() <= {0: False, 1: True, 2: False, 3: True}.items()
    assert len(ranking) == 3


def test_a_ranking_says_that_the_query_was_cut_and_info_to_what(reranker):
    engine = reranker()
    ranking = engine.rank(LONG, ["short"])
    assert ranking.query_truncated
    assert ranking.truncated_documents == 0
    info = engine.info()
    assert (info.max_length, info.max_query_tokens, info.cut_query_tokens) == (64, 60, 30)


def test_a_shorter_length_cuts_earlier_and_a_longer_one_is_refused(reranker):
    text = "? " * 20
    assert reranker().rank("?", [text]).truncated_documents == 0
    short = reranker(max_length=16)
    assert short.rank("?", [text]).truncated_documents == 1
    assert short.info().max_length == 16
    with pytest.raises(InvalidInputError, match=r"max_length=65: this model reads 64 tokens at most"):
        reranker(max_length=65)
    with pytest.raises(InvalidInputError, match=r"max_length=4: at least 5 expected"):
        reranker(max_length=4)


@pytest.mark.filterwarnings("ignore::crossrank.TruncationWarning")
def test_what_is_cut_off_does_not_count_and_what_is_kept_does(reranker):
    engine = reranker(max_length=16)
    kept = "? " * 12
    scores = engine.score("?", [kept + "! ! !", kept + "river", kept, "! " + kept])
    np.testing.assert_allclose(scores[:3], scores[0], atol=1e-5)
    assert abs(scores[3] - scores[0]) > 1e-4
