"""The documents of one call to a cascade."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

    from crossrank.engine.artifact_reranker import ArtifactReranker
    from crossrank.engine.call.encoded_candidates import DocumentScores
    from crossrank.engine.text.documents import Document
    from crossrank.engine.text.prepared import PreparedDocuments


class DocumentPool:
    """The documents of one call, encoded once for each kind of reranker that reads them, or prepared by the caller."""

    def __init__(self, items: tuple[Document, ...], prepared: PreparedDocuments | None) -> None:
        self._items = items
        self._tokens_read = None if prepared is None else prepared.tokens_read
        self._encoded: dict[str, tuple[PreparedDocuments, npt.NDArray[np.int64]]] = {}
        if prepared is not None:
            self._encoded[prepared.key] = prepared, np.arange(len(items))

    def score(
        self, reranker: ArtifactReranker, query: str, alive: npt.NDArray[np.int64], max_length: int | None
    ) -> DocumentScores:
        """Score the documents with the indices `alive`, ascending."""
        if reranker.prepared_key not in self._encoded:
            documents = self._items if len(alive) == len(self._items) else [self._items[index] for index in alive]
            prepared = reranker.prepare(documents)
            if self._tokens_read is not None:
                prepared = prepared.shortened(self._tokens_read)
            self._encoded[reranker.prepared_key] = prepared, alive
        prepared, indices = self._encoded[reranker.prepared_key]
        return reranker.score_indices(query, prepared, np.searchsorted(indices, alive), max_length=max_length)
