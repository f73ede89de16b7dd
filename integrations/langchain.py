"""LangChain: a document compressor for its retrievers, and a cross-encoder for its own reranker.

>>> from crossrank.integrations.langchain import CrossrankRerank  # doctest: +SKIP
>>> retriever = ContextualCompressionRetriever(base_compressor=CrossrankRerank(), base_retriever=...)
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from crossrank.cascade import Cascade
from crossrank.errors import InvalidInputError, MissingDependencyError
from crossrank.integrations.configured_reranker import ConfiguredReranker

try:
    from langchain_core.cross_encoders import BaseCrossEncoder
    from langchain_core.documents import BaseDocumentCompressor, Document
except ImportError as error:
    raise MissingDependencyError(
        f"the adapter needs langchain-core; pip install 'crossrank[cpu,langchain]' ({error})"
    ) from error

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from langchain_core.callbacks import Callbacks

    from crossrank.engine.call.results import RankResult


class CrossrankRerank(ConfiguredReranker, BaseDocumentCompressor):
    """Keeps the most relevant documents, best first, with their scores in `metadata["relevance_score"]`.

    The documents given are not changed. One that cannot be scored follows the others, with None as its score.

    Attributes:
        top_n: how many documents to keep; None keeps all.
    """

    top_n: int | None = Field(default=3, ge=1)

    def compress_documents(
        self,
        documents: Iterable[Document],
        query: str,
        callbacks: Callbacks | None = None,  # noqa: ARG002  the framework's; it has no event for reranking
    ) -> Sequence[Document]:
        """Rank documents for a query.

        Args:
            documents: the documents, a list or any other iterable.
            query: the query.
            callbacks: not used.

        Returns:
            Copies of the best documents, best first; shallow ones, what their metadata hold is shared.

        Raises:
            CrossrankError: as `Reranker` and its `rank`.
        """
        documents = list(documents)  # an iterator too: the texts are read first, the documents copied afterwards
        if not documents:
            return []
        return _ranked(documents, self.rank(query, [document.page_content for document in documents], self.top_n))

    async def acompress_documents(
        self,
        documents: Iterable[Document],
        query: str,
        callbacks: Callbacks | None = None,  # noqa: ARG002  as above
    ) -> Sequence[Document]:
        """As `compress_documents`, beside an event loop; calls share batches.

        Raises:
            Overloaded: it would wait for more than about four seconds.
            CrossrankError: otherwise as `compress_documents`.
        """
        documents = list(documents)
        if not documents:
            return []
        texts = [document.page_content for document in documents]
        return _ranked(documents, await self.rank_async(query, texts, self.top_n))


class CrossrankCrossEncoder(ConfiguredReranker, BaseCrossEncoder):
    """Scores pairs of a query and a text, for `CrossEncoderReranker` and whoever else takes a cross-encoder."""

    def score(self, text_pairs: list[tuple[str, str]]) -> list[float]:
        """Score pairs, in their order; larger is more relevant.

        Raises:
            InvalidInputError: the reranker given is a cascade, whose stages have no common scale.
            CrossrankError: otherwise as `Reranker` and its `score_pairs`.
        """
        reranker = self.ready()
        if isinstance(reranker, Cascade):
            raise InvalidInputError(f"{reranker!r} ranks and has no scores for pairs; give a Reranker")
        return [float(score) for score in reranker.score_pairs(text_pairs)]


def _ranked(documents: Sequence[Document], ranking: RankResult) -> list[Document]:
    return [
        documents[item.index].model_copy(
            update={"metadata": {**documents[item.index].metadata, "relevance_score": item.score}}
        )
        for item in ranking
    ]
