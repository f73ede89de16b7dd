"""Haystack: documents ranked in its own pipelines, which can be saved; a call's options count also where they are 0."""

import asyncio
import copy
import math

import pytest
from adapter_cases import MODEL, QUERY, TEXTS, ScoredByLength

pytest.importorskip("haystack")

from haystack import Document, Pipeline
from haystack.components.retrievers.in_memory import InMemoryBM25Retriever
from haystack.document_stores.in_memory import InMemoryDocumentStore

from crossrank import Cascade, InvalidInputError, Reranker, Stage
from crossrank.integrations import configured_reranker
from crossrank.integrations.haystack import CrossrankRanker

MODULE = "crossrank.integrations.haystack"


@pytest.fixture(scope="module")
def ranker():
    made = CrossrankRanker(model=MODEL, top_k=4)
    yield made
    made.close()


@pytest.fixture
def documents():
    return [Document(content=text, meta={"place": place}, score=0.5) for place, text in enumerate(TEXTS)]


@pytest.fixture(scope="module")
def scores(logits):
    return [(place, 1 / (1 + math.exp(-logit))) for place, logit in logits]


def ranked(answer):
    return [(document.meta["place"], document.score) for document in answer["documents"]]


def close(answer, expected):
    found = ranked(answer)
    assert [place for place, _ in found] == [place for place, _ in expected]
    assert [score for _, score in found] == pytest.approx([score for _, score in expected], abs=1e-6)


def test_the_best_documents_come_back_as_copies_with_their_scores(ranker, documents, scores):
    before = copy.deepcopy(documents)
    answer = ranker.run(query=QUERY, documents=documents)
    close(answer, scores[:4])
    assert documents == before
    for document in answer["documents"]:
        assert document.id == documents[document.meta["place"]].id
        assert type(document.score) is float


@pytest.mark.parametrize("wrong", [0, -1])
def test_a_limit_that_was_assigned_is_checked_before_anything_is_loaded(documents, wrong):
    made = CrossrankRanker(model="no-such-model")
    made.top_k = wrong
    with pytest.raises(InvalidInputError, match=f"top_k={wrong}|top_k is {wrong}"):
        made.run(query=QUERY, documents=documents)


def test_asynchronous_calls_give_the_same(ranker, documents, scores):
    async def main():
        return await asyncio.gather(*(ranker.run_async(query=QUERY, documents=documents) for _ in range(5)))

    for answer in asyncio.run(main()):
        close(answer, scores[:4])


def test_options_of_a_call_count_also_where_they_are_false_or_zero(documents, logits, scores):
    ranker = CrossrankRanker(model=MODEL, top_k=1, scale_score=True, score_threshold=0.999999)
    assert ranker.run(query=QUERY, documents=documents)["documents"] == []
    close(ranker.run(query=QUERY, documents=documents, score_threshold=0.0), scores[:1])
    close(ranker.run(query=QUERY, documents=documents, score_threshold=0, top_k=6), scores)
    above = [(place, logit) for place, logit in logits if logit >= 0]
    assert 0 < len(above) < len(TEXTS)
    found = ranker.run(query=QUERY, documents=documents, score_threshold=0, top_k=6, scale_score=False)
    assert ranked(found) == above
    ranker.close()


@pytest.mark.parametrize("top_k", [0, -1, 1.5, True])
def test_a_number_of_documents_that_is_none_is_refused(ranker, documents, top_k):
    with pytest.raises(InvalidInputError, match="top_k"):
        CrossrankRanker(top_k=top_k)
    with pytest.raises(ValueError, match="top_k"):
        ranker.run(query=QUERY, documents=documents, top_k=top_k)


def test_of_documents_with_one_id_the_one_with_the_best_score_is_ranked(ranker, documents):
    twins = [
        Document(id="a", content=TEXTS[0], meta={"place": 0}, score=None),
        Document(id="b", content=TEXTS[1], meta={"place": 1}, score=0.1),
        Document(id="a", content=TEXTS[3], meta={"place": 3}, score=-5.0),
        Document(id="b", content=TEXTS[2], meta={"place": 2}, score=0.1),
    ]
    assert {place for place, _ in ranked(ranker.run(query=QUERY, documents=twins))} == {3, 1}


def test_fields_of_meta_are_read_before_the_content(documents):
    ranker = CrossrankRanker(
        model=MODEL, meta_fields_to_embed=["title", "none", "missing"], embedding_separator=" | ", scale_score=False
    )
    documents = [
        Document(
            content=document.content if place else None,
            meta={"place": place, "title": f"About vaccines, part {place}", "none": None},
        )
        for place, document in enumerate(documents)
    ]
    texts = [f"{document.meta['title']} | {document.content or ''}" for document in documents]
    with Reranker(MODEL, activation="identity") as reranker:
        expected = [(item.index, item.score) for item in reranker.rank(QUERY, texts)]
    assert ranked(ranker.run(query=QUERY, documents=documents)) == expected
    ranker.close()


def test_a_pipeline_reranks_with_it_and_can_be_saved(documents, scores):
    store = InMemoryDocumentStore()
    store.write_documents(documents)
    pipeline = Pipeline()
    pipeline.add_component("retriever", InMemoryBM25Retriever(store, top_k=5))
    pipeline.add_component("ranker", CrossrankRanker(model=MODEL, top_k=2, threads=1))
    pipeline.connect("retriever.documents", "ranker.documents")
    asked = {"retriever": {"query": QUERY}, "ranker": {"query": QUERY}}
    close(pipeline.run(asked)["ranker"], scores[:2])
    close(asyncio.run(pipeline.run_async(asked))["ranker"], scores[:2])

    written = pipeline.dumps()
    loaded = Pipeline.loads(written, allowed_modules=[MODULE])
    assert loaded.dumps() == written
    found = loaded.get_component("ranker").run(query=QUERY, documents=documents)
    close(found, scores[:2])
    loaded.close()
    pipeline.close()


