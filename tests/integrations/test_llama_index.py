"""LlamaIndex: nodes ranked by what is embedded of them, in its own query engine, seen by its own observers."""

import asyncio
import copy
import pickle

import pytest
from adapter_cases import MODEL, QUERY, TEXTS, ScoredByLength

pytest.importorskip("llama_index.core")

from llama_index.core import MockEmbedding, VectorStoreIndex
from llama_index.core.callbacks import CallbackManager, CBEventType, LlamaDebugHandler
from llama_index.core.instrumentation import get_dispatcher
from llama_index.core.instrumentation.event_handlers import BaseEventHandler
from llama_index.core.instrumentation.events.rerank import ReRankEndEvent, ReRankStartEvent
from llama_index.core.llms import MockLLM
from llama_index.core.schema import MetadataMode, NodeWithScore, QueryBundle, TextNode

from crossrank import InvalidInputError, Reranker
from crossrank.integrations.llama_index import CrossrankRerank


@pytest.fixture(scope="module")
def postprocessor():
    made = CrossrankRerank(model=MODEL, top_n=3)
    yield made
    made.close()


@pytest.fixture
def nodes():
    return [
        NodeWithScore(node=TextNode(text=text, id_=str(place), metadata={}), score=0.1 * place)
        for place, text in enumerate(TEXTS)
    ]


def ranked(nodes):
    return [(int(node.node.node_id), node.score) for node in nodes]


def test_the_best_nodes_come_back_with_their_scores_and_the_given_ones_keep_theirs(postprocessor, nodes, logits):
    before = copy.deepcopy(nodes)
    best = postprocessor.postprocess_nodes(nodes, query_str=QUERY)
    assert ranked(best) == logits[:3]
    assert ranked(postprocessor.postprocess_nodes(nodes, QueryBundle(QUERY))) == logits[:3]
    assert [node.model_dump() for node in nodes] == [node.model_dump() for node in before]
    assert all(node.node is nodes[int(node.node_id)].node for node in best)


def test_nodes_from_a_generator_are_ranked_too(postprocessor, nodes, logits):
    assert ranked(postprocessor.postprocess_nodes((node for node in nodes), query_str=QUERY)) == logits[:3]


@pytest.mark.parametrize("wrong", [0, -1])
def test_a_limit_is_checked_when_it_is_assigned(wrong):
    made = CrossrankRerank(model=MODEL, top_n=2)
    with pytest.raises(ValueError, match="top_n"):
        made.top_n = wrong
    with pytest.raises(ValueError, match=f"threads={wrong}"):
        made.threads = wrong
    assert (made.top_n, made.threads) == (2, None)


def test_asynchronous_calls_give_the_same(postprocessor, nodes, logits):
    async def main():
        return await asyncio.gather(*(postprocessor.apostprocess_nodes(nodes, query_str=QUERY) for _ in range(5)))

    assert [ranked(best) for best in asyncio.run(main())] == [logits[:3]] * 5


def test_what_is_scored_is_what_would_be_embedded(postprocessor, nodes):
    for place, node in enumerate(nodes):
        node.node.metadata = {"topic": ["vaccines and immunity", "finance"][place % 2], "secret": "vaccines " * place}
        node.node.excluded_embed_metadata_keys = ["secret"]
    texts = [node.node.get_content(metadata_mode=MetadataMode.EMBED) for node in nodes]
    assert all("topic: " in text and "secret" not in text for text in texts)
    with Reranker(MODEL) as reranker:
        expected = [(item.index, item.score) for item in reranker.rank(QUERY, texts, top_k=3)]
    assert ranked(postprocessor.postprocess_nodes(nodes, query_str=QUERY)) == expected


def test_a_query_is_needed_and_no_nodes_load_no_model(nodes):
    postprocessor = CrossrankRerank(model="no-such-model")
    assert postprocessor.postprocess_nodes([], query_str=QUERY) == []
    assert asyncio.run(postprocessor.apostprocess_nodes([], query_str=QUERY)) == []
    for given in (nodes, []):
        with pytest.raises(InvalidInputError, match="a query expected"):
            postprocessor.postprocess_nodes(given)
        with pytest.raises(ValueError, match="a query expected"):
            asyncio.run(postprocessor.apostprocess_nodes(given))


def test_no_limit_keeps_all_and_a_node_without_a_score_comes_last(nodes):
    nodes[0].node.set_content("x")
    best = CrossrankRerank(reranker=ScoredByLength(), top_n=None).postprocess_nodes(nodes, query_str=QUERY)
    assert len(best) == len(nodes)
    assert ranked(best)[-1] == (0, None)


def test_it_travels_as_its_configuration(postprocessor, nodes, logits):
    written = postprocessor.to_dict()
    assert written["class_name"] == CrossrankRerank.class_name() == "CrossrankRerank"
    for arrived in (
        CrossrankRerank.from_dict(written),
        CrossrankRerank.from_json(postprocessor.to_json()),
        pickle.loads(pickle.dumps(postprocessor)),
    ):
        assert repr(arrived) == repr(postprocessor) == "CrossrankRerank(model='default-small', top_n=3)"
        assert ranked(arrived.postprocess_nodes(nodes, query_str=QUERY)) == logits[:3]
        arrived.close()
    with Reranker(MODEL) as reranker, pytest.raises(ValueError, match="cannot be written as data"):
        CrossrankRerank(reranker=reranker).to_dict()


def test_llamaindexes_own_query_engine_reranks_with_it(postprocessor, nodes, logits):
    index = VectorStoreIndex([node.node for node in nodes], embed_model=MockEmbedding(8))
    engine = index.as_query_engine(
        llm=MockLLM(), similarity_top_k=len(nodes), node_postprocessors=[postprocessor], response_mode="compact"
    )
    answer = engine.query(QUERY)
    assert ranked(answer.source_nodes) == logits[:3]
    places = [answer.response.index(TEXTS[place]) for place, _ in logits[:3]]  # the model repeats its prompt
    assert places == sorted(places)
    assert ranked(asyncio.run(engine.aquery(QUERY)).source_nodes) == logits[:3]


class Recorder(BaseEventHandler):
    """Keeps the events of reranking."""

    seen: list = []  # noqa: RUF012  a field of pydantic

    def handle(self, event, **_):
        if isinstance(event, (ReRankStartEvent, ReRankEndEvent)):
            self.seen.append(event)


def test_those_who_observe_the_framework_see_what_was_reranked(nodes, logits):
    recorder, debug = Recorder(), LlamaDebugHandler(print_trace_on_end=False)
    dispatcher = get_dispatcher()
    dispatcher.add_event_handler(recorder)
    postprocessor = CrossrankRerank(model=MODEL, top_n=2, callback_manager=CallbackManager([debug]))
    try:
        postprocessor.postprocess_nodes(nodes, query_str=QUERY)
    finally:
        dispatcher.event_handlers.remove(recorder)
    start, end = recorder.seen
    assert (start.query, start.top_n, start.model_name, len(start.nodes)) == (QUERY, 2, MODEL, len(nodes))
    assert ranked(end.nodes) == logits[:2]
    ((begun, ended),) = debug.get_event_pairs(CBEventType.RERANKING)
    assert begun.payload["query_str"] == QUERY
    assert ranked(ended.payload["nodes"]) == logits[:2]
    postprocessor.close()


@pytest.mark.parametrize("top_n", [0, -1, "many"])
def test_a_number_of_nodes_that_is_none_is_refused(top_n):
    with pytest.raises(ValueError, match="top_n"):
        CrossrankRerank(top_n=top_n)
