"""Documents encoded once and scored against many queries."""

import numpy as np
import pytest
from tiny_artifacts import copy_artifact

from crossrank.engine.text.encoding import PairEncoder
from crossrank.errors import InvalidInputError

pytestmark = pytest.mark.filterwarnings("ignore::crossrank.TruncationWarning")


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_prepared_documents_score_and_rank_as_the_documents_themselves(reranker, scored, precision):
    engine = reranker(precision=precision)
    prepared = engine.prepare(scored.documents)
    assert len(prepared) == len(scored.documents)
    for query in (scored.query, "", "the river " * 40):
        assert engine.score(query, prepared).tobytes() == engine.score(query, scored.documents).tobytes()
        assert engine.rank(query, prepared, top_k=5) == engine.rank(query, scored.documents, top_k=5)


def test_they_are_not_encoded_again(reranker, scored, monkeypatch):
    engine = reranker()
    prepared = engine.prepare(scored.documents)
    monkeypatch.setattr(PairEncoder, "encode_documents", lambda *_: pytest.fail("encoded again"))
    np.testing.assert_allclose(engine.score(scored.query, prepared), scored.logits, atol=1e-5)
    assert engine.prepare(prepared) is prepared


def test_results_hold_the_callers_own_objects(reranker):
    documents = [{"text": "the river", "id": 1}, {"text": "cold water", "id": 2}]
    engine = reranker()
    ranking = engine.rank("who", engine.prepare(iter(documents)))
    assert all(item.document is documents[item.index] for item in ranking)


def test_a_list_that_changes_after_it_was_prepared_changes_nothing(reranker):
    documents = ["the river", "cold water"]
    engine = reranker()
    prepared = engine.prepare(documents)
    before = engine.score("who", prepared)
    documents.append("again")
    assert engine.score("who", prepared).tolist() == before.tolist()


def test_none_prepared_give_an_empty_result(reranker):
    engine = reranker()
    prepared = engine.prepare([])
    assert len(engine.score("who", prepared)) == len(engine.rank("who", prepared)) == 0


def test_another_reranker_of_the_same_tokenizer_and_length_takes_them_and_no_other(reranker, tiny_artifact, tmp_path):
    prepared = reranker().prepare(["the river", "cold water"])
    assert len(reranker(precision="int8").score("who", prepared)) == 2
    assert len(reranker(copy_artifact(tiny_artifact, tmp_path / "same")).score("who", prepared)) == 2
    with pytest.raises(InvalidInputError, match="another tokenizer, max_length or template"):
        reranker(max_length=32).score("who", prepared)
    with pytest.raises(InvalidInputError, match="another tokenizer, max_length or template"):
        reranker(copy_artifact(tiny_artifact, tmp_path / "other", max_length=60)).rank("who", prepared)


def test_what_cannot_be_prepared_is_refused_by_its_position(reranker):
    with pytest.raises(InvalidInputError, match=r"documents\[1\] is None"):
        reranker().prepare(["a", None])
    with pytest.raises(InvalidInputError, match="documents is a str"):
        reranker().prepare("a")
