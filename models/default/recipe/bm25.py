"""BM25 of all documents as a sparse matrix, for candidates and for a small share of the training target."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from sklearn.feature_extraction.text import CountVectorizer


class Bm25:
    """BM25 weights of documents and the words of queries.

    Attributes:
        documents: Weights, one row a document.
        queries: One where a query has a word, one row a query.
        highest: The score of a document that would hold all words of a query very often.
    """

    def __init__(self, documents: list[str], queries: list[str], k1: float = 1.2, b: float = 0.75) -> None:
        """Computes the weights.

        Args:
            documents: Texts of the documents.
            queries: Texts of the queries.
            k1: Saturation of the frequency of a word.
            b: Strength of the normalisation by length.
        """
        vectorizer = CountVectorizer(
            token_pattern=r"(?u)\b[a-z0-9]{2,}\b", stop_words="english", max_df=0.05, dtype=np.float32
        )
        counts = vectorizer.fit_transform(documents).tocsr()
        frequency = np.bincount(counts.indices, minlength=counts.shape[1])
        rarity = np.log(1 + (len(documents) - frequency + 0.5) / (frequency + 0.5)).astype(np.float32)
        lengths = np.array([len(text.split()) for text in documents], np.float32)
        lengths /= max(1.0, float(lengths.mean()))
        rows = np.repeat(np.arange(len(documents)), np.diff(counts.indptr))
        saturation = counts.data + k1 * (1 - b + b * lengths[rows])
        counts.data = rarity[counts.indices] * counts.data * (k1 + 1) / saturation
        self.documents = counts
        self.queries = vectorizer.transform(queries).tocsr()
        self.queries.data[:] = 1
        self.highest = np.asarray(self.queries @ ((k1 + 1) * rarity)).ravel() + 1e-3

    def share(self, query: int, documents: NDArray[np.int64]) -> NDArray[np.float32]:
        """Returns the scores of documents for a query as shares of the highest possible score."""
        scores = (self.documents[documents] @ self.queries[query].T).toarray().ravel()
        return (scores / self.highest[query]).astype(np.float32)

    def best(self, among: NDArray[np.int64], count: int, block: int = 500) -> list[NDArray[np.int64]]:
        """Returns for every query the best documents among some.

        Args:
            among: Numbers of the documents to choose from.
            count: At most this many documents are returned for a query.
            block: Queries computed at a time.

        Returns:
            Numbers of documents with a score above zero, for each query, in no order.
        """
        words = self.documents[among].T.tocsr()
        found: list[NDArray[np.int64]] = []
        for start in range(0, self.queries.shape[0], block):
            scores = (self.queries[start : start + block] @ words).tocsr()
            for first, last in zip(scores.indptr[:-1], scores.indptr[1:], strict=True):
                values, columns = scores.data[first:last], scores.indices[first:last]
                if len(values) > count:
                    columns = columns[np.argpartition(-values, count)[:count]]
                found.append(among[columns])
        return found