def test_every_option_survives_being_written():
    options = {
        "model": "somewhere",
        "top_k": 7,
        "scale_score": False,
        "score_threshold": 0.0,
        "meta_fields_to_embed": ["title"],
        "embedding_separator": " ",
        "provider": "cpu",
        "precision": "fp32",
        "threads": 2,
        "max_length": 128,
        "long_documents": "windows",
        "revision": "main",
        "file": "onnx/model.onnx",
        "trust_remote_code": True,
    }
    written = CrossrankRanker(**options).to_dict()
    assert written == {"type": f"{MODULE}.CrossrankRanker", "init_parameters": options}
    assert CrossrankRanker.from_dict(written).to_dict() == written
    assert CrossrankRanker.from_dict(CrossrankRanker().to_dict()).to_dict() == CrossrankRanker().to_dict()


def test_a_loaded_reranker_is_used_but_cannot_be_written(documents, logits, scores):
    with Reranker(MODEL, activation="identity") as reranker:
        ranker = CrossrankRanker(reranker=reranker)
        close(ranker.run(query=QUERY, documents=documents), scores)
        assert ranked(ranker.run(query=QUERY, documents=documents, scale_score=False)) == logits
        with pytest.raises(InvalidInputError, match="cannot be written as data"):
            ranker.to_dict()
        ranker.close()
        assert not reranker.health().closed


def test_scores_between_0_and_1_are_not_scaled_again_and_have_no_logits(documents, scores):
    with Reranker(MODEL, activation="sigmoid") as reranker:
        ranker = CrossrankRanker(reranker=reranker)
        close(ranker.run(query=QUERY, documents=documents), scores)
        with pytest.raises(InvalidInputError, match="between 0 and 1 already"):
            ranker.run(query=QUERY, documents=documents, scale_score=False)


def test_what_is_refused_is_refused_before_anything_is_scored(documents):
    with Reranker(MODEL, activation="sigmoid") as reranker, Reranker(MODEL, activation="identity") as other:
        cascade = Cascade([Stage(reranker, keep=2), Stage(other)])
        for given, options, message in (
            (reranker, {"top_k": 0}, "top_k=0"),
            (reranker, {"scale_score": False}, "between 0 and 1 already"),
            (reranker, {"score_threshold": math.nan}, "score_threshold=nan"),
            (reranker, {"score_threshold": "0.5"}, "score_threshold='0.5'"),
            (reranker, {"score_threshold": True}, "score_threshold=True"),
            (cascade, {}, "mixes activations"),
        ):
            ranker = CrossrankRanker(reranker=given)
            with pytest.raises(InvalidInputError, match=message):
                ranker.run(query=QUERY, documents=documents, **options)
            with pytest.raises(InvalidInputError, match=message):
                asyncio.run(ranker.run_async(query=QUERY, documents=documents, **options))
            assert (reranker.stats().runs, other.stats().runs) == (0, 0), message


def test_a_component_that_is_closed_while_it_ranks_does_not_load_its_model_again(documents, scores, monkeypatch):
    loaded = []

    class ClosedMeanwhile(Reranker):
        def __init__(self, **options):
            loaded.append(options)
            super().__init__(**options)

        def rank(self, *arguments, **options):
            ranking = super().rank(*arguments, **options)
            ranker.close()
            return ranking

    monkeypatch.setattr(configured_reranker, "Reranker", ClosedMeanwhile)
    ranker = CrossrankRanker(model=MODEL)
    close(ranker.run(query=QUERY, documents=documents), scores)
    assert len(loaded) == 1


def test_a_document_without_a_score_comes_last_and_passes_no_threshold(documents):
    documents[0] = Document(content="x", meta={"place": 0})
    ranker = CrossrankRanker(reranker=ScoredByLength(), scale_score=False)
    assert ranked(ranker.run(query=QUERY, documents=documents))[-1] == (0, None)
    found = ranked(ranker.run(query=QUERY, documents=documents, score_threshold=0.0))
    assert len(found) == len(documents) - 1
    assert ranked(ranker.run(query=QUERY, documents=documents, scale_score=True))[-1] == (0, None)


def test_warming_up_twice_loads_once_and_no_documents_load_nothing(documents, scores):
    ranker = CrossrankRanker(model=MODEL)
    ranker.warm_up()
    first = ranker._configured.ready()
    asyncio.run(ranker.warm_up_async())
    assert ranker._configured.ready() is first
    ranker.close()
    assert first.health().closed
    close(ranker.run(query=QUERY, documents=documents), scores)
    ranker.close()
    nothing = CrossrankRanker(model="no-such-model")
    assert nothing.run(query=QUERY, documents=[]) == {"documents": []}
    assert asyncio.run(nothing.run_async(query=QUERY, documents=[])) == {"documents": []}


@pytest.mark.parametrize(
    "options", [{"precision": "int4"}, {"threads": 0}, {"model": ""}, {"score_threshold": math.nan}], ids=str
)
def test_options_that_mean_nothing_are_refused_at_once(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        CrossrankRanker(**options)
