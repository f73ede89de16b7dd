"""Rankings: best first, ties in input order, the caller's own objects."""

import numpy as np
import pytest

from crossrank.errors import InvalidInputError

pytestmark = pytest.mark.filterwarnings("error::crossrank.TruncationWarning")


@pytest.fixture
def documents(scored):
    """Documents that the model reads whole."""
    return [text for text in scored.documents if len(text) < 40]


def test_the_best_come_first_with_the_scores_that_score_gives(reranker, scored, documents):
    engine = reranker()
    scores = engine.score(scored.query, documents)
    ranking = engine.rank(scored.query, documents)
    assert [item.index for item in ranking] == np.argsort(-scores, kind="stable").tolist()
    assert [item.score for item in ranking] == pytest.approx([float(scores[item.index]) for item in ranking])
    assert [item.document for item in ranking] == [documents[item.index] for item in ranking]
    assert (ranking.scored, ranking.truncated_documents, ranking.query_truncated) == (len(documents), 0, False)
    assert all(type(item.score) is float and type(item.index) is int for item in ranking)


@pytest.mark.parametrize(("top_k", "given"), [(None, 5), (0, 0), (2, 2), (5, 5), (50, 5), (np.int32(3), 3)])
def test_top_k_bounds_the_ranking_but_not_the_scoring(reranker, scored, documents, top_k, given):
    engine = reranker()
    whole = engine.rank(scored.query, documents[:5])
    ranking = engine.rank(scored.query, documents[:5], top_k=top_k)
    assert [item.index for item in ranking] == [item.index for item in whole][:given]
    assert len(ranking) == given
    assert ranking.scored == 5


@pytest.mark.parametrize("top_k", [-1, True, 2.0, "2"])
def test_a_top_k_that_is_no_count_is_refused(reranker, top_k):
    with pytest.raises(InvalidInputError, match="top_k"):
        reranker().rank("query", ["a"], top_k=top_k)


def test_ties_keep_the_order_of_the_input(reranker, scored):
    ranking = reranker(precision="int8").rank(scored.query, ["cold water", "the river", "cold water", "cold water"])
    ties = [item.index for item in ranking if item.document == "cold water"]
    assert ties == [0, 2, 3]
    assert len({item.score for item in ranking}) == 2


def test_an_activation_that_saturates_loses_no_order(reranker, scored, documents, monkeypatch):
    # float32 has no number between sigmoid(20) and 1, so the order of good documents must come from the logits.
    from crossrank.engine.runtime.session import GraphSession

    original = GraphSession.run
    monkeypatch.setattr(GraphSession, "run", lambda self, arrays: original(self, arrays) + 40)
    engine = reranker(activation="sigmoid")
    expected = [item.index for item in reranker().rank(scored.query, documents)]
    ranking = engine.rank(scored.query, documents)
    assert {item.score for item in ranking} == {1.0}
    assert [item.index for item in ranking] == expected


def test_results_hold_the_callers_own_objects_unchanged(reranker, scored, documents):
    mappings = [{"text": text, "id": index} for index, text in enumerate(documents)]
    before = [dict(item) for item in mappings]
    ranking = reranker().rank(scored.query, mappings)
    assert all(item.document is mappings[item.index] for item in ranking)
    assert mappings == before


def test_a_generator_is_read_once_and_its_items_come_back(reranker, scored, documents):
    ranking = reranker().rank(scored.query, (text for text in documents), top_k=3)
    assert [item.document for item in ranking] == [documents[item.index] for item in ranking]


def test_documents_are_left_out_where_they_are_not_wanted(reranker, scored, documents):
    ranking = reranker().rank(scored.query, documents, return_documents=False)
    assert {item.document for item in ranking} == {None}
    assert sorted(item.index for item in ranking) == list(range(len(documents)))


def test_no_documents_give_an_empty_ranking(reranker):
    ranking = reranker().rank("query", [])
    assert (list(ranking), len(ranking), ranking.scored, ranking.truncated_documents) == ([], 0, 0, 0)
    assert not ranking.query_truncated


def test_a_ranking_is_a_sequence(reranker, scored, documents):
    ranking = reranker().rank(scored.query, documents)
    assert ranking[0] is ranking.documents[0]
    assert ranking[-1].score <= ranking[0].score
    assert ranking[:2] == ranking.documents[:2]
    assert ranking[1] in ranking
    with pytest.raises(IndexError):
        ranking[len(documents)]
