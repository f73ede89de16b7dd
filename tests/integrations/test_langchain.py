"""LangChain: documents ranked and copied, pairs scored, in its own retrievers and its own reranker."""

import asyncio
import copy
import pickle

import pytest
from adapter_cases import MODEL, QUERY, TEXTS, ScoredByLength

pytest.importorskip("langchain_core")

from langchain_core.cross_encoders import BaseCrossEncoder
from langchain_core.documents import BaseDocumentCompressor, Document
from langchain_core.retrievers import BaseRetriever

from crossrank import Cascade, InvalidInputError, Reranker, Stage
from crossrank.integrations.langchain import CrossrankCrossEncoder, CrossrankRerank


class Everything(BaseRetriever):
    """Retrieves all documents, whatever is asked."""

    documents: list[Document]

    def _get_relevant_documents(self, query, *, run_manager):
        return self.documents


class Dated(Document):
    """A document with a field more."""

    year: int = 2026


@pytest.fixture(scope="module")
def compressor():
    made = CrossrankRerank(model=MODEL, top_n=3)
    yield made
    made.close()


@pytest.fixture
def documents():
    return [
        Dated(page_content=text, metadata={"place": place, "nested": [place]}, id=f"id-{place}", year=2000 + place)
        for place, text in enumerate(TEXTS)
    ]


def ranked(documents):
    return [(document.metadata["place"], document.metadata["relevance_score"]) for document in documents]


def test_the_best_documents_come_back_as_copies_with_their_scores(compressor, documents, logits):
    before = copy.deepcopy(documents)
    assert isinstance(compressor, BaseDocumentCompressor)
    compressed = compressor.compress_documents(documents, QUERY)
    assert ranked(compressed) == logits[:3]
    assert documents == before
    for document in compressed:
        original = documents[document.metadata["place"]]
        assert document is not original
        assert document.metadata is not original.metadata
        assert type(document.metadata["relevance_score"]) is float
        assert (type(document), document.id, document.year) == (Dated, original.id, original.year)
        assert document.page_content == original.page_content


def test_documents_from_a_generator_are_ranked_too(compressor, documents, logits):
    assert ranked(compressor.compress_documents((document for document in documents), QUERY)) == logits[:3]
    found = compressor.acompress_documents((document for document in documents), QUERY)
    assert ranked(asyncio.run(found)) == logits[:3]


@pytest.mark.parametrize("wrong", [0, -1])
def test_a_limit_is_checked_when_it_is_assigned(documents, wrong):
    made = CrossrankRerank(reranker=ScoredByLength(), top_n=2)
    with pytest.raises(ValueError, match="top_n"):
        made.top_n = wrong
    assert made.top_n == 2
    made.top_n = 1
    assert len(made.compress_documents(documents, QUERY)) == 1


@pytest.mark.parametrize("adapter", [CrossrankRerank, CrossrankCrossEncoder])
def test_an_option_is_checked_when_it_is_assigned_and_stays_what_it_was(adapter):
    made = adapter(model=MODEL)
    with pytest.raises(ValueError, match="threads=0"):
        made.threads = 0
    assert (made.threads, made.model_fields_set) == (None, {"model"})
    made.threads = 1
    assert made.ready().info().threads == 1
    made.close()


def test_asynchronous_calls_give_the_same(compressor, documents, logits):
    async def main():
        return await asyncio.gather(*(compressor.acompress_documents(documents, QUERY) for _ in range(5)))

    assert [ranked(compressed) for compressed in asyncio.run(main())] == [logits[:3]] * 5


def test_no_limit_keeps_all_and_no_documents_load_no_model(documents, logits):
    everything = CrossrankRerank(model=MODEL, top_n=None)
    assert ranked(everything.compress_documents(documents, QUERY)) == logits
    everything.close()
    nothing = CrossrankRerank(model="no-such-model")
    assert nothing.compress_documents([], QUERY) == []
    assert asyncio.run(nothing.acompress_documents([], QUERY)) == []


def test_a_document_without_a_score_comes_last_and_says_so(documents):
    documents[0] = documents[0].model_copy(update={"page_content": "x"})
    compressed = CrossrankRerank(reranker=ScoredByLength(), top_n=None).compress_documents(documents, QUERY)
    assert ranked(compressed)[-1] == (0, None)


def test_it_travels_as_its_configuration(compressor, documents, logits):
    for arrived in (
        pickle.loads(pickle.dumps(compressor)),
        CrossrankRerank.model_validate_json(compressor.model_dump_json()),
    ):
        assert arrived == compressor
        assert ranked(arrived.compress_documents(documents, QUERY)) == logits[:3]
        arrived.close()


@pytest.mark.parametrize("top_n", [0, -1, "many"])
def test_a_number_of_documents_that_is_none_is_refused(top_n):
    with pytest.raises(ValueError, match="top_n"):
        CrossrankRerank(top_n=top_n)


def test_pairs_are_scored_in_their_order():
    encoder = CrossrankCrossEncoder(model=MODEL)
    assert isinstance(encoder, BaseCrossEncoder)
    pairs = [(QUERY, text) for text in TEXTS] + [("what do bees make?", TEXTS[2])]
    scores = encoder.score(pairs)
    with Reranker(MODEL) as reranker:
        assert scores == reranker.score_pairs(pairs).tolist()
    assert all(type(score) is float for score in scores)
    assert encoder.score([]) == []
    encoder.close()


def test_a_cascade_has_no_scores_for_pairs(documents):
    with Cascade([Stage(MODEL, keep=3, max_length=32), Stage(MODEL)]) as cascade:
        compressed = CrossrankRerank(reranker=cascade, top_n=2).compress_documents(documents, QUERY)
        assert [place for place, _ in ranked(compressed)] == [
            item.index for item in cascade.rank(QUERY, TEXTS, top_k=2)
        ]
        with pytest.raises(InvalidInputError, match="has no scores for pairs"):
            CrossrankCrossEncoder(reranker=cascade).score([(QUERY, TEXTS[0])])


def test_langchains_own_retriever_reranks_with_it(compressor, documents, logits):
    retrievers = pytest.importorskip("langchain_classic.retrievers")
    retriever = retrievers.ContextualCompressionRetriever(
        base_compressor=compressor, base_retriever=Everything(documents=documents)
    )
    assert ranked(retriever.invoke(QUERY)) == logits[:3]
    assert ranked(asyncio.run(retriever.ainvoke(QUERY))) == logits[:3]
    assert [ranked(answer) for answer in retriever.batch([QUERY] * 3)] == [logits[:3]] * 3


def test_langchains_own_reranker_takes_the_cross_encoder(documents, logits):
    compressors = pytest.importorskip("langchain_classic.retrievers.document_compressors")
    encoder = CrossrankCrossEncoder(model=MODEL)
    reranker = compressors.CrossEncoderReranker(model=encoder, top_n=3)
    pipeline = compressors.DocumentCompressorPipeline(transformers=[reranker, CrossrankRerank(model=MODEL, top_n=2)])
    assert [document.metadata["place"] for document in reranker.compress_documents(documents, QUERY)] == [
        place for place, _ in logits[:3]
    ]
    assert ranked(pipeline.compress_documents(documents, QUERY)) == logits[:2]
    encoder.close()
