"""LlamaIndex: a node postprocessor.

>>> from crossrank.integrations.llama_index import CrossrankRerank  # doctest: +SKIP
>>> engine = index.as_query_engine(similarity_top_k=20, node_postprocessors=[CrossrankRerank(top_n=3)])
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from pydantic import Field

from crossrank.errors import InvalidInputError, MissingDependencyError
from crossrank.integrations.configured_reranker import ConfiguredReranker

try:
    from llama_index.core.callbacks import CBEventType, EventPayload
    from llama_index.core.instrumentation import get_dispatcher
    from llama_index.core.instrumentation.events.rerank import ReRankEndEvent, ReRankStartEvent
    from llama_index.core.postprocessor.types import BaseNodePostprocessor
    from llama_index.core.schema import MetadataMode, NodeWithScore, QueryBundle
except ImportError as error:
    raise MissingDependencyError(
        f"the adapter needs llama-index-core; pip install 'crossrank[cpu,llama-index]' ({error})"
    ) from error

if TYPE_CHECKING:
    from collections.abc import Iterator

    from crossrank.engine.call.results import RankResult

_dispatcher = get_dispatcher(__name__)


class CrossrankRerank(ConfiguredReranker, BaseNodePostprocessor):
    """Keeps the most relevant nodes, best first, with the cross-encoder's scores.

    What is scored of a node is what would be embedded: its text, and its metadata unless they are excluded. The nodes
    given keep their own scores. One that cannot be scored follows the others, with None as its score.

    Attributes:
        top_n: how many nodes to keep; None keeps all.
    """

    top_n: int | None = Field(default=2, ge=1)

    @classmethod
    def class_name(cls) -> str:
        """The name under which LlamaIndex writes it."""
        return "CrossrankRerank"

    def _postprocess_nodes(
        self, nodes: list[NodeWithScore], query_bundle: QueryBundle | None = None
    ) -> list[NodeWithScore]:
        query = _query(query_bundle)
        nodes = list(nodes)  # an iterator too: the texts are read first, the nodes copied afterwards
        if not nodes:
            return []
        with self._observed(nodes, query) as reranked:
            reranked.extend(_ranked(nodes, self.rank(query, _texts(nodes), self.top_n)))
        return reranked

    async def _apostprocess_nodes(
        self, nodes: list[NodeWithScore], query_bundle: QueryBundle | None = None
    ) -> list[NodeWithScore]:
        query = _query(query_bundle)
        nodes = list(nodes)
        if not nodes:
            return []
        with self._observed(nodes, query) as reranked:
            reranked.extend(_ranked(nodes, await self.rank_async(query, _texts(nodes), self.top_n)))
        return reranked

    @contextmanager
    def _observed(self, nodes: list[NodeWithScore], query: str) -> Iterator[list[NodeWithScore]]:
        """Tell those who observe the framework what is reranked, and what came of it."""
        model = self.model if self.reranker is None else repr(self.reranker)
        top_n = len(nodes) if self.top_n is None else self.top_n
        reranked: list[NodeWithScore] = []
        _dispatcher.event(ReRankStartEvent(query=query, nodes=nodes, top_n=top_n, model_name=model))
        payload = {
            EventPayload.NODES: nodes,
            EventPayload.MODEL_NAME: model,
            EventPayload.QUERY_STR: query,
            EventPayload.TOP_K: top_n,
        }
        with self.callback_manager.event(CBEventType.RERANKING, payload=payload) as event:
            yield reranked
            event.on_end(payload={EventPayload.NODES: reranked})
        _dispatcher.event(ReRankEndEvent(nodes=reranked))


def _query(query_bundle: QueryBundle | None) -> str:
    if query_bundle is None:
        raise InvalidInputError("query_bundle=None: a query expected, as query_bundle= or query_str=")
    return str(query_bundle.query_str)


def _texts(nodes: list[NodeWithScore]) -> list[str]:
    return [node.node.get_content(metadata_mode=MetadataMode.EMBED) for node in nodes]


def _ranked(nodes: list[NodeWithScore], ranking: RankResult) -> list[NodeWithScore]:
    return [nodes[item.index].model_copy(update={"score": item.score}) for item in ranking]
