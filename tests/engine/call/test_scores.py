"""Scores: each document gets its own, whatever else is in the call, in whatever order, in whatever batches."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from crossrank.engine.artifact_reranker import ArtifactReranker
from crossrank.errors import InvalidInputError

pytestmark = pytest.mark.filterwarnings("ignore::crossrank.TruncationWarning")
WHATEVER = settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])


@given(data=st.data())
@WHATEVER
def test_whatever_the_batching_each_document_gets_its_own_score(tiny_artifact, scored, data):
    indices = data.draw(st.lists(st.integers(0, len(scored.documents) - 1), max_size=70))
    budget = data.draw(st.one_of(st.integers(1, 600), st.none()))
    threads = data.draw(st.integers(1, 3))
    with ArtifactReranker(tiny_artifact, precision="fp32", threads=threads, max_batch_tokens=budget) as reranker:
        scores = reranker.score(scored.query, [scored.documents[index] for index in indices])
    assert scores.dtype == np.float32
    assert scores.shape == (len(indices),)
    np.testing.assert_allclose(scores, scored.logits[indices], atol=1e-5)


@given(data=st.data())
@WHATEVER
def test_an_int8_score_is_bitwise_the_same_in_any_company(tiny_artifact, scored, data):
    indices = data.draw(st.lists(st.integers(0, len(scored.documents) - 1), min_size=2, max_size=40))
    budget = data.draw(st.one_of(st.integers(1, 600), st.none()))
    threads = data.draw(st.integers(1, 4))
    options = {"precision": "int8", "threads": threads, "max_batch_tokens": budget}
    with ArtifactReranker(tiny_artifact, **options) as reranker:
        together = reranker.score(scored.query, [scored.documents[index] for index in indices])
        alone = [reranker.score(scored.query, [scored.documents[index]])[0] for index in indices]
    assert together.tobytes() == np.asarray(alone, dtype=np.float32).tobytes()


def test_an_int8_score_does_not_depend_on_the_number_of_threads(reranker, scored):
    scores = [
        reranker(precision="int8", threads=threads).score(scored.query, scored.documents).tobytes()
        for threads in (1, 2, 3, 4)
    ]
    assert len(set(scores)) == 1


def test_the_int8_graph_would_show_company_in_its_runs(tiny_artifact, tiny_graphs, scored):
    # Guards the tests above: they prove nothing of a graph whose scores no neighbour can move.
    import onnxruntime

    from crossrank.engine.text.encoding import PairEncoder

    encoder = PairEncoder.load(tiny_artifact / "tokenizer.json", max_length=64, pad_token_id=0)
    documents = scored.documents[5:10]
    pairs = encoder.pair(
        [encoder.encode_query(scored.query)], np.zeros(5, dtype=np.int64), encoder.encode_documents(documents)
    )
    session = onnxruntime.InferenceSession(str(tiny_graphs / "int8.onnx"), providers=["CPUExecutionProvider"])

    def run(indices):
        batch = encoder.assemble(pairs, np.asarray(indices), int(pairs.lengths[indices].max()))
        return session.run(
            None, {name: getattr(batch, name) for name in ("input_ids", "attention_mask", "token_type_ids")}
        )[0]

    together, alone = run([0, 1, 2, 3, 4]), np.concatenate([run([index]) for index in range(5)])
    assert np.abs(together - alone).max() > 1e-3


def test_no_documents_give_no_scores(reranker):
    engine = reranker()
    for scores in (engine.score("query", []), engine.score("query", iter(())), engine.score_pairs([])):
        assert scores.shape == (0,)
        assert scores.dtype == np.float32
    assert engine.score_many([], []) == []


def test_empty_texts_are_scored_not_refused(reranker):
    scores = reranker().score_pairs([("", ""), ("", "the river"), ("the river", ""), (" ", "\n")])
    assert np.isfinite(scores).all()
    assert len(np.unique(scores)) >= 3


def test_scores_do_not_share_memory_with_the_next_call(reranker, scored):
    engine = reranker()
    first = engine.score(scored.query, scored.documents[:4])
    kept = first.copy()
    engine.score(scored.query, scored.documents[4:8])
    assert first.tolist() == kept.tolist()
    first[:] = 0
    np.testing.assert_array_equal(engine.score(scored.query, scored.documents[:4]), kept)


def test_pairs_of_several_queries_get_the_scores_of_their_own_query(reranker, scored):
    engine = reranker(max_batch_tokens=200)
    queries = [scored.query, "who reads", "", scored.query, "who reads"] * 4
    documents = scored.documents[: len(queries)]
    alone = [engine.score(query, [document])[0] for query, document in zip(queries, documents, strict=True)]
    np.testing.assert_allclose(engine.score_pairs(zip(queries, documents, strict=True)), alone, atol=1e-5)
    assert not np.allclose(alone, engine.score("who reads", documents), atol=1e-2)


@given(data=st.data())
@WHATEVER
def test_score_many_gives_each_query_the_scores_of_its_documents(tiny_artifact, scored, data):
    counts = data.draw(st.lists(st.integers(0, 6), min_size=1, max_size=6))
    queries = [f"query {index % 3} of many" for index in range(len(counts))]
    lists = [scored.documents[index : index + count] for index, count in enumerate(counts)]
    with ArtifactReranker(tiny_artifact, precision="fp32", threads=2) as reranker:
        together = reranker.score_many(queries, lists)
        apart = [reranker.score(query, documents) for query, documents in zip(queries, lists, strict=True)]
    assert [len(scores) for scores in together] == counts
    for left, right in zip(together, apart, strict=True):
        assert left.dtype == np.float32
        np.testing.assert_allclose(left, right, atol=1e-5)


@pytest.mark.parametrize(
    ("queries", "lists", "message"),
    [
        (["a", "b"], [["x"]], "2 queries, 1 lists of documents"),
        ("ab", [["x"], ["y"]], "queries is a str: a list of strings expected"),
        (["a", None], [["x"], ["y"]], r"queries\[1\] is a NoneType"),
        (["a", "b"], [["x"], "yz"], r"documents_per_query\[1\] is a str"),
        (["a", "b"], [["x"], ["y", 5]], r"documents_per_query\[1\]\[1\] is int"),
        (["a"], None, "documents_per_query is a NoneType"),
        (["a"], "x", "documents_per_query is a str"),
        (["a"], {"a": ["x"]}, "documents_per_query is a dict: a list of lists of documents expected"),
    ],
)
def test_score_many_names_what_it_cannot_use(reranker, queries, lists, message):
    with pytest.raises(InvalidInputError, match=message):
        reranker().score_many(queries, lists)


@pytest.mark.parametrize("bad", [None, b"bytes", 5, {"body": "x"}], ids=repr)
def test_a_document_that_is_no_text_is_refused_by_its_position_and_the_engine_goes_on(reranker, scored, bad):
    engine = reranker()
    for call in (engine.score, engine.rank):
        with pytest.raises(InvalidInputError, match=r"documents\[3\]"):
            call(scored.query, [*scored.documents[:3], bad])
    with pytest.raises(InvalidInputError, match=r"pairs\[1\]"):
        engine.score_pairs([("q", "d"), ("q", bad)])
    np.testing.assert_allclose(engine.score(scored.query, scored.documents), scored.logits, atol=1e-5)


def test_mappings_are_scored_by_their_text_and_not_changed(reranker, scored):
    documents = [{"id": index, "text": text, "score": 9} for index, text in enumerate(scored.documents)]
    before = [dict(document) for document in documents]
    order = list(documents)
    scores = reranker().score(scored.query, documents)
    np.testing.assert_allclose(scores, scored.logits, atol=1e-5)
    assert documents == before
    assert all(now is then for now, then in zip(documents, order, strict=True))


def test_lone_surrogates_and_nul_are_scored_as_the_replacement_character_and_as_nothing(reranker, scored):
    engine = reranker()
    scores = engine.score(f"{scored.query}\x00", ["a\ud800b", "a\ufffdb", "cold\x00 water", "cold water"])
    assert scores[0] == scores[1]
    assert scores[2] == pytest.approx(scores[3], abs=1e-5)
    assert np.isfinite(engine.score("\udfff", ["\udfff"])).all()


def test_sigmoid_scores_are_the_probabilities_of_the_logits(reranker, scored):
    scores = reranker(activation="sigmoid").score(scored.query, scored.documents)
    np.testing.assert_allclose(scores, 1 / (1 + np.exp(-scored.logits)), atol=1e-5)


def test_each_distinct_query_is_encoded_once_a_call(reranker, scored, monkeypatch):
    from crossrank.engine.text.encoding import PairEncoder

    seen = []
    original = PairEncoder.encode_query
    monkeypatch.setattr(
        PairEncoder, "encode_query", lambda self, query, *more: seen.append(query) or original(self, query, *more)
    )
    engine = reranker()
    engine.score("one", scored.documents)
    assert seen == ["one"]
    engine.score_pairs([("two", "x"), ("three", "y"), ("two", "z")])
    assert sorted(seen[1:]) == ["three", "two"]
